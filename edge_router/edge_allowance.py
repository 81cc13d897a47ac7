"""Whether Workers AI may be asked at all, and which cloud models answer instead of its own when it may not."""

from collections.abc import Iterator, Sequence
from typing import Final, Literal

from .catalog import Catalog, Model
from .errors import EdgeClosed
from .ports import Clock

DAY_S: Final = 86_400.0

Closed = Literal["edge-absent", "edge-allowance"]


class EdgeAllowance:
    """Scope: isolate. is_bound: whether there is an AI binding. recheck_s: somebody may pay before midnight."""

    def __init__(self, clock: Clock, *, is_bound: bool, recheck_s: float) -> None:
        self._clock = clock
        self._recheck_s = recheck_s
        self._is_bound = is_bound
        self._closed_until_s = 0.0

    def use_up(self) -> None:
        """The platform said that today's free allocation is used up."""
        self._closed_until_s = self._clock.now_s() + min(self._recheck_s, self._until_midnight_s())

    def why_closed(self) -> Closed | None:
        """None when the edge models may be asked."""
        if not self._is_bound:
            return "edge-absent"
        return "edge-allowance" if self._clock.now_s() < self._closed_until_s else None

    def error(self) -> EdgeClosed:
        """For a request that only an edge model may answer."""
        if not self._is_bound:
            return EdgeClosed("There are no edge models here: no AI binding is set.", code="edge_absent", status=503)
        message = "The free allocation of Workers AI is used up; it returns at 00:00 UTC."
        return EdgeClosed(message, retry_after_s=self._until_midnight_s())

    def _until_midnight_s(self) -> float:
        return DAY_S - self._clock.now_s() % DAY_S


def in_place_of(models: Sequence[Model], catalog: Catalog) -> list[Model]:
    """The models of a route while the edge is closed: stand-ins where the catalog names them, then the cloud's own."""
    return list(dict.fromkeys(_replaced(models, catalog)))


def _replaced(models: Sequence[Model], catalog: Catalog) -> Iterator[Model]:
    for model in models:
        if model.side == "cloud":
            yield model
        elif model.stand_in is not None and (stand_in := catalog.find(model.stand_in)) is not None:
            yield stand_in

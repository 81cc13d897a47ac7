"""One tenant's limits: what is admitted, what is running, and what a caller is told of both."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from .journal import Journal
from .leases import Leases
from .policy import Limits
from .window import Window


@dataclass(frozen=True, slots=True)
class Verdict:
    """refused_by: None when the request may go on. retry_after_s: else, when it may.

    remaining: requests that may still come now, in this minute; room_in_s: until there is room for one more;
    empty_in_s: until none so far counts. None: nobody counts requests.
    """

    refused_by: Literal["requests", "concurrency"] | None = None
    retry_after_s: float = 0.0
    remaining: int | None = None
    room_in_s: float | None = None
    empty_in_s: float | None = None

    def encoded(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def decoded(cls, facts: dict[str, Any]) -> Self:
        return cls(**facts)


# Nobody knows when one of the running requests will end.
CONCURRENCY_RETRY_S = 1.0


class LimitBook:
    """Of one tenant, in one place. journal: None where a restart may forget."""

    def __init__(self, journal: Journal | None = None, *, now_s: float = 0.0) -> None:
        self._journal = journal
        self._window = Window(journal.moments(now_s) if journal else ())
        self._leases = Leases()

    def enter(self, limits: Limits, lease: str, now_s: float) -> Verdict:
        """Counts a request that may go on, and no other. lease: its name among those that run."""
        if limits.concurrency is not None and not self._leases.take(lease, limits.concurrency, now_s):
            return Verdict("concurrency", CONCURRENCY_RETRY_S)
        limit = limits.requests_per_minute
        if limit is None:
            return Verdict()
        is_admitted = self._window.admit(limit, now_s)
        if is_admitted and self._journal is not None:
            self._journal.note(limit, now_s)
        if not is_admitted:
            self._leases.give_back(lease)
        room_in_s = self._window.room_in_s(limit, now_s)
        return Verdict(
            None if is_admitted else "requests",
            0.0 if is_admitted else room_in_s,
            max(0, limit - self._window.used(now_s)),
            room_in_s,
            self._window.empty_in_s(now_s),
        )

    def renew(self, lease: str, now_s: float) -> None:
        self._leases.renew(lease, now_s)

    def leave(self, lease: str) -> None:
        self._leases.give_back(lease)

    def is_idle(self, now_s: float) -> bool:
        """Whether it knows nothing that a new one would not."""
        return not self._window.used(now_s) and not self._leases.in_use(now_s)

"""One model tried at one place, and all that one request has tried."""

from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from .catalog import Model
from .chat_call import ChatCall
from .errors import CloudUnavailable, GatewayError, RegionFailed
from .settings import Region

MAX_EDGE_ATTEMPTS = 2  # two models that fail at one place are the place's fault: go to the cloud
MAX_CLOUD_ATTEMPTS = 4


@dataclass(slots=True, eq=False)
class Attempt:
    """One call of one model at one place: `region` is None at the edge. The rest is learned on the way.

    patience_s: when it is given up for one that can still meet the caller's deadline.
    limit_s: how long this call may take until its first content, or its plain answer, is here.
    flight: name of the cloud call that it shares. has_answered: the region's own service sent headers.
    answered_by: the model, unless the region's service answered with a fallback of its own that the catalog knows.
    is_fallback: it did, known or not.
    collapsed: it reads another caller's call along. is_beaten: a hedge was faster.
    """

    model: Model
    region: Region | None
    is_hedge: bool = False
    patience_s: float = inf
    limit_s: float = inf
    flight: str | None = None
    has_answered: bool = False
    answered_by: Model = field(init=False)
    is_fallback: bool = False
    rtt_ms: float | None = None
    collapsed: bool = False
    is_beaten: bool = False

    def __post_init__(self) -> None:
        self.answered_by = self.model

    def join(self) -> None:
        self.collapsed = True

    @property
    def label(self) -> str:
        return self.model.id if self.region is None else f"{self.model.id}@{self.region.id}"


class Opened(Protocol):
    """What an attempt that went well has in hand."""

    async def discard(self) -> None:
        """Lets go of it, because another attempt was faster. Never raises."""
        ...


@dataclass(slots=True)
class Tries:
    """What one request has tried so far. deadline_ms: on the clock for durations; no attempt begins after it."""

    call: ChatCall
    deadline_ms: float
    failure: GatewayError = field(default_factory=lambda: CloudUnavailable("No cloud region is configured."))
    _edge: int = 0
    _cloud: int = 0
    _labels: set[str] = field(default_factory=set)
    _unreachable: set[str] = field(default_factory=set)
    _has_cloud_answered: bool = False

    def note(self, at: Attempt) -> None:
        self._labels.add(at.label)
        if at.region is None:
            self._edge += 1
        else:
            self._cloud += 1

    def note_failure(self, at: Attempt, failure: GatewayError) -> None:
        if at.region is not None and isinstance(failure, CloudUnavailable):
            self._unreachable.add(at.region.id)
        elif at.region is not None and not isinstance(failure, RegionFailed):
            self._has_cloud_answered = True

    def may_try(self, model: Model) -> bool:
        """Whether the limits leave an attempt of this model."""
        if model.side == "edge":
            return self._edge < MAX_EDGE_ATTEMPTS and model.id not in self._labels
        return self._cloud < MAX_CLOUD_ATTEMPTS

    def is_tried(self, model: Model, region: Region) -> bool:
        """Whether there is no use in asking that region for that model."""
        return region.id in self._unreachable or Attempt(model, region).label in self._labels

    @property
    def needs_any_region(self) -> bool:
        """No region said anything: even one that seems to be down is worth a try, rather than to fail."""
        return not self._has_cloud_answered

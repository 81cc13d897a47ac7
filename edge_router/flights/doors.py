"""How long to wait for a shared object to let a caller in, when it may be the waiting itself that is slow. Pure.

Many callers at once keep an isolate busy, and each then waits for the others. That is no reason to give up an object
that lets in one after the other: all would go alone just when sharing is worth most.
"""

from dataclasses import dataclass
from typing import Literal

from ..ports import Clock

TURN_MS = 30.0  # what one caller may take, of the isolate's time and of the object's
MAX_WAIT_MS = 5000.0
DISTRUST_MS = 10_000.0  # after an object was given up, or until one opens, no more than the plain patience is had

_NEVER = float("-inf")

Outcome = Literal["entered", "gave_up", "called_off"]


@dataclass(slots=True)
class _Door:
    waiting: int = 0
    opened_ms: float = _NEVER


class Doors:
    """The objects that callers wait for just now. Scope: isolate. patience_s: for one that shows no sign of life."""

    def __init__(self, clock: Clock, *, patience_s: float) -> None:
        self._clock = clock
        self._patience_ms = patience_s * 1000
        self._doors: dict[str, _Door] = {}
        self._gave_up_ms = _NEVER

    def wait(self, key: str) -> "Waiting":
        """To be ended with its `leave`."""
        door = self._doors.setdefault(key, _Door())
        door.waiting += 1
        return Waiting(self, key, self._clock.elapsed_ms())

    def more_ms(self, key: str, since_ms: float) -> float:
        """How much longer to wait at that door for one who has waited since then."""
        door, now_ms = self._doors[key], self._clock.elapsed_ms()
        until_ms = max(since_ms, door.opened_ms) + self._patience_ms
        if now_ms - self._gave_up_ms > DISTRUST_MS:
            until_ms = max(until_ms, since_ms + TURN_MS * door.waiting)
        return min(until_ms, since_ms + MAX_WAIT_MS) - now_ms

    def leave(self, key: str, outcome: Outcome) -> None:
        door, now_ms = self._doors[key], self._clock.elapsed_ms()
        if outcome == "entered":
            door.opened_ms, self._gave_up_ms = now_ms, _NEVER
        elif outcome == "gave_up":
            self._gave_up_ms = now_ms
        door.waiting -= 1
        if not door.waiting:
            del self._doors[key]


@dataclass(frozen=True, slots=True)
class Waiting:
    """One caller before one door. Scope: request."""

    doors: Doors
    key: str
    since_ms: float

    def more_s(self) -> float:
        return self.doors.more_ms(self.key, self.since_ms) / 1000

    def leave(self, outcome: Outcome) -> None:
        self.doors.leave(self.key, outcome)

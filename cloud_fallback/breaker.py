"""Circuit breaker: an upstream that keeps failing is left alone for a while, then tried by one call.

closed -> open when at least half of the last calls failed; open -> half_open after a pause; half_open -> closed after a
success, back to open for twice as long after a failure.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half_open"]

WINDOW_S = 10.0
MIN_CALLS = 20
MAX_FAILED_SHARE = 0.5
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 8.0  # an upstream that is well again is found so within 10 s


class Breaker:
    """Scope: process. now_s: a monotonic clock."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._calls: deque[tuple[float, bool]] = deque(maxlen=200)
        self._pause_s = FIRST_PAUSE_S
        self._open_until_s: float | None = None
        self._is_probing = False
        self._succeeded_s = -math.inf

    @property
    def state(self) -> State:
        if self._open_until_s is None:
            return "closed"
        return "open" if self._now_s() < self._open_until_s else "half_open"

    @property
    def retry_after_s(self) -> float:
        """Until it may be asked again."""
        return max(0.0, (self._open_until_s or 0.0) - self._now_s())

    @property
    def may_pass(self) -> bool:
        state = self.state
        return state == "closed" or (state == "half_open" and not self._is_probing)

    def enter(self) -> bool:
        """A call that may pass begins; `leave` must follow. True when it is the one that decides: the probe."""
        is_probe = self.state == "half_open"
        self._is_probing = self._is_probing or is_probe
        return is_probe

    def leave(self, has_succeeded: bool | None, *, is_probe: bool) -> bool:
        """A call has ended; None: nobody knows, the caller left. True when this opened the breaker."""
        if is_probe:
            self._is_probing = False
        if has_succeeded is None:
            return False
        if has_succeeded:
            self._succeeded_s = self._now_s()
        if self._open_until_s is not None:
            if not is_probe:  # it began before the breaker opened
                return False
            if has_succeeded:
                self._close()
                return False
            return self._open(min(2 * self._pause_s, LONGEST_PAUSE_S))
        now_s = self._now_s()
        self._calls.append((now_s, has_succeeded))
        recent = [succeeded for at_s, succeeded in self._calls if now_s - at_s <= WINDOW_S]
        if has_succeeded or len(recent) < MIN_CALLS or recent.count(False) < MAX_FAILED_SHARE * len(recent):
            return False
        return self._open(FIRST_PAUSE_S)

    def open_by_hint(self, age_s: float) -> None:
        """Another replica found the upstream failing, age_s ago: one call of ours decides whether that holds here too,
        unless one has succeeded since.
        """
        if self._open_until_s is None and self._succeeded_s < self._now_s() - age_s:
            self._open_until_s = self._now_s()

    def _open(self, pause_s: float) -> bool:
        self._pause_s = pause_s
        self._open_until_s = self._now_s() + pause_s
        return True

    def _close(self) -> None:
        self._open_until_s = None
        self._pause_s = FIRST_PAUSE_S
        self._calls.clear()

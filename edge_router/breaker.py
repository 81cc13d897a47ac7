"""Circuit breaker of one region: closed, open, half-open. Pure: the caller passes the time.

closed     every call may go. Opens after CONSECUTIVE failures in a row, or when half of the latest calls failed.
open       no call may go, for a pause that doubles with every failed probe up to MAX_PAUSE_S.
half_open  one call may go, as a probe. Its success closes the breaker, its failure opens it again.

A call that began before the last change of state says nothing about the state after it.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

CONSECUTIVE: Final = 5
WINDOW_S: Final = 10.0
WINDOW_CALLS: Final = 20
MIN_CALLS: Final = 10  # fewer calls have no failure rate
MAX_FAILURE_RATE: Final = 0.5
FIRST_PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 8.0  # a region that is back is used again within this time, and one probe
PROBE_LEASE_S: Final = 10.0  # the runtime may end a request without a word, and with it the probe

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True, eq=False)
class Passage:
    """One call that was let through; to be settled once."""

    began_s: float


class Breaker:
    """Scope: isolate, one region."""

    def __init__(self) -> None:
        self._latest: deque[tuple[float, bool]] = deque(maxlen=WINDOW_CALLS)  # (Unix time in seconds, went well)
        self._failures_in_row = 0
        self._last_success_s = float("-inf")
        self._changed_at_s = float("-inf")
        self._pause_s = 0.0  # 0: closed
        self._probe: Passage | None = None

    def state(self, now_s: float) -> State:
        if not self._pause_s:
            return "closed"
        return "half_open" if now_s >= self._changed_at_s + self._pause_s else "open"

    def admits(self, now_s: float) -> bool:
        """Whether a call may go now."""
        state = self.state(now_s)
        return state == "closed" or (state == "half_open" and not self._is_probed(now_s))

    def enter(self, now_s: float) -> Passage:
        """Notes a call, which becomes the probe when one is due. A call that is not admitted may still go, as a last
        resort: its success counts, its failure does not.
        """
        passage = Passage(now_s)
        if self.state(now_s) == "half_open" and not self._is_probed(now_s):
            self._probe = passage
        return passage

    def succeeded(self, passage: Passage, now_s: float) -> None:
        self._last_success_s = now_s
        if self._pause_s and passage.began_s >= self._changed_at_s:
            self._change(0.0, now_s)
        elif not self._pause_s:
            self._failures_in_row = 0
            self._latest.append((now_s, True))

    def failed(self, passage: Passage, now_s: float) -> None:
        if passage is self._probe:
            self._change(min(2 * self._pause_s, MAX_PAUSE_S), now_s)
        elif not self._pause_s and passage.began_s >= self._changed_at_s:
            self._failures_in_row += 1
            self._latest.append((now_s, False))
            if self._failures_in_row >= CONSECUTIVE or self._fails_often(now_s):
                self._change(FIRST_PAUSE_S, now_s)

    def stayed_silent(self, passage: Passage, now_s: float) -> None:
        """No answer in time. That is the region's failure only if it answered nobody meanwhile: else one model is slow,
        and who asks for a slow model must not close a region for all.
        """
        if self._last_success_s > passage.began_s:
            self.left(passage)
        else:
            self.failed(passage, now_s)

    def left(self, passage: Passage) -> None:
        """The call ended without saying anything about the region."""
        if passage is self._probe:
            self._probe = None

    def suspect(self, now_s: float) -> None:
        """Another isolate found the region failing: the next call is a probe, unless we know better."""
        if not self._pause_s and now_s - self._last_success_s > WINDOW_S:
            self._change(FIRST_PAUSE_S, now_s - FIRST_PAUSE_S)

    def _is_probed(self, now_s: float) -> bool:
        return self._probe is not None and now_s - self._probe.began_s < PROBE_LEASE_S

    def _fails_often(self, now_s: float) -> bool:
        recent = [went_well for at_s, went_well in self._latest if at_s > now_s - WINDOW_S]
        return len(recent) >= MIN_CALLS and recent.count(False) >= MAX_FAILURE_RATE * len(recent)

    def _change(self, pause_s: float, now_s: float) -> None:
        self._pause_s, self._changed_at_s = pause_s, now_s
        self._failures_in_row, self._probe = 0, None
        self._latest.clear()

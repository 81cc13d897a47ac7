"""When a second call goes to the next region while the first still runs, and how many such calls there may be.

After Dean and Barroso, "The Tail at Scale" (2013): ask again once the first call takes longer than nearly all do, and
bound what that costs.
"""

from typing import Final

from .latency import ENOUGH_SAMPLES, Summary

SHARE: Final = 0.05  # hedges per call, in the long run
BURST: Final = 10.0  # hedges that may come at once
# A tail of exactly one call in twenty is the p95 itself, and waiting for it would hedge nothing. Times that are merely
# spread stay mostly below two medians.
MAX_MEDIANS: Final = 2.0
MIN_DELAY_S: Final = 0.02


def hedge_after_s(times: Summary) -> float | None:
    """Seconds after which a call counts as late; None while too few were seen."""
    if times.count < ENOUGH_SAMPLES:
        return None
    return max(MIN_DELAY_S, min(times.p95_ms, MAX_MEDIANS * times.median_ms) / 1000)


class HedgeBudget:
    """Every call earns a share of a hedge. Half of what may be saved is kept for calls that are very late: when hedges
    are scarce, noise must not use them up. Scope: isolate.
    """

    def __init__(self) -> None:
        self._left = BURST

    def earn(self) -> None:
        self._left = min(BURST, self._left + SHARE)

    def spend(self, *, is_very_late: bool) -> bool:
        """Whether there is a hedge left for such a call; it is then taken."""
        if self._left < (1 if is_very_late else BURST / 2):
            return False
        self._left -= 1
        return True

"""Never more requests than the limit in any minute: a sliding window that knows the moment of each one."""

from collections import deque
from collections.abc import Iterable
from typing import Final

WINDOW_S: Final = 60.0


class Window:
    """The requests of one tenant that were admitted lately. `moments`: Unix times, oldest first.

    Moments rather than a bucket of tokens: a bucket that is full and fills while it is emptied lets nearly twice the
    limit through in one window.
    """

    def __init__(self, moments: Iterable[float] = ()) -> None:
        self._moments = deque(moments)

    def admit(self, limit: int, now_s: float) -> bool:
        """Counts one request if there is room for it."""
        if self.used(now_s) >= limit:
            return False
        self._moments.append(max(now_s, self._newest_s))  # clocks may step back
        return True

    def used(self, now_s: float) -> int:
        moments = self._moments
        while moments and now_s - moments[0] >= WINDOW_S:
            moments.popleft()
        return len(moments)

    def room_in_s(self, limit: int, now_s: float) -> float:
        """Seconds until one more request may come than may now."""
        over = max(0, self.used(now_s) - limit)
        return self._moments[over] + WINDOW_S - now_s if self._moments else 0.0

    def empty_in_s(self, now_s: float) -> float:
        """Seconds until none of the requests so far counts any more."""
        return self._newest_s + WINDOW_S - now_s if self.used(now_s) else 0.0

    @property
    def _newest_s(self) -> float:
        return self._moments[-1] if self._moments else 0.0

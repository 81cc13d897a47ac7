"""Who refreshes a stale answer: one caller in the isolate, and of all isolates the one whose claim is granted."""

from ..errors import StoreError
from ..ports import Clock, Flights, Log

CLAIM_S = 60.0  # as long as another location may go on seeing the stale entry after it was refreshed
MAX_CLAIMS = 10_000


class Refreshes:
    """Scope: isolate. flights: None where isolates do not talk to each other."""

    def __init__(self, flights: Flights | None, clock: Clock, log: Log) -> None:
        self._flights = flights
        self._clock = clock
        self._log = log
        self._claimed_until_s: dict[str, float] = {}

    def claim_here(self, key: str) -> bool:
        """Whether this isolate has not tried lately. A claim ends by itself: whoever made it may never come back."""
        now_s = self._clock.now_s()
        if self._claimed_until_s.get(key, 0.0) > now_s:
            return False
        if len(self._claimed_until_s) >= MAX_CLAIMS:
            self._claimed_until_s = {key: end for key, end in self._claimed_until_s.items() if end > now_s}
        if len(self._claimed_until_s) >= MAX_CLAIMS:
            return False
        self._claimed_until_s[key] = now_s + CLAIM_S
        return True

    async def claim_everywhere(self, key: str) -> bool:
        """Flights that fail don't leave answers stale: then each isolate refreshes by itself."""
        if self._flights is None:
            return True
        try:
            return await self._flights.claim(f"refresh:{key}", CLAIM_S)
        except StoreError as exc:
            self._log.event("claim_failed", reason=exc.message)
            return True

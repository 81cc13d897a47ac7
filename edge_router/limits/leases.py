"""How many requests of a tenant are running: each holds a lease, and one that nobody renews is over after LEASE_S."""

from typing import Final

LEASE_S: Final = 60.0  # a Worker that was lost keeps its places for so long
RENEW_AFTER_S: Final = 20.0


class Leases:
    """Of one tenant."""

    def __init__(self) -> None:
        self._until_s: dict[str, float] = {}

    def take(self, lease: str, limit: int, now_s: float) -> bool:
        if self.in_use(now_s) >= limit:
            return False
        self._until_s[lease] = now_s + LEASE_S
        return True

    def renew(self, lease: str, now_s: float) -> None:
        """Also one that is not known: whoever counts may have been restarted."""
        self._until_s[lease] = now_s + LEASE_S

    def give_back(self, lease: str) -> None:
        self._until_s.pop(lease, None)

    def in_use(self, now_s: float) -> int:
        over = [lease for lease, until_s in self._until_s.items() if until_s <= now_s]
        for lease in over:
            del self._until_s[lease]
        return len(self._until_s)

"""Stored answers: Workers KV as each location sees it, and which questions the semantic cache knows."""

import random
from collections.abc import Callable

from scripts.simulation.scenario import Caches


class Aged:
    """When each key was last stored. A key that is touched for the first time has the age that it has in steady state.

    Under Poisson requests a key is fresh for ttl_s, then waits for the next request, which stores it again: a renewal
    process. At a random time it is fresh with probability rt / (1 + rt), at an age that is uniform, and else waiting,
    for as long as an exponential says (r: its requests per second, t: ttl_s). So a run of minutes knows days.
    """

    def __init__(self, ttl_s: float, rate_of: Callable[[int], float], random_: random.Random) -> None:
        self._ttl_s = ttl_s
        self._rate_of = rate_of
        self._random = random_
        self._stored_at_s: dict[int, float] = {}

    def stored_at_s(self, key: int) -> float:
        stored_at_s = self._stored_at_s.get(key)
        if stored_at_s is None:
            stored_at_s = self._stored_at_s[key] = -self._age_s(self._rate_of(key))
        return stored_at_s

    def store(self, key: int, now_s: float) -> None:
        self._stored_at_s[key] = now_s

    def _age_s(self, rate: float) -> float:
        if rate <= 0:
            return float("inf")
        expected = rate * self._ttl_s
        if self._random.random() < expected / (1 + expected):
            return self._random.uniform(0, self._ttl_s)
        return self._ttl_s + self._random.expovariate(rate)


class Kv:
    """A location goes on seeing what it read, misses too, for kv_seen_s; what it writes itself it sees at once."""

    def __init__(self, caches: Caches, entries: Aged) -> None:
        self._seen_s = caches.kv_seen_s
        self._entries = entries
        self._views: dict[tuple[int, int], tuple[float, float]] = {}  # (read at, stored at)

    def read(self, colo: int, key: int, now_s: float) -> tuple[float, bool]:
        """When the entry was stored as seen from here, and whether the read was answered here. Below 0: a new key."""
        if key < 0:
            return float("-inf"), False
        view = self._views.get((colo, key))
        if view is not None and now_s - view[0] < self._seen_s:
            return view[1], True
        stored_at_s = self._entries.stored_at_s(key)
        self._views[colo, key] = (now_s, stored_at_s)
        return stored_at_s, False

    def write(self, colo: int, key: int, now_s: float) -> None:
        if key < 0:  # nobody will ask
            return
        self._entries.store(key, now_s)
        self._views[colo, key] = (now_s, now_s)

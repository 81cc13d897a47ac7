"""The isolate's own memory before a store: bounded by bytes, and by age, because no one can purge it from outside."""

from collections import OrderedDict
from typing import Generic, TypeVar

MAX_AGE_S = 60.0  # as long as Workers KV itself may be stale

V = TypeVar("V")


class MemoryCache(Generic[V]):
    """Values by key, the least recently used dropped first. Scope: isolate.

    max_bytes: of all values together, as told by `put`; 0 keeps nothing.
    """

    def __init__(self, *, max_bytes: int, max_age_s: float = MAX_AGE_S) -> None:
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._rows: OrderedDict[str, tuple[V, int, float]] = OrderedDict()
        self.size_bytes = 0

    def get(self, key: str, now_s: float) -> V | None:
        row = self._rows.get(key)
        if row is None:
            return None
        if not 0 <= now_s - row[2] < self._max_age_s:
            self.drop(key)
            return None
        self._rows.move_to_end(key)
        return row[0]

    def put(self, key: str, value: V, size_bytes: int, now_s: float) -> None:
        """A value that alone is larger than the bound is not kept."""
        self.drop(key)
        if size_bytes > self._max_bytes:
            return
        self._rows[key] = (value, size_bytes, now_s)
        self.size_bytes += size_bytes
        while self.size_bytes > self._max_bytes:
            _, (_, dropped_bytes, _) = self._rows.popitem(last=False)
            self.size_bytes -= dropped_bytes

    def drop(self, key: str) -> None:
        row = self._rows.pop(key, None)
        if row is not None:
            self.size_bytes -= row[1]

    def __len__(self) -> int:
        return len(self._rows)

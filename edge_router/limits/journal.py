"""What a strict window leaves in SQLite, so that a restart of its object lets nobody have the limit twice.

Not a row for each request: a row says that up to `count` were admitted from `at_s` on, for at most CHUNK_S, and is
written before the first of them. What of a row was not used when the object ended counts as used.
"""

from typing import Final

from ..sql import Sql
from .window import WINDOW_S

CHUNK_S: Final = 10.0
CHUNKS: Final = 10  # a row for each tenth of the limit


class Journal:
    """Of one tenant."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql
        self._left = 0
        self._until_s = 0.0
        sql.exec("CREATE TABLE IF NOT EXISTS admitted (at_s REAL NOT NULL, count INTEGER NOT NULL)")

    def moments(self, now_s: float) -> list[float]:
        """Of the requests that may have been admitted, each as late as it can have been."""
        rows = self._sql.exec("SELECT at_s, count FROM admitted WHERE at_s > ? ORDER BY at_s DESC", now_s - _KEPT_S)
        moments: list[float] = []
        next_s = now_s
        for row in rows:
            moments += [min(float(row["at_s"]) + CHUNK_S, next_s)] * int(row["count"])
            next_s = float(row["at_s"])
        return moments[::-1]

    def note(self, limit: int, now_s: float) -> None:
        """Of one request that is being admitted."""
        if not self._left or not self._until_s - CHUNK_S <= now_s < self._until_s:
            self._left, self._until_s = max(1, limit // CHUNKS), now_s + CHUNK_S
            self._sql.exec("DELETE FROM admitted WHERE at_s <= ?", now_s - _KEPT_S)
            self._sql.exec("INSERT INTO admitted (at_s, count) VALUES (?, ?)", now_s, self._left)
        self._left -= 1


_KEPT_S: Final = WINDOW_S + CHUNK_S

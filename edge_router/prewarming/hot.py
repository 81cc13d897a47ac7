"""The questions whose stored answers are asked for most, and how often: a bounded table that is nearly right.

Space-Saving (Metwally, Agrawal, El Abbadi 2005): who is new takes the place and the count of the least asked for, so
that no question that is really hot is missing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ..sql import Sql

MAX_HOT: Final = 200
FORGOTTEN_AFTER_S: Final = 86_400  # of an entry that went stale and is asked for no more


@dataclass(frozen=True, slots=True)
class Asked:
    """A stored answer that was asked for, and what is needed to ask a model for it again.

    key: of the entry. key_id: of the API key that asked; None where none is needed. body: the request's JSON.
    """

    tenant: str
    key: str
    key_id: str | None
    body: str
    hits: float
    stale_at_s: float


class HotTable:
    """Of all tenants. Scope: the world, in one object."""

    def __init__(self, sql: Sql, *, places: int = MAX_HOT) -> None:
        self._sql = sql
        self._places = places
        sql.exec(
            "CREATE TABLE IF NOT EXISTS hot (key TEXT PRIMARY KEY, tenant TEXT NOT NULL, key_id TEXT,"
            " body TEXT NOT NULL, hits REAL NOT NULL, stale_at_s REAL NOT NULL)"
        )

    def note(self, asked: Iterable[Asked], now_s: float) -> None:
        """Their hits are added to those before."""
        self._sql.exec("DELETE FROM hot WHERE stale_at_s < ?", now_s - FORGOTTEN_AFTER_S)
        for each in asked:
            known = self._sql.exec("SELECT hits FROM hot WHERE key = ?", each.key)
            before = known[0]["hits"] if known else self._make_room()
            self._sql.exec(
                "INSERT OR REPLACE INTO hot (key, tenant, key_id, body, hits, stale_at_s) VALUES (?, ?, ?, ?, ?, ?)",
                *(each.key, each.tenant, each.key_id, each.body, before + each.hits, each.stale_at_s),
            )

    def take(self, stale_by_s: float, limit: int) -> list[Asked]:
        """The most asked for of those that will be stale by then. They are taken out: who is still asked for comes back
        by the next hit, and what can't be refreshed is not tried at every run.
        """
        rows = self._sql.exec("SELECT * FROM hot WHERE stale_at_s <= ? ORDER BY hits DESC LIMIT ?", stale_by_s, limit)
        for row in rows:
            self._sql.exec("DELETE FROM hot WHERE key = ?", row["key"])
        return [Asked(**row) for row in rows]

    def _make_room(self) -> float:
        """The count that a new question begins with."""
        if self._sql.exec("SELECT COUNT(*) AS count FROM hot")[0]["count"] < self._places:
            return 0.0
        least = self._sql.exec("SELECT key, hits FROM hot ORDER BY hits LIMIT 1")[0]
        self._sql.exec("DELETE FROM hot WHERE key = ?", least["key"])
        return float(least["hits"])

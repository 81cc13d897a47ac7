"""Sums by name that many isolates add to. Workers KV can't count; the SQLite of one Durable Object a tenant can."""

from collections.abc import Iterable
from dataclasses import dataclass

from .sql import Sql


@dataclass(frozen=True, slots=True)
class Amount:
    """To be added to the sum of that name. until_s: Unix time at which that sum disappears; None: never."""

    name: str
    value: float
    until_s: float | None = None


class CounterTable:
    """The sums of one tenant."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql
        sql.exec("CREATE TABLE IF NOT EXISTS sums (name TEXT PRIMARY KEY, value REAL NOT NULL, until_s REAL)")

    def add(self, amounts: Iterable[Amount], now_s: float) -> None:
        self._sql.exec("DELETE FROM sums WHERE until_s <= ?", now_s)
        for amount in amounts:
            self._sql.exec(
                "INSERT INTO sums (name, value, until_s) VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                amount.name,
                amount.value,
                amount.until_s,
            )

    def read(self, now_s: float) -> dict[str, float]:
        rows = self._sql.exec("SELECT name, value FROM sums WHERE until_s IS NULL OR until_s > ?", now_s)
        return {row["name"]: row["value"] for row in rows}

    def forget(self, prefix: str) -> None:
        """Removes the sums whose names begin like that."""
        self._sql.exec("DELETE FROM sums WHERE substr(name, 1, ?) = ?", len(prefix), prefix)

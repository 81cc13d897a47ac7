"""Sums by name that many isolates add to. Workers KV can't count; the SQLite of one Durable Object a tenant can."""

import json
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
    """The sums of one tenant. All in one row: rows written are what costs, and every answer adds to several sums."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql
        sql.exec("CREATE TABLE IF NOT EXISTS counters (id INTEGER PRIMARY KEY, sums TEXT NOT NULL)")
        rows = list(sql.exec("SELECT sums FROM counters"))
        self._sums: dict[str, tuple[float, float | None]] = {}
        if rows:
            self._sums = {name: (value, until_s) for name, (value, until_s) in json.loads(rows[0]["sums"]).items()}

    def add(self, amounts: Iterable[Amount], now_s: float) -> None:
        sums = self._live(now_s)
        for amount in amounts:
            value, until_s = sums.get(amount.name, (0.0, amount.until_s))
            sums[amount.name] = (value + amount.value, until_s)
        self._write(sums)

    def read(self, now_s: float) -> dict[str, float]:
        return {name: value for name, (value, _) in self._live(now_s).items()}

    def forget(self, prefix: str) -> None:
        """Removes the sums whose names begin like that."""
        self._write({name: kept for name, kept in self._sums.items() if not name.startswith(prefix)})

    def _live(self, now_s: float) -> dict[str, tuple[float, float | None]]:
        return {
            name: (value, until_s)
            for name, (value, until_s) in self._sums.items()
            if until_s is None or until_s > now_s
        }

    def _write(self, sums: dict[str, tuple[float, float | None]]) -> None:
        """Kept in memory only once it is written: what fails changes nothing."""
        self._sql.exec("INSERT OR REPLACE INTO counters (id, sums) VALUES (1, ?)", json.dumps(sums))
        self._sums = sums

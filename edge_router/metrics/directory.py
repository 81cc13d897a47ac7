"""Which locations there are, so that a reader knows whom to ask."""

from typing import Final

from ..sql import Sql
from .cells import OTHER

MAX_COLOS: Final = 200
KEEP_S: Final = 86_400 + 7200  # the longest window, and the time between two enrolments


class Directory:
    """Scope: the Durable Object of that name; asked by each isolate once an hour."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql
        sql.exec("CREATE TABLE IF NOT EXISTS colos (colo TEXT PRIMARY KEY, seen_at_s INTEGER NOT NULL)")

    def enroll(self, colo: str, now_s: float) -> str:
        """The location itself, or OTHER when there are too many."""
        colos = self.colos(now_s)
        place = colo if colo in colos or len(colos) < MAX_COLOS - 1 else OTHER
        self._sql.exec("INSERT OR REPLACE INTO colos (colo, seen_at_s) VALUES (?, ?)", place, int(now_s))
        return place

    def colos(self, now_s: float) -> list[str]:
        self._sql.exec("DELETE FROM colos WHERE seen_at_s < ?", int(now_s) - KEEP_S)
        return [row["colo"] for row in self._sql.exec("SELECT colo FROM colos ORDER BY colo")]

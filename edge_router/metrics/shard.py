"""The slices of one location, in the SQLite of its Durable Object.

What arrives goes into the slice of the 5 seconds in which it arrives. Finished slices are summed up into those of a
minute and then of a quarter of an hour, which are kept longer, and into one of all time.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from ..breaker import State
from ..sql import Sql
from .cells import Cell, Slice
from .windows import STEPS_S, Grouping, Window

# Seconds for which slices of each step are kept: a window and, for the next coarser step, one of that.
KEEP_S: Final = {5: 300 + 60, 60: 3600 + 900, 900: 86_400 + 900}
BREAKER_TOLD_S: Final = 60
_NEVER_S: Final = 2**40  # JavaScript takes larger numbers only as BigInt, and its SQLite none of these
_ALL_TIME: Final = 0  # as a step
_POINT_TIMINGS: Final = ("ttft_ms", "total_ms")


@dataclass(slots=True)
class View:
    """What one location, or several together, saw in a window.

    groups: by the value of the grouping. regions: by region. points: by the Unix time at which they begin. breakers: as
    last told.
    """

    groups: dict[str, Cell] = field(default_factory=dict)
    regions: dict[str, Cell] = field(default_factory=dict)
    points: dict[int, Cell] = field(default_factory=dict)
    breakers: dict[str, State] = field(default_factory=dict)
    lost: int = 0

    def note(self, found: Slice, point_s: int, by: Grouping) -> None:
        self.lost += found.lost
        for labels, cell in found.cells.items():
            key = "" if by in ("none", "colo") else getattr(labels, by)
            self.groups.setdefault(key, Cell()).merge(cell)
            self.regions.setdefault(labels.region, Cell()).merge(cell)
            self.points.setdefault(point_s, Cell()).merge(cell)

    def encoded(self) -> dict[str, Any]:
        return {
            "groups": {key: cell.encoded() for key, cell in self.groups.items()},
            "regions": {region: cell.encoded(("cloud_rtt_ms",)) for region, cell in self.regions.items()},
            "points": {str(at_s): cell.encoded(_POINT_TIMINGS) for at_s, cell in self.points.items()},
            "breakers": self.breakers,
            "lost": self.lost,
        }

    @classmethod
    def decoded(cls, data: dict[str, Any]) -> "View":
        return cls(
            {key: Cell.decoded(cell) for key, cell in data["groups"].items()},
            {region: Cell.decoded(cell) for region, cell in data["regions"].items()},
            {int(at_s): Cell.decoded(cell) for at_s, cell in data["points"].items()},
            data["breakers"],
            data["lost"],
        )


class Shard:
    """One location. Scope: the Durable Object of that location."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql
        self._summed_up_at = -1
        self._newest: tuple[int, Slice] | None = None  # as written, so that it is not read anew for each addition
        sql.exec(
            "CREATE TABLE IF NOT EXISTS slices"
            " (step_s INTEGER, at_s INTEGER, slice TEXT NOT NULL, PRIMARY KEY (step_s, at_s))"
        )

    def add(self, more: Slice, now_s: float) -> None:
        """Counts as of now: the clocks of isolates do not matter."""
        self._sum_up(now_s)
        at_s = int(now_s // STEPS_S[0]) * STEPS_S[0]
        if self._newest is None or self._newest[0] != at_s:
            self._newest = (at_s, self._read_one(STEPS_S[0], at_s))
        self._newest[1].merge(more)
        self._write(STEPS_S[0], at_s, self._newest[1])

    def view(self, window: Window, by: Grouping, now_s: float) -> View:
        self._sum_up(now_s)
        view, from_s = View(breakers=self._breakers(now_s)), window.from_s(now_s)
        for at_s, found in self._since(window.step_s, from_s):
            view.note(found, at_s // window.point_s * window.point_s, by)
        return view

    def all_time(self, now_s: float) -> Slice:
        """Sums that only grow, as Prometheus wants them."""
        self._sum_up(now_s)
        whole = self._read_one(_ALL_TIME, 0)
        for _, found in self._rows(STEPS_S[0], self._summed_up_to(STEPS_S[1])):
            whole.merge(found)
        whole.breakers = self._breakers(now_s)
        return whole

    def _since(self, step_s: int, from_s: int) -> Iterable[tuple[int, Slice]]:
        """Slices of this step, then of the finer ones for what is not summed up yet; oldest first."""
        yield from self._rows(step_s, from_s)
        finer = STEPS_S[: STEPS_S.index(step_s)]
        if finer:
            yield from self._since(finer[-1], max(from_s, self._summed_up_to(step_s)))

    def _sum_up(self, now_s: float) -> None:
        """Of the finished minutes and quarters of an hour; forgets what is too old. At most once in a finest step."""
        at_s = int(now_s // STEPS_S[0])
        if at_s == self._summed_up_at:
            return
        self._summed_up_at = at_s
        for fine_s, coarse_s in pairwise(STEPS_S):
            sums: dict[int, Slice] = {}
            for begin_s, found in self._rows(fine_s, self._summed_up_to(coarse_s), int(now_s // coarse_s) * coarse_s):
                sums.setdefault(begin_s // coarse_s * coarse_s, Slice()).merge(found)
            for begin_s, whole in sums.items():
                whole.breakers.clear()
                self._write(coarse_s, begin_s, whole)
                if fine_s == STEPS_S[0]:
                    all_time = self._read_one(_ALL_TIME, 0)
                    all_time.merge(whole)
                    self._write(_ALL_TIME, 0, all_time)
        for step_s, keep_s in KEEP_S.items():
            self._sql.exec("DELETE FROM slices WHERE step_s = ? AND at_s < ?", step_s, int(now_s) - keep_s)

    def _breakers(self, now_s: float) -> dict[str, State]:
        """As told in the last minute; a breaker of which nothing was heard since is unknown."""
        states: dict[str, State] = {}
        for _, found in self._rows(STEPS_S[0], int(now_s) - BREAKER_TOLD_S):
            states.update(found.breakers)
        return states

    def _summed_up_to(self, step_s: int) -> int:
        """The end of the last slice of this step."""
        (row,) = self._sql.exec("SELECT MAX(at_s) AS last FROM slices WHERE step_s = ?", step_s)
        return 0 if row["last"] is None else int(row["last"]) + step_s

    def _rows(self, step_s: int, start_s: int, end_s: int = _NEVER_S) -> Iterable[tuple[int, Slice]]:
        query = "SELECT at_s, slice FROM slices WHERE step_s = ? AND at_s >= ? AND at_s < ? ORDER BY at_s"
        for row in self._sql.exec(query, step_s, start_s, end_s):
            yield int(row["at_s"]), Slice.decoded(json.loads(row["slice"]))

    def _read_one(self, step_s: int, at_s: int) -> Slice:
        return next((found for _, found in self._rows(step_s, at_s, at_s + 1)), Slice())

    def _write(self, step_s: int, at_s: int, whole: Slice) -> None:
        text = json.dumps(whole.encoded(), separators=(",", ":"))
        self._sql.exec("INSERT OR REPLACE INTO slices (step_s, at_s, slice) VALUES (?, ?, ?)", step_s, at_s, text)

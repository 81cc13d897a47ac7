"""The ledger of one tenant: what is spent, what is reserved, and whether more may be. Pure but for its SQLite.

Granted only if spent + reserved + asked for stays within every limit. A reservation counts to the day on which it was
made, whenever it is settled. One that nobody settles counts as spent; docs/budgets.md says why.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal

from ..sql import Sql
from .money import NOTHING, Cost
from .policy import SpendingLimits

# Longer than answers take: whoever reserved died, or can't reach us.
RESERVED_S: Final = 3600.0
# For which a settlement that comes after that is still set against its reservation.
EXPIRED_KEPT_S: Final = 7 * 86_400.0
# For which an id that was settled or released is known. Calls are repeated within seconds.
ENDED_KEPT_S: Final = 600.0
TIDY_EVERY_S: Final = 60.0
MAX_MODELS: Final = 50  # of one day, each with a sum of its own: callers may choose names that wildcards stand for
OTHER: Final = "other"
UNSETTLED: Final = "unsettled"  # stands where the model would, in the sum of reservations that expired

LimitName = Literal["usd_day", "usd_month", "tokens_day", "tokens_month"]
TOKEN_LIMITS: Final = ("tokens_day", "tokens_month")

_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS reservations (id TEXT PRIMARY KEY, at_s REAL NOT NULL, day TEXT NOT NULL,"
    " nano_usd INTEGER NOT NULL, tokens INTEGER NOT NULL, has_expired INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS ended (id TEXT PRIMARY KEY, at_s REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS spent (day TEXT NOT NULL, model TEXT NOT NULL, nano_usd INTEGER NOT NULL,"
    " tokens INTEGER NOT NULL, answers INTEGER NOT NULL, PRIMARY KEY (day, model)) WITHOUT ROWID",
)
# Of the month and, within it, of one day; and whether an id is known.
_USED: Final = (
    "SELECT 'spent' AS kind, SUM(nano_usd) AS nano_usd, SUM(tokens) AS tokens,"
    " SUM(CASE WHEN day = ?1 THEN nano_usd END) AS day_nano_usd, SUM(CASE WHEN day = ?1 THEN tokens END) AS day_tokens"
    " FROM spent WHERE day BETWEEN ?2 AND ?3"
    " UNION ALL SELECT 'reserved', SUM(nano_usd), SUM(tokens),"
    " SUM(CASE WHEN day = ?1 THEN nano_usd END), SUM(CASE WHEN day = ?1 THEN tokens END)"
    " FROM reservations WHERE day BETWEEN ?2 AND ?3 AND has_expired = 0"
    " UNION ALL SELECT 'known', 1, 1, 1, 1"
    " FROM (SELECT id FROM reservations UNION ALL SELECT id FROM ended) WHERE id = ?4"
)
# On a model, or on OTHER once the day has as many as it may.
_SPEND: Final = (
    "INSERT INTO spent (day, model, nano_usd, tokens, answers) SELECT ?1, CASE WHEN"
    " EXISTS (SELECT 1 FROM spent WHERE day = ?1 AND model = ?2) OR ?6 > (SELECT COUNT(*) FROM spent WHERE day = ?1)"
    " THEN ?2 ELSE ?7 END, ?3, ?4, ?5 WHERE true"
    " ON CONFLICT (day, model) DO UPDATE SET nano_usd = nano_usd + excluded.nano_usd,"
    " tokens = tokens + excluded.tokens, answers = answers + excluded.answers"
)


@dataclass(frozen=True, slots=True)
class Left:
    """What may still be reserved, by the limit that leaves least; None without a limit. Never below 0.

    tokens_allowed, tokens_reset_at_s: that limit of tokens, and when its day or month ends.
    """

    nano_usd: int | None
    tokens: int | None
    tokens_allowed: int | None = None
    tokens_reset_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a reservation was not granted. All amounts in the limit's own unit, nano-USD or tokens.

    resets_at_s: when the day or the month ends. reserved: for requests in flight, a part of which may come back soon.
    """

    limit: LimitName
    allowed: int
    spent: int
    reserved: int
    asked: int
    resets_at_s: float

    @property
    def left(self) -> int:
        return max(0, self.allowed - self.spent - self.reserved)


@dataclass(frozen=True, slots=True)
class Period:
    """A day or a month so far."""

    starts_at_s: float
    resets_at_s: float
    spent: Cost
    reserved: Cost


@dataclass(frozen=True, slots=True)
class Sums:
    """What is known of the present day and month. models: name -> what was spent on it this month, and on how many
    answers.
    """

    day: Period
    month: Period
    models: Mapping[str, tuple[Cost, int]]


class Ledger:
    """Ids: of reservations, never a caller's own choice. A call that is repeated changes nothing."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql
        self._tidied_at_s: float | None = None
        for table in _TABLES:
            sql.exec(table)

    def reserve(self, reservation_id: str, cost: Cost, limits: SpendingLimits, now_s: float) -> Left | Refusal:
        """What is left after it, or why it is refused."""
        self._tidy(now_s)
        day, month, is_known = self._periods(now_s, reservation_id)
        if is_known:
            return _left(limits, day, month)
        refusal = _refusal(cost, limits, day, month)
        if refusal is not None:
            return refusal
        self._sql.exec(
            "INSERT INTO reservations (id, at_s, day, nano_usd, tokens, has_expired) VALUES (?, ?, ?, ?, ?, 0)",
            reservation_id, now_s, _days(now_s)[0].first, cost.nano_usd, cost.tokens,
        )  # fmt: skip
        return _left(limits, *(replace(period, reserved=period.reserved + cost) for period in (day, month)))

    def settle(self, reservation_id: str, cost: Cost, model: str, now_s: float) -> None:
        """What was really spent, which may be more than was reserved. Counts without a reservation, too."""
        if self._end(reservation_id, now_s):
            day = self._take_back(reservation_id) or _days(now_s)[0].first
            self._spend(day, model, cost, 1)

    def release(self, reservation_id: str, now_s: float) -> None:
        """Nothing was spent. A reservation with that id that is still on its way here will find that it has ended."""
        if self._end(reservation_id, now_s):
            self._take_back(reservation_id)

    def sums(self, now_s: float) -> Sums:
        self._tidy(now_s, expire=True)
        month = _days(now_s)[1]
        rows = self._sql.exec(
            "SELECT model, SUM(nano_usd) AS nano_usd, SUM(tokens) AS tokens, SUM(answers) AS answers FROM spent"
            " WHERE day BETWEEN ? AND ? GROUP BY model HAVING SUM(answers) > 0 ORDER BY nano_usd DESC, model",
            month.first, month.last,
        )  # fmt: skip
        models = {row["model"]: (_cost(row), int(row["answers"])) for row in rows}
        day_so_far, month_so_far, _ = self._periods(now_s, "")
        return Sums(day_so_far, month_so_far, models)

    def _periods(self, now_s: float, reservation_id: str) -> tuple[Period, Period, bool]:
        """The day and the month, and whether that id is known."""
        day, month = _days(now_s)
        rows = self._sql.exec(_USED, day.first, month.first, month.last, reservation_id)
        used = {row["kind"]: row for row in rows}
        spent, reserved = used["spent"], used["reserved"]
        return (
            Period(day.starts_at_s, day.resets_at_s, _cost(spent, "day_"), _cost(reserved, "day_")),
            Period(month.starts_at_s, month.resets_at_s, _cost(spent), _cost(reserved)),
            "known" in used,
        )

    def _take_back(self, reservation_id: str) -> str | None:
        """Removes the reservation, also from what it became when it expired. Its day; None when there is none."""
        for row in self._sql.exec("DELETE FROM reservations WHERE id = ? RETURNING *", reservation_id):
            if row["has_expired"]:
                self._spend(row["day"], UNSETTLED, NOTHING - _cost(row), -1)
            return str(row["day"])
        return None

    def _end(self, reservation_id: str, now_s: float) -> bool:
        """False when it had ended before."""
        ended = "INSERT INTO ended (id, at_s) VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING id"
        return bool(self._sql.exec(ended, reservation_id, now_s))

    def _spend(self, day: str, model: str, cost: Cost, answers: int) -> None:
        most = MAX_MODELS + (model == UNSETTLED) * 2  # which has a place of its own, beside OTHER
        self._sql.exec(_SPEND, day, model, cost.nano_usd, cost.tokens, answers, most, OTHER)

    def _tidy(self, now_s: float, *, expire: bool = False) -> None:
        """Lets reservations expire, and forgets what is too old to matter. expire: also if that was done a moment ago;
        to what may be reserved it makes no difference.
        """
        is_due = self._tidied_at_s is None or not 0 <= now_s - self._tidied_at_s < TIDY_EVERY_S
        if not (is_due or expire):
            return
        overdue = "UPDATE reservations SET has_expired = 1 WHERE has_expired = 0 AND at_s < ? RETURNING *"
        for row in self._sql.exec(overdue, now_s - RESERVED_S):
            self._spend(row["day"], UNSETTLED, _cost(row), 1)
        if not is_due:
            return
        self._tidied_at_s = now_s
        self._sql.exec("DELETE FROM ended WHERE at_s < ?", now_s - ENDED_KEPT_S)
        self._sql.exec("DELETE FROM reservations WHERE at_s < ?", now_s - EXPIRED_KEPT_S)
        self._sql.exec("DELETE FROM spent WHERE day < ?", _days(now_s - 31 * 86_400)[1].first)


@dataclass(frozen=True, slots=True)
class _Days:
    """The days of a period, as ISO dates, and its ends as Unix times."""

    first: str
    last: str
    starts_at_s: float
    resets_at_s: float


def _days(now_s: float) -> tuple[_Days, _Days]:
    """The day and the month of a Unix time, in UTC."""
    return _days_at(int(now_s // 86_400))


@lru_cache(maxsize=8)
def _days_at(day: int) -> tuple[_Days, _Days]:
    """day: since 1970."""
    midnight = datetime.fromtimestamp(86_400 * day, UTC)
    first = midnight.replace(day=1)
    next_month = (first + timedelta(days=31)).replace(day=1)
    return _between(midnight, midnight + timedelta(days=1)), _between(first, next_month)


def _between(start: datetime, end: datetime) -> _Days:
    last = end - timedelta(days=1)
    return _Days(start.date().isoformat(), last.date().isoformat(), start.timestamp(), end.timestamp())


def _cost(row: Mapping[str, Any], prefix: str = "") -> Cost:
    return Cost(int(row[f"{prefix}nano_usd"] or 0), int(row[f"{prefix}tokens"] or 0))


def _checks(limits: SpendingLimits, day: Period, month: Period) -> list[tuple[LimitName, int | None, Period, bool]]:
    """Each limit with its period, and whether it is one of tokens. Those that hold longest come first."""
    return [
        ("usd_month", limits.nano_usd_month, month, False),
        ("tokens_month", limits.tokens_month, month, True),
        ("usd_day", limits.nano_usd_day, day, False),
        ("tokens_day", limits.tokens_day, day, True),
    ]


def _refusal(cost: Cost, limits: SpendingLimits, day: Period, month: Period) -> Refusal | None:
    for name, allowed, period, is_tokens in _checks(limits, day, month):
        spent, reserved, asked = (
            each.tokens if is_tokens else each.nano_usd for each in (period.spent, period.reserved, cost)
        )
        if allowed is not None and spent + reserved + asked > allowed:
            return Refusal(name, allowed, spent, reserved, asked, period.resets_at_s)
    return None


def _left(limits: SpendingLimits, day: Period, month: Period) -> Left:
    nano_usd, tokens = [], []
    for _, allowed, period, is_tokens in _checks(limits, day, month):
        if allowed is None:
            continue
        used = period.spent + period.reserved
        if is_tokens:
            tokens.append((max(0, allowed - used.tokens), allowed, period.resets_at_s))
        else:
            nano_usd.append(max(0, allowed - used.nano_usd))
    return Left(min(nano_usd, default=None), *min(tokens, key=lambda each: each[0], default=(None, None, None)))

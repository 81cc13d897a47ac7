"""The field `budget` of a key record: `{"usd_day", "usd_month", "tokens_day", "tokens_month", "on_failure"}`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from .money import nano_usd

MAX_USD: Final = 1_000_000  # sums stay exact where numbers are doubles
MAX_TOKENS: Final = 10**12

OnFailure = Literal["fail_closed", "fail_open"]
_LIMITS: Final = ("usd_day", "usd_month", "tokens_day", "tokens_month")


class BudgetError(ValueError):
    """A budget that can't be used; the message names the field."""


@dataclass(frozen=True, slots=True)
class SpendingLimits:
    """The most that may be spent in a day and a month (UTC), in billionths of a dollar and in tokens; None: as much as
    one likes.
    """

    nano_usd_day: int | None = None
    nano_usd_month: int | None = None
    tokens_day: int | None = None
    tokens_month: int | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """on_failure: what happens while the ledger can't be reached."""

    limits: SpendingLimits
    on_failure: OnFailure = "fail_closed"


def parse_budget(value: Any) -> Budget:
    """Raises BudgetError."""
    if not isinstance(value, Mapping):
        raise BudgetError("budget must be an object")
    unknown = sorted(map(str, set(value) - {*_LIMITS, "on_failure"}))
    if unknown:
        raise BudgetError(f"budget has no field {unknown[0]}; there are {', '.join(_LIMITS)} and on_failure")
    usd_day, usd_month = _number(value, "usd_day", MAX_USD), _number(value, "usd_month", MAX_USD)
    limits = SpendingLimits(
        None if usd_day is None else nano_usd(usd_day),
        None if usd_month is None else nano_usd(usd_month),
        _whole(value, "tokens_day", MAX_TOKENS),
        _whole(value, "tokens_month", MAX_TOKENS),
    )
    if limits == SpendingLimits():
        raise BudgetError(f"budget needs at least one of {', '.join(_LIMITS)}")
    on_failure = value.get("on_failure", "fail_closed")
    if on_failure not in ("fail_closed", "fail_open"):
        raise BudgetError("budget.on_failure must be fail_closed or fail_open")
    return Budget(limits, on_failure)


def _number(value: Mapping[str, Any], name: str, most: int) -> float | None:
    number = value.get(name)
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= most:
        raise BudgetError(f"budget.{name} must be a number from 0 to {most}")
    return number


def _whole(value: Mapping[str, Any], name: str, most: int) -> int | None:
    number = _number(value, name, most)
    if isinstance(number, float):
        raise BudgetError(f"budget.{name} must be a whole number from 0 to {most}")
    return number

"""What `GET /v1/usage` tells: docs/budgets.md."""

from collections.abc import Callable
from typing import Any, Final

from .ledger import Period, Sums
from .money import usd
from .policy import Budget, SpendingLimits

NO_LIMITS: Final = SpendingLimits()


def usage(sums: Sums | None, budget: Budget | None) -> dict[str, Any]:
    """sums: None for a tenant without a budget, for whom nothing is counted."""
    limits = budget.limits if budget else NO_LIMITS
    day, month = (sums.day, sums.month) if sums else (None, None)
    models = sums.models if sums else {}
    return {
        "object": "usage",
        "is_counted": sums is not None,
        "on_failure": budget.on_failure if budget else None,
        "day": _period(day, limits.nano_usd_day, limits.tokens_day),
        "month": _period(month, limits.nano_usd_month, limits.tokens_month),
        "models": [
            {"model": model, "spent_usd": usd(cost.nano_usd), "spent_tokens": cost.tokens, "answers": answers}
            for model, (cost, answers) in models.items()
        ],
    }


def _period(period: Period | None, most_nano_usd: int | None, most_tokens: int | None) -> dict[str, Any]:
    if period is None:
        return {
            "starts_at": None,
            "resets_at": None,
            **_amounts("usd", None, None, most_nano_usd, usd),
            **_amounts("tokens", None, None, most_tokens, int),
        }
    spent, reserved = period.spent, period.reserved
    return {
        "starts_at": int(period.starts_at_s),
        "resets_at": int(period.resets_at_s),
        **_amounts("usd", spent.nano_usd, reserved.nano_usd, most_nano_usd, usd),
        **_amounts("tokens", spent.tokens, reserved.tokens, most_tokens, int),
    }


def _amounts(
    unit: str, spent: int | None, reserved: int | None, most: int | None, shown: Callable[[int], float]
) -> dict[str, float | None]:
    remaining = None if most is None or spent is None or reserved is None else max(0, most - spent - reserved)
    amounts = {"spent": spent, "reserved": reserved, "limit": most, "remaining": remaining}
    return {f"{name}_{unit}": None if amount is None else shown(amount) for name, amount in amounts.items()}

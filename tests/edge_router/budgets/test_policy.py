"""The field `budget` of a key record."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.budgets.policy import Budget, BudgetError, SpendingLimits, parse_budget


def test_budget() -> None:
    """Dollars become whole billionths; what is not limited is None."""
    read = parse_budget({"usd_day": 0.1, "usd_month": 2, "tokens_day": 1000, "on_failure": "fail_open"})

    assert read == Budget(SpendingLimits(100_000_000, 2_000_000_000, 1000, None), "fail_open")


def test_defaults() -> None:
    """One limit is enough; without the ledger nothing is spent."""
    assert parse_budget({"tokens_month": 5}) == Budget(SpendingLimits(tokens_month=5), "fail_closed")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        pytest.param("10", "must be an object", id="no object"),
        pytest.param({}, "at least one", id="no limit"),
        pytest.param({"on_failure": "fail_open"}, "at least one", id="only the failure"),
        pytest.param({"usd_day": "5"}, "usd_day must be a number", id="text"),
        pytest.param({"usd_day": True}, "usd_day", id="boolean"),
        pytest.param({"usd_day": -0.01}, "usd_day", id="negative"),
        pytest.param({"usd_day": float("nan")}, "usd_day", id="NaN"),
        pytest.param({"usd_month": float("inf")}, "usd_month", id="infinite"),
        pytest.param({"usd_month": 1_000_001}, "to 1000000", id="too much to add up exactly"),
        pytest.param({"tokens_day": 1.5}, "tokens_day must be a whole number", id="half a token"),
        pytest.param({"tokens_month": 10**13}, "tokens_month", id="too many tokens"),
        pytest.param({"usd_day": 1, "on_failure": "open"}, "on_failure", id="unknown failure mode"),
        pytest.param({"usd_daily": 1}, "usd_daily", id="unknown field"),
    ],
)
def test_budget_that_cannot_be_used(value: Any, says: str) -> None:
    """The message names the field. Somebody meant to set a limit, so a key with such a record lets nobody in."""
    with pytest.raises(BudgetError, match=says):
        parse_budget(value)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.dictionaries(
    st.sampled_from(["usd_day", "usd_month", "tokens_day", "tokens_month", "on_failure", "x"]), inner
)))  # fmt: skip
def test_any_json(value: Any) -> None:
    """Is a budget with a limit, or an error."""
    try:
        budget = parse_budget(json.loads(json.dumps(value)))
    except BudgetError:
        return

    assert budget.limits != SpendingLimits()

"""What a caller is told whose budget does not reach: which limit, what is left, and what helps."""

import pytest

from edge_router.budgets.charging import IN_FLIGHT_RETRY_S, refusal_of
from edge_router.budgets.ledger import Refusal

NOW_S = 1_790_000_000.0
RESET_S = NOW_S + 3600


@pytest.mark.parametrize(
    ("refusal", "message", "retry_after_s"),
    [
        pytest.param(
            Refusal("usd_day", 10_000_000, 9_999_000, 0, 2_000, RESET_S),
            "This key's budget for the day (usd_day) is $0.01: $0.000001 is left, and this request may take up to"
            " $0.000002. It is renewed at 2026-09-21T15:13:20Z.",
            3600,
            id="used up: wait for the reset",
        ),
        pytest.param(
            Refusal("tokens_month", 1_000, 600, 300, 150, RESET_S),
            "This key's budget for the month (tokens_month) is 1000 tokens: 100 tokens is left, and this request may"
            " take up to 150 tokens. 300 tokens is reserved for requests in flight: try again in a moment.",
            IN_FLIGHT_RETRY_S,
            id="in flight: wait a moment",
        ),
        pytest.param(
            Refusal("usd_month", 1_000_000_000, 0, 0, 1_500_000_000, RESET_S),
            "This key's budget for the month (usd_month) is $1: $1 is left, and this request may take up to $1.5."
            " That is more than the whole budget: lower 'max_tokens', or shorten the prompt.",
            None,
            id="never enough: waiting does not help",
        ),
        pytest.param(
            Refusal("usd_day", 0, 0, 0, 1, RESET_S),
            "This key's budget for the day (usd_day) is $0: $0 is left, and this request may take up to $0.000000001."
            " That is more than the whole budget: lower 'max_tokens', or shorten the prompt.",
            None,
            id="nothing at all",
        ),
        pytest.param(
            Refusal("tokens_day", 100, 150, 0, 50, RESET_S),
            "This key's budget for the day (tokens_day) is 100 tokens: 0 tokens is left, and this request may take up"
            " to 50 tokens. It is renewed at 2026-09-21T15:13:20Z.",
            3600,
            id="overspent",
        ),
    ],
)
def test_refusal(refusal: Refusal, message: str, retry_after_s: float | None) -> None:
    """402 with OpenAI's type for an exhausted quota."""
    error = refusal_of(refusal, NOW_S)

    assert error.message == message
    assert error.retry_after_s == retry_after_s
    assert (error.status, error.type, error.code) == (402, "insufficient_quota", "budget_exceeded")

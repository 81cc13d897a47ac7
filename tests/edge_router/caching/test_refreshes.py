"""Who refreshes a stale answer."""

import pytest

from edge_router.caching import refreshes
from edge_router.caching.refreshes import CLAIM_S, Refreshes
from tests.fakes import CollectingLog, FakeClock


def test_one_claim_at_a_time() -> None:
    clock = FakeClock()
    claims = Refreshes(None, clock, CollectingLog())

    assert [claims.claim_here("a"), claims.claim_here("a"), claims.claim_here("b")] == [True, False, True]
    clock.advance(CLAIM_S)
    assert claims.claim_here("a")


def test_claims_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When there are too many nothing more is refreshed, until some of them are over."""
    monkeypatch.setattr(refreshes, "MAX_CLAIMS", 2)
    clock = FakeClock()
    claims = Refreshes(None, clock, CollectingLog())

    assert [claims.claim_here(key) for key in "abc"] == [True, True, False]
    clock.advance(CLAIM_S)
    assert claims.claim_here("c")

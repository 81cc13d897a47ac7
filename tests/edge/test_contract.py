"""The contract, seen from outside by the command that checks deployed gateways."""

import httpx
import pytest

from scripts.smoke import check_all

pytestmark = pytest.mark.workerd


def test_every_promise_is_kept(edge: httpx.Client) -> None:
    """On the real Worker, which lets everyone in here and says so."""
    broken = [f"{result.promise}: {result.seen}" for result in check_all(edge, is_open=True) if not result.is_kept]

    assert broken == []

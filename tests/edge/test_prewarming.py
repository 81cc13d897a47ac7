"""Prewarming on the real runtime: hits are noted in a Durable Object, and the cron asks a model again."""

import time

import httpx
import pytest

from scripts.local.stack import Address, Stack
from tests.edge.control import Control, chat, easy, eventually_cached

pytestmark = pytest.mark.workerd

EVERY_FIVE_MINUTES = "*/5 * * * *"
WITHIN_S = 30.0


def test_hot_entry_is_refreshed_by_the_cron(stack: tuple[Stack, Address], edge: httpx.Client, control: Control) -> None:
    """An entry that will be stale before the next run is made anew, and its next caller gets that one."""
    processes, _ = stack
    body = chat(easy(), max_tokens=8, cache_ttl_s=120)
    before = eventually_cached(edge, body).json()
    asked, since_s = control.counters()["ai"], time.monotonic()

    while control.counters()["ai"] == asked:  # hits are written some seconds later
        assert time.monotonic() - since_s < WITHIN_S
        assert processes.run_cron(EVERY_FIVE_MINUTES) == "ok"
        time.sleep(0.5)

    while (after := edge.post("/v1/chat/completions", json=body).json())["id"] == before["id"]:
        assert time.monotonic() - since_s < WITHIN_S

    assert control.counters()["ai"] == asked + 1
    assert after["nearside"]["served_by"] == "exact-cache"

"""Alerts on the real runtime: the cron, the Durable Object that keeps them, and a receiver of notices."""

import base64
import hmac
import json
import time
from typing import Any

import httpx
import pytest

from scripts.local.stack import Address, Stack
from tests.edge.conftest import WEBHOOK_SECRET, Received
from tests.edge.control import Control, becomes_true, chat, hard

pytestmark = pytest.mark.workerd

EVERY_MINUTE = "* * * * *"
WITHIN_S = 30.0
# Far from every other test's breakers: each location has its own objects, but all share the isolate's fleet.
LONDON = {"nearside-emulate-cf": json.dumps({"colo": "LHR", "latitude": "51.5", "longitude": "-0.5"})}


def notices(receiver: Received) -> list[dict[str, Any]]:
    """Those about the region that the test breaks; each with a valid signature."""
    events = []
    for path, body, headers in receiver.posts:
        if path == "/alerts":
            signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
            secret = base64.b64decode(WEBHOOK_SECRET.removeprefix("whsec_"))
            expected = base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
            assert headers["webhook-signature"] == f"v1,{expected}"
            assert abs(time.time() - int(headers["webhook-timestamp"])) < 60
            events.append(json.loads(body))
    return [event for event in events if event["alert"]["key"] == "weur"]


def breaker_seen(edge: httpx.Client, *states: str) -> bool:
    told = edge.get("/v1/metrics").json()["regions"]
    return any((each["colo"], each["region"]) == ("LHR", "weur") and each["breaker"] in states for each in told)


def test_breaker_that_opens(
    stack: tuple[Stack, Address], edge: httpx.Client, control: Control, receiver: Received
) -> None:
    """Fires, is told once though the receiver was down for a moment, is over when the region is well again, is told."""
    processes, _ = stack

    def is_seen(*states: str) -> bool:
        edge.post("/v1/chat/completions", json=chat(hard(), model="cloud", max_tokens=4), headers=LONDON)
        return breaker_seen(edge, *states)

    control.fault("cloud:weur", "error")
    assert becomes_true(lambda: is_seen("open", "half_open"), within_s=WITHIN_S)
    receiver.statuses[:] = [503, 503]
    assert processes.run_cron(EVERY_MINUTE) == "ok"
    told = edge.get("/v1/alerts").json()

    assert [(alert["id"], alert["severity"], alert["key"]) for alert in told["active"]] == [
        ("breaker_open", "critical", "weur")
    ]
    assert told["evaluated_at_s"] % 60 == 0
    assert [event["type"] for event in notices(receiver)] == ["alert.firing"] * 3
    assert len({event["id"] for event in notices(receiver)}) == 1

    control.clear()
    assert becomes_true(lambda: is_seen("closed"), within_s=WITHIN_S)
    assert processes.run_cron(EVERY_MINUTE, in_s=60) == "ok"
    told = edge.get("/v1/alerts").json()

    assert told["active"] == []
    assert told["resolved"][0]["key"] == "weur"
    assert [event["type"] for event in notices(receiver)] == ["alert.firing"] * 3 + ["alert.resolved"]


def test_other_cron(stack: tuple[Stack, Address]) -> None:
    """Notes which regions answer."""
    processes, _ = stack

    assert processes.run_cron("*/5 * * * *") == "ok"
    assert '"event": "health"' in processes.log_of("worker", until='"event": "health"')

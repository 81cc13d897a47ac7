"""`GET /v1/alerts`, on a gateway whose outside world is scripted."""

from typing import Any

import pytest

from edge_router.alerts.findings import Observed
from edge_router.alerts.rules import DEFAULT_RULES
from tests.edge_router.harness import World, bearer, error_of, key_records, read_json
from tests.fakes import FakeAlerts, FakeClock


def watched(**facts: Any) -> World:
    clock = FakeClock()
    return World(clock=clock, alerts=FakeAlerts(clock), **facts)


async def test_before_the_cron_has_run() -> None:
    """The rules, and that nothing was judged yet."""
    told = read_json(await watched().ask(path="/v1/alerts", method="GET"))
    del told["nearside"]

    assert told == {
        "object": "alerts",
        "evaluated_at_s": None,
        "active": [],
        "pending": [],
        "resolved": [],
        "notices": {"waiting": 0, "delivered": 0, "dropped": 0},
        "rules": [rule.told() for rule in DEFAULT_RULES],
    }


async def test_open_breaker() -> None:
    """Is there, for the dashboard and for scripts."""
    world = watched()
    assert world.alerts is not None
    await world.alerts.step(DEFAULT_RULES, Observed(60, {}, {"weur": {"CDG": "open", "NRT": "open"}}), notify=False)
    (alert,) = read_json(await world.ask(path="/v1/alerts", method="GET"))["active"]

    assert (alert["id"], alert["key"], alert["value"], alert["unit"]) == ("breaker_open", "weur", 2, "breakers")
    assert alert["summary"] == "The breaker of weur is open at CDG, NRT"


@pytest.mark.parametrize(
    ("key", "status"),
    [pytest.param("seer", 200, id="with the scope"), pytest.param("k001", 403, id="without"), ("nobody", 401)],
)
async def test_scope(key: str, status: int) -> None:
    """They tell about all tenants, as metrics do."""
    records = key_records(seer={"tenant": "ops", "scopes": ["metrics"]}, k001={"tenant": "acme"})
    world = watched(auth="keys", keys=records)

    assert (await world.ask(path="/v1/alerts", method="GET", headers=bearer(key))).status == status


async def test_broken_object() -> None:
    """503 with Retry-After."""
    world = watched()
    assert world.alerts is not None
    world.alerts.is_down = True
    reply = await world.ask(path="/v1/alerts", method="GET")

    assert (reply.status, error_of(reply)["code"]) == (503, "alerts_unavailable")
    assert reply.headers["retry-after"] == "1"


async def test_parameters() -> None:
    """There are none."""
    reply = await watched().ask(path="/v1/alerts?window=5m", method="GET")

    assert (reply.status, error_of(reply)["param"]) == (400, "window")

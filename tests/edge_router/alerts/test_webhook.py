"""Notices to a receiver: signed, in order, each transition once, tried again until they are taken."""

import base64
import hmac
import json
from collections.abc import Mapping
from typing import Any

import pytest

from edge_router.alerts.book import MAX_NOTICES, NOTICE_KEPT_S
from edge_router.alerts.rules import DEFAULT_RULES
from edge_router.alerts.watch import RUN_S
from edge_router.settings import SettingsError, read_settings
from tests.edge_router.alerts.world import SECRET, URL, WHSEC, Minutes
from tests.fakes import FakeReceiver

BREAKER = [rule for rule in DEFAULT_RULES if rule.id == "breaker_open"]


def breaking(*statuses: int | None) -> Minutes:
    return Minutes(BREAKER, receiver=FakeReceiver(list(statuses)))


async def opened(world: Minutes, region: str = "weur") -> None:
    await world.minute(1, breakers={region: "open"})


async def closed(world: Minutes, region: str = "weur") -> None:
    await world.minute(1, breakers={region: "closed"})


def sent(world: Minutes) -> list[tuple[str, str | None]]:
    events = [json.loads(body) for _, body, _ in world.receiver.posts]
    return [(event["type"], event["alert"]["key"]) for event in events]


def verified(body: str, headers: dict[str, str], secret: bytes, now_s: float) -> Any:
    """What docs/alerts.md tells a receiver to do."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    expected = "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
    assert any(hmac.compare_digest(expected, given) for given in headers["webhook-signature"].split())
    assert abs(now_s - int(headers["webhook-timestamp"])) < 300
    return json.loads(body)


async def test_transitions() -> None:
    """One notice when it fires, one when it is over, none in between."""
    world = breaking(200)
    for _ in range(4):
        await opened(world)
    for _ in range(3):
        await closed(world)

    assert sent(world) == [("alert.firing", "weur"), ("alert.resolved", "weur")]
    assert {url for url, _, _ in world.receiver.posts} == {URL}
    assert (await world.alerts.read())["notices"] == {"waiting": 0, "delivered": 2, "dropped": 0}


async def test_signature() -> None:
    """Covers id, time and body; the event holds the alert as `GET /v1/alerts` tells it."""
    world = breaking(200)
    await opened(world)
    ((_, body, headers),) = world.receiver.posts
    event = verified(body, headers, SECRET, world.clock.now_s())

    assert event["id"] == headers["webhook-id"]
    assert event["alert"] == (await world.alerts.read())["active"][0]
    with pytest.raises(AssertionError):
        verified(body.replace("firing", "resolved"), headers, SECRET, world.clock.now_s())


async def test_receiver_that_fails_for_a_moment() -> None:
    """Is asked again in the same run, with the same id."""
    world = breaking(None, 503, 200)
    await opened(world)

    assert len({headers["webhook-id"] for _, _, headers in world.receiver.posts}) == 1
    assert len(world.receiver.posts) == 3
    assert (await world.alerts.read())["notices"]["waiting"] == 0


async def test_receiver_that_is_down() -> None:
    """Is asked again by later runs, less and less often; what happened meanwhile comes after it, in order."""
    world = breaking(None)
    await opened(world)
    await closed(world)
    asked = []
    for _ in range(30):
        before = len(world.receiver.posts)
        await world.minute()
        asked.append(len(world.receiver.posts) > before)
    world.receiver.posts.clear()
    world.receiver.statuses = [200]
    for _ in range(40):
        await world.minute()

    assert [turn for turn, was_asked in enumerate(asked) if was_asked] == [1, 5, 13, 29]
    assert sent(world) == [("alert.firing", "weur"), ("alert.resolved", "weur")]


@pytest.mark.parametrize(("status", "dropped"), [(400, True), (410, True), (429, False), (408, False), (302, False)])
async def test_refusal(status: int, dropped: bool) -> None:
    """A notice that will never be taken does not hold up the others; one that may be is kept."""
    world = breaking(status)
    await opened(world)
    notices = (await world.alerts.read())["notices"]

    assert notices == {"waiting": 0 if dropped else 1, "delivered": 0, "dropped": int(dropped)}


async def test_old_notices() -> None:
    """Are given up after a day, by then the alert is over."""
    world = breaking(None)
    await opened(world)
    world.clock.advance(NOTICE_KEPT_S)
    world.receiver.statuses = [200]
    world.receiver.posts.clear()
    await world.run()

    assert sent(world) == [("alert.resolved", "weur")]
    assert (await world.alerts.read())["notices"] == {"waiting": 0, "delivered": 1, "dropped": 1}


async def test_too_many_notices() -> None:
    """The oldest are dropped, and counted."""
    world = breaking(None)
    regions = [f"r{number}" for number in range(MAX_NOTICES + 1)]
    await world.minute(1, breakers=dict.fromkeys(regions, "open"))

    assert (await world.alerts.read())["notices"] == {"waiting": MAX_NOTICES, "delivered": 0, "dropped": 1}


async def test_receiver_that_is_slow() -> None:
    """No notice is begun after RUN_S: the next run may not overlap, and goes on with it."""
    world = Minutes(BREAKER)

    class Slow(FakeReceiver):
        async def post(self, url: str, body: str, headers: Mapping[str, str]) -> int:
            world.clock.advance(RUN_S + 1)
            return await super().post(url, body, headers)

    world.receiver = Slow()
    await world.minute(1, breakers={"weur": "open", "enam": "open"})
    in_first_run = len(world.receiver.posts)
    await world.run()

    assert in_first_run == 1
    assert {key for _, key in sent(world)} == {"weur", "enam"}


async def test_two_runs_at_once() -> None:
    """The second one gets nothing to send, until the first one must have ended."""
    world = breaking(None)
    await opened(world)
    world.clock.advance(600)

    assert len(await world.alerts.take()) == 1
    assert await world.alerts.take() == []
    world.clock.advance(61)
    assert len(await world.alerts.take()) == 1


async def test_nobody_to_tell() -> None:
    """Without a URL no notice is made, and none is there when a URL is set later."""
    world = breaking(200)
    world.told = False
    await opened(world)
    world.told = True
    await world.minute()

    assert world.receiver.posts == []


async def test_broken_store() -> None:
    """Is logged; nothing is raised."""
    world = breaking(200)
    world.alerts.is_down = True
    await opened(world)

    assert {"alerts_not_judged", "notices_not_read"} <= set(world.log.names())


def test_variables() -> None:
    """URL and secret together; the secret does not show."""
    settings = read_settings({"ALERT_WEBHOOK_URL": URL, "ALERT_WEBHOOK_SECRET": WHSEC})

    assert (settings.alert_webhook_url, settings.alert_webhook_secret) == (URL, SECRET)
    assert "0123456789" not in repr(settings)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        pytest.param({"ALERT_WEBHOOK_URL": URL}, "ALERT_WEBHOOK_SECRET: is missing", id="unsigned"),
        pytest.param({"ALERT_WEBHOOK_URL": "http://hooks.test/"}, "ALERT_WEBHOOK_URL: ", id="in the clear"),
        pytest.param({"ALERT_WEBHOOK_URL": "https://a:b@c.test/"}, "ALERT_WEBHOOK_URL: ", id="a password in it"),
        pytest.param({"ALERT_WEBHOOK_SECRET": "whsec_c2hvcnQ="}, "ALERT_WEBHOOK_SECRET: ", id="too short"),
        pytest.param({"ALERT_WEBHOOK_SECRET": WHSEC[6:]}, "ALERT_WEBHOOK_SECRET: ", id="no prefix"),
        pytest.param({"ALERT_WEBHOOK_SECRET": "whsec_!"}, "ALERT_WEBHOOK_SECRET: ", id="not base64"),
    ],
)
def test_wrong_variables(variables: dict[str, str], says: str) -> None:
    """Stop the start with one line that names the variable and not its value."""
    with pytest.raises(SettingsError) as raised:
        read_settings(variables)

    assert str(raised.value).startswith(says)
    assert "c2hvcnQ" not in str(raised.value)

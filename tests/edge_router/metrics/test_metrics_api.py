"""`GET /v1/metrics` and `GET /metrics`, and the recording behind them, on a gateway whose outside world is scripted."""

import json
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_router.errors import UpstreamTimeout
from edge_router.gateway import Gateway
from edge_router.location import Location
from edge_router.metrics import recorder
from tests.edge_router.harness import (
    CLOUD_FAST,
    COMPLEX_PROMPT,
    EDGE_SMALL,
    PARIS,
    World,
    bearer,
    chat_body,
    cloud,
    completion,
    error_of,
    key_records,
    read_events,
    read_json,
)
from tests.fakes import START_S, FakeClock, FakeMetrics, FakeUpstreamResponse

TOKYO = Location("NRT", 8.0, "JP", "AS", False, 35.68, 139.69)


def measured(**facts: Any) -> World:
    clock = FakeClock()
    return World(clock=clock, metrics=FakeMetrics(clock), **facts)


async def metrics_of(world: World, gateway: Gateway, query: str = "") -> dict[str, Any]:
    await world.background.finish()
    reply = await world.ask(path=f"/v1/metrics{query}", method="GET", of=gateway)
    assert reply.status == 200
    return read_json(reply)


async def test_requests_of_two_locations() -> None:
    """Are told apart by the grouping, and add up in the total."""
    world = measured()
    gateway = world.gateway()
    for location in (PARIS, PARIS, TOKYO):
        await world.ask(chat_body(), location=location, of=gateway)
    told = await metrics_of(world, gateway, "?window=1m&by=colo")

    assert [(group["key"], group["requests"]) for group in told["groups"]] == [("CDG", 2), ("NRT", 1)]
    assert told["groups"][0]["latitude"] == pytest.approx(49.0)
    assert told["colos"] == {"read": ["CDG", "NRT"], "missing": []}
    assert told["total"]["requests"] == 3
    assert told["total"]["client_rtt_ms"]["p50"] == pytest.approx(12.5, rel=0.01)
    assert told["total"]["tokens"]["output"] > 0
    assert told["total"]["cost_usd"] > 0
    assert sum(point["requests"] for point in told["series"]) == 3
    assert len(told["series"]) == 12
    assert told["series"][-1]["at_s"] <= world.clock.now_s() < told["series"][-1]["at_s"] + 5


async def test_clocks_that_differ() -> None:
    """What a location saw after now, by its own clock, is in the total; the series ends now."""
    world = World(metrics=FakeMetrics(FakeClock(START_S + 20)))
    gateway = world.gateway()
    await world.ask(chat_body(), of=gateway)
    told = await metrics_of(world, gateway, "?window=1m")

    assert told["total"]["requests"] == 1
    assert sum(point["requests"] for point in told["series"]) == 0
    assert len(told["series"]) == 12


async def test_cache_and_cloud() -> None:
    """Hits by tier, what they avoided, and the region that was asked."""
    world = measured()
    gateway = world.gateway()
    for _ in range(3):
        await world.ask(chat_body(COMPLEX_PROMPT, model=CLOUD_FAST.id), of=gateway)
        await world.background.finish()
    told = await metrics_of(world, gateway, "?by=served_by")
    total = told["total"]

    assert {group["key"]: group["requests"] for group in told["groups"]} == {"exact-cache": 2, "cloud": 1}
    assert (total["cache"]["lookups"], total["cache"]["hits"], total["cache"]["misses"]) == (3, 2, 1)
    assert total["cache"]["hit_rate"] == pytest.approx(0.6667)
    assert total["cache"]["tiers"] == {"memory": 0, "kv": 2, "semantic": 0}
    assert total["cost_avoided_usd"] == pytest.approx(2 * total["cost_usd"])
    assert total["tokens"]["avoided"] == 30
    assert [(each["colo"], each["region"], each["breaker"], each["requests"]) for each in told["regions"]] == [
        ("CDG", "fra", "closed", 1),
        ("CDG", "iad", "closed", 0),
    ]


async def test_streams() -> None:
    """Are counted when they have ended, with the time of their first content."""
    world = measured()
    gateway = world.gateway()
    reply = await world.ask(chat_body(stream=True), of=gateway)
    await read_events(reply)
    told = await metrics_of(world, gateway)

    assert told["total"]["ttft_ms"]["count"] == told["total"]["total_ms"]["count"] == 1


async def test_failures() -> None:
    """Errors and timeouts are ours; what the caller must change is apart."""

    def late(_: object) -> FakeUpstreamResponse:
        raise UpstreamTimeout("too late")

    world = measured(cloud=cloud(late), models=[CLOUD_FAST])
    gateway = world.gateway()
    await world.ask(chat_body(model=CLOUD_FAST.id), of=gateway)
    await world.ask({"messages": "none"}, of=gateway)
    total = (await metrics_of(world, gateway))["total"]

    assert (total["requests"], total["errors"], total["rejected"], total["timeouts"]) == (2, 1, 1, 1)
    assert total["error_rate"] == 0.5


async def test_only_asking_is_measured() -> None:
    """Looking at the metrics does not change them."""
    world = measured()
    gateway = world.gateway()
    await world.ask(path="/v1/models", method="GET", of=gateway)
    await metrics_of(world, gateway)

    assert (await metrics_of(world, gateway))["total"]["requests"] == 0


@pytest.mark.parametrize(
    ("query", "param", "lists"),
    [
        ("?window=2m", "window", "1m, 5m, 1h, 24h"),
        ("?window=", "window", "1m, 5m, 1h, 24h"),
        ("?by=tenant", "by", "none, colo, model, served_by, region, route_reason"),
        ("?since=1", "since", "window, by"),
    ],
)
async def test_unknown_parameters(query: str, param: str, lists: str) -> None:
    """400 that names the parameter and lists what is valid."""
    reply = await measured().ask(path=f"/v1/metrics{query}", method="GET")

    assert reply.status == 400
    assert error_of(reply)["param"] == param
    assert lists in error_of(reply)["message"]


@pytest.mark.parametrize("path", ["/v1/metrics", "/metrics"])
@pytest.mark.parametrize(
    ("key", "status"),
    [pytest.param("seer", 200, id="with the scope"), pytest.param("k001", 403, id="without"), ("nobody", 401)],
)
async def test_scope(path: str, key: str, status: int) -> None:
    """They tell about all tenants, so not every tenant's key will do."""
    records = key_records(seer={"tenant": "ops", "scopes": ["metrics"]}, k001={"tenant": "acme"})
    world = measured(auth="keys", keys=records)

    assert (await world.ask(path=path, method="GET", headers=bearer(key))).status == status


async def test_prometheus() -> None:
    """The official parser takes the text; sums, histograms and breakers are in it."""

    def answer(_: object) -> FakeUpstreamResponse:
        return FakeUpstreamResponse.plain(completion(), headers={"server-timing": "app;dur=0"})

    world = measured(cloud=cloud(answer))
    gateway = world.gateway()
    for _ in range(2):
        await world.ask(chat_body(COMPLEX_PROMPT, model=CLOUD_FAST.id), of=gateway)
        await world.background.finish()
    reply = await world.ask(path="/metrics", method="GET", of=gateway)
    assert isinstance(reply.body, str)
    families = {family.name: family for family in text_string_to_metric_families(reply.body)}

    def value(name: str, **labels: str) -> float:
        return sum(
            sample.value
            for family in families.values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert value("nearside_requests_total", colo="CDG", model=CLOUD_FAST.id) == 2
    assert value("nearside_cache_lookups_total", outcome="hit", tier="kv") == 1
    assert families["nearside_request_duration_seconds"].type == "histogram"
    assert value("nearside_request_duration_seconds_bucket", le="+Inf") == 2
    assert value("nearside_request_duration_seconds_count") == 2
    assert value("nearside_cloud_rtt_seconds_count", region="fra") == 1
    assert value("nearside_breaker_state", region="fra", state="closed") == 1


async def test_location_that_does_not_answer() -> None:
    """Is named as missing; the others are told."""
    world = measured()
    gateway = world.gateway()
    for location in (PARIS, TOKYO):
        await world.ask(chat_body(), location=location, of=gateway)
    await world.background.finish()
    assert world.metrics is not None
    world.metrics.down.add("NRT")
    told = await metrics_of(world, gateway)

    assert told["colos"] == {"read": ["CDG"], "missing": ["NRT"]}
    assert told["total"]["requests"] == 1


async def test_metrics_that_can_not_be_read() -> None:
    """503 with Retry-After, and not a bug's 500."""
    world = measured()
    assert world.metrics is not None
    world.metrics.down.add("directory")
    reply = await world.ask(path="/v1/metrics", method="GET")

    assert (reply.status, error_of(reply)["code"]) == (503, "metrics_unavailable")
    assert reply.headers["retry-after"] == "1"


async def test_broken_metrics_fail_no_request() -> None:
    """What can't be written is counted, logged, and told as soon as it can."""
    world = measured()
    gateway = world.gateway()
    assert world.metrics is not None
    world.metrics.down |= {"directory", "CDG"}
    replies = [await world.ask(chat_body(), of=gateway) for _ in range(3)]
    await world.background.finish()
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert "metrics_lost" in world.log.names()

    world.metrics.down.clear()
    await world.ask(chat_body(), of=gateway)
    told = await metrics_of(world, gateway)

    assert (told["total"]["requests"], told["lost"]) == (1, 3)


async def test_hanging_metrics_delay_no_request() -> None:
    """The answer is there while the write still waits, and the next one too."""
    world = measured()
    gateway = world.gateway()
    assert world.metrics is not None
    world.metrics.hangs = True

    assert (await world.ask(chat_body(), of=gateway)).status == 200
    assert len(world.background) > 0
    assert (await world.ask(chat_body(), of=gateway)).status == 200


async def test_too_many_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many wait; the loss is told."""
    monkeypatch.setattr(recorder, "MAX_WAITING", 2)
    world = measured()
    gateway = world.gateway()
    for _ in range(5):
        await world.ask(chat_body(), of=gateway)
    told = await metrics_of(world, gateway)

    assert (told["total"]["requests"], told["lost"]) == (2, 3)


async def test_no_prompt_is_kept() -> None:
    """Neither in what is written nor in what is told."""
    world = measured()
    gateway = world.gateway()
    await world.ask(chat_body("The secret word is xyzzy."), of=gateway)
    await world.background.finish()
    assert world.metrics is not None
    kept = json.dumps(world.metrics.shards["CDG"].all_time(world.clock.now_s()).encoded())
    told = json.dumps(await metrics_of(world, gateway))

    assert EDGE_SMALL.id in kept
    assert "xyzzy" not in kept + told

"""`DELETE /v1/cache` and `GET /v1/cache/stats` through the gateway."""

from typing import Any

import pytest

from edge_router.caching.policy import Lifetimes
from edge_router.errors import UpstreamError
from edge_router.replies import Reply
from tests.edge_router.harness import (
    CLOUD_FAST,
    World,
    bearer,
    cache_of,
    chat_body,
    completion,
    error_of,
    key_records,
    read_json,
    read_stream,
)
from tests.fakes import CloudCall, EdgeCall, FailingStore, FakeClock, FakeCounters, FakeFlights, FakeUpstreamResponse

ACME, OTHER, ADMIN = bearer("acme"), bearer("other"), bearer("boss")


def down(_: EdgeCall | CloudCall) -> FakeUpstreamResponse:
    raise UpstreamError("down")


TAG = {"nearside-cache-tags": "docs, v1"}


def world(**parts: Any) -> World:
    """Two tenants, and an administrator of the first one's."""
    keys = key_records(
        acme={"tenant": "acme", "scopes": ["infer", "cache"]},
        other={"tenant": "other", "scopes": ["infer", "cache"]},
        boss={"tenant": "acme", "scopes": ["admin"]},
    )
    clock = FakeClock()
    life = Lifetimes(ttl_s=100, swr_s=200, stale_if_error_s=1000)
    return World(
        **{"auth": "keys", "keys": keys, "clock": clock, "counters": FakeCounters(clock), "lifetimes": life, **parts}
    )


async def asked(around: World, body: dict[str, Any] | None = None, **options: Any) -> Reply:
    reply = await around.ask(body or chat_body(), **{"headers": ACME, **options})
    while len(around.background):
        await around.background.finish()
    return reply


async def purged(around: World, body: object = "", *, query: str = "", headers: dict[str, str] = ACME) -> Reply:
    around.clock.advance(1)
    reply = await around.ask(body, path=f"/v1/cache{query}", method="DELETE", headers=headers)
    around.clock.advance(1)
    return reply


async def stats(around: World, headers: dict[str, str] = ACME) -> dict[str, Any]:
    found = read_json(await around.ask("", path="/v1/cache/stats", method="GET", headers=headers))
    del found["nearside"]
    return found


async def is_cached(around: World, headers: dict[str, str] = ACME) -> bool:
    only = {**headers, "cache-control": "only-if-cached"}
    return (await around.ask(chat_body(), headers=only)).status == 200


# Purging


@pytest.mark.parametrize(
    "asks",
    [
        pytest.param({"body": {"tag": "docs"}}, id="tag"),
        pytest.param({"query": "?tag=v1"}, id="tag in the query"),
        pytest.param({"body": {"tenant": True}}, id="tenant"),
        pytest.param({"query": "?tenant=true"}, id="tenant in the query"),
        pytest.param({"body": {"all": True}, "headers": ADMIN}, id="all"),
    ],
)
async def test_purge(asks: dict[str, Any]) -> None:
    """What it covers is a miss from then on."""
    around = world()
    await asked(around, headers={**ACME, **TAG})
    assert await is_cached(around)
    reply = await purged(around, **asks)

    assert (reply.status, read_json(reply)["object"]) == (200, "cache.purge")
    assert not await is_cached(around)
    await asked(around, headers={**ACME, **TAG})
    assert await is_cached(around)


async def test_purge_of_one_entry() -> None:
    """By the key that the report told."""
    around = world()
    key = cache_of(await asked(around))["key"]
    reply = await purged(around, {"key": key})

    assert read_json(reply)["purged"] == {"key": key}
    assert not await is_cached(around)


@pytest.mark.parametrize("memory_bytes", [0, 2**20], ids=["KV", "memory"])
@pytest.mark.parametrize("age_s", [1, 150, 500], ids=["fresh", "stale", "in an outage"])
async def test_same_question_of_another_tenant(memory_bytes: int, age_s: float) -> None:
    """Gets an answer of its own, whatever is stored of the first one's, also while every model fails."""
    around = world(memory_cache_bytes=memory_bytes)
    isolate = around.gateway()
    await asked(around, of=isolate)
    around.clock.advance(age_s)
    if age_s == 500:
        around.edge.handler, around.cloud.handler = down, down
    own = await asked(around, of=isolate)
    others = await asked(around, headers=OTHER, of=isolate)

    assert own.headers["nearside-served-by"] == "exact-cache"
    if age_s == 500:
        assert others.status == 502
    else:
        assert others.headers["nearside-served-by"] == "edge-model"
        assert cache_of(others)["key"] != cache_of(own)["key"]
    counts = await stats(around, OTHER)
    assert (counts["hits"]["total"], counts["stale"], counts["misses"]) == (0, 0, 1)


@pytest.mark.parametrize("by", ["key", "tag", "tenant"])
async def test_purge_of_another_tenant(by: str) -> None:
    """Reaches nothing of this one's."""
    around = world()
    key = cache_of(await asked(around, headers={**ACME, **TAG}))["key"]
    asks = {"key": {"key": key}, "tag": {"tag": "docs"}, "tenant": {"tenant": True}}
    reply = await purged(around, asks[by], headers=OTHER)

    assert reply.status == 200
    assert await is_cached(around)


@pytest.mark.parametrize(
    ("body", "query", "param"),
    [
        pytest.param("", "", "key", id="nothing"),
        pytest.param({"tag": "a", "tenant": True}, "", "key", id="two at once"),
        pytest.param({"tag": "a"}, "?tenant=true", "key", id="two at once, one in the query"),
        pytest.param({"key": "K"}, "", "key", id="no key"),
        pytest.param({"tag": "a b"}, "", "tag", id="no tag"),
        pytest.param("", "?tag=", "tag", id="an empty tag"),
        pytest.param({"tenant": False}, "", "tenant", id="not the tenant"),
        pytest.param("", "?tenant=perhaps", "tenant", id="perhaps the tenant"),
        pytest.param({"everything": True}, "", "everything", id="an unknown field"),
    ],
)
async def test_purge_that_is_not_clear(body: object, query: str, param: str) -> None:
    """400 that names the parameter; nothing is purged."""
    around = world()
    await asked(around)
    reply = await purged(around, body, query=query)

    assert (reply.status, error_of(reply)["param"]) == (400, param)
    assert await is_cached(around)


async def test_everything_is_for_administrators() -> None:
    """403 for other keys, and where everyone is let in."""
    for around, headers in ((world(), ACME), (world(auth="open"), {})):
        reply = await purged(around, {"all": True}, headers=headers)
        assert (reply.status, error_of(reply)["code"]) == (403, "insufficient_scope")


@pytest.mark.parametrize("body", [{"tenant": True}, {"key": "0" * 64}])
async def test_purge_while_the_store_is_down(body: object) -> None:
    """503: who purges must know that nothing was purged elsewhere."""
    reply = await purged(world(store=FailingStore()), body)

    assert (reply.status, error_of(reply)["code"], reply.headers["retry-after"]) == (503, "purge_failed", "1")


# Statistics

NOTHING = {
    "object": "cache.stats",
    "entries": 0,
    "bytes": 0,
    "hits": {"memory": 0, "kv": 0, "semantic": 0, "total": 0},
    "stale": 0,
    "misses": 0,
    "bypass": 0,
    "collapsed": 0,
    "stored": 0,
    "refreshes": 0,
    "semantic": {
        "hit": 0, "miss": 0, "residency": 0, "tools": 0, "choices": 0, "no_text": 0, "too_long": 0, "embed_failed": 0,
        "vector_failed": 0, "false_hit": 0,
    },
    "hit_rate": None,
    "tokens_avoided": 0,
    "cost_avoided_usd": 0.0,
    "refresh_cost_usd": 0.0,
    "lost_counts": 0,
}  # fmt: skip


async def test_counts_of_a_tenant() -> None:
    """Every outcome, the entries that live, and what was not spent; another tenant has counts of its own."""
    around = world()
    await asked(around)  # a miss
    await asked(around)  # a hit
    await read_stream(await asked(around, chat_body(stream=True)))  # another
    await asked(around, chat_body(use_cache=False))  # a bypass
    around.clock.advance(111)
    await asked(around)  # stale, and refreshed
    found = await stats(around)

    assert found == {
        **NOTHING,
        "entries": 1,
        "bytes": found["bytes"],
        "hits": {"memory": 0, "kv": 2, "semantic": 0, "total": 2},
        "stale": 1,
        "misses": 1,
        "bypass": 1,
        "stored": 2,
        "refreshes": 1,
        "hit_rate": 0.75,
        "tokens_avoided": 45,
        "cost_avoided_usd": 0.00006,
        "refresh_cost_usd": 0.00002,
    }
    assert found["bytes"] > 0
    assert await stats(around, OTHER) == NOTHING


async def test_shared_answer_is_counted() -> None:
    """Once as a miss, once as collapsed, with what it saved."""
    around = world(single_flight="cloud")
    around.flights = FakeFlights(around.cloud, landed=FakeUpstreamResponse.plain(completion()))
    await asked(around, chat_body(model=CLOUD_FAST.id))
    found = await stats(around)

    assert (found["misses"], found["collapsed"], found["stored"], found["tokens_avoided"]) == (1, 1, 0, 15)


async def test_entries_expire_from_the_count() -> None:
    """By the hour in which the last use of an entry ends."""
    around = world()
    await asked(around)
    around.clock.advance(1110 + 3600)

    assert ((await stats(around))["entries"], (await stats(around))["stored"]) == (0, 1)


async def test_purged_tenant_has_no_entries() -> None:
    """What was counted before stays counted."""
    around = world()
    await asked(around)
    await purged(around, {"tenant": True})
    found = await stats(around)

    assert (found["entries"], found["bytes"], found["stored"], found["misses"]) == (0, 0, 1, 1)


async def test_counters_that_are_down() -> None:
    """Cost nobody an answer; what was lost is counted once they are back, and nothing is counted twice."""
    around = world()
    counters = around.counters
    assert counters is not None
    counters.is_down = True
    isolate = around.gateway()
    replies = [await asked(around, of=isolate) for _ in range(2)]
    refused = await around.ask("", path="/v1/cache/stats", method="GET", headers=ACME)
    counters.is_down = False
    await asked(around, of=isolate)
    found = await stats(around)

    assert [reply.status for reply in replies] == [200, 200]
    assert (refused.status, error_of(refused)["code"]) == (503, "stats_unavailable")
    assert (found["misses"], found["hits"]["total"]) == (0, 1)
    assert found["lost_counts"] > 0


async def test_purge_while_counters_are_down() -> None:
    """Purges all the same."""
    around = world()
    await asked(around)
    assert around.counters is not None
    around.counters.is_down = True

    assert (await purged(around, {"tenant": True})).status == 200
    assert not await is_cached(around)

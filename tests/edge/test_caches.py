"""Caches on the real runtime: two tenants and an administrator, the isolate's memory before real KV, real counters."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import openai
import pytest

from scripts.local.stack import Address, running_stack
from tests.edge.control import Control, chat, cleared_control, easy, events, streamed_text
from tests.edge_router.harness import bearer, key_records

pytestmark = pytest.mark.workerd

WAIT_S = 10.0
ACME, OTHER, BOSS = bearer("acme"), bearer("other"), bearer("boss")


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    records = key_records(
        acme={"tenant": "acme", "scopes": ["infer", "cache"]},
        other={"tenant": "other", "scopes": ["infer", "cache"]},
        boss={"tenant": "boss", "scopes": ["admin"]},
    )
    with running_stack(auth="keys", records=records.texts) as (_, address):
        yield address


@pytest.fixture
def control(address: Address) -> Iterator[Control]:
    with cleared_control(address) as control:
        yield control


@pytest.fixture
def acme(address: Address) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address.url, headers=ACME, timeout=30) as client:
        yield client


@pytest.fixture
def other(address: Address) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address.url, headers=OTHER, timeout=30) as client:
        yield client


def ask(client: httpx.Client, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> httpx.Response:
    response = client.post("/v1/chat/completions", json=body, headers=headers or {})
    assert response.status_code == 200, response.text
    return response


def told(response: httpx.Response) -> dict[str, Any]:
    """What a plain answer's report says of the cache."""
    cache: dict[str, Any] = response.json()["nearside"]["cache"]
    return cache


def until(read: Callable[[], httpx.Response], holds: Callable[[httpx.Response], bool]) -> httpx.Response:
    """The first answer for which it holds; polls, because entries and counts are written after the response."""
    deadline_s = time.monotonic() + WAIT_S
    while True:
        response = read()
        if holds(response):
            return response
        assert time.monotonic() < deadline_s, (response.headers.get("cache-status"), response.text[:500])
        time.sleep(0.05)


def is_hit(response: httpx.Response) -> bool:
    return response.headers["nearside-served-by"] == "exact-cache"


def is_cached(client: httpx.Client, body: dict[str, Any]) -> bool:
    response = client.post("/v1/chat/completions", json=body, headers={"cache-control": "only-if-cached"})
    assert response.status_code in (200, 504)
    return response.status_code == 200


def stats(client: httpx.Client) -> httpx.Response:
    return client.get("/v1/cache/stats")


def test_memory_before_kv(acme: httpx.Client, control: Control) -> None:
    """The isolate that asked answers again by itself: no read of KV, which may refuse everything."""
    body = chat(easy())
    ask(acme, body)
    until(lambda: ask(acme, body), is_hit)
    control.fault("kv", "error")
    before = control.counters()["kv"]
    responses = [ask(acme, body) for _ in range(20)]

    assert all(response.headers["cache-status"].endswith("; detail=memory") for response in responses)
    assert all(0 <= int(response.headers["age"]) < WAIT_S for response in responses)
    assert control.counters()["kv"] - before < 20  # what the first question left to be written may still come


def test_stale_answer_is_refreshed_in_the_background(acme: httpx.Client, control: Control) -> None:
    """A hit with a lifetime below zero, and soon after it a fresh one, for which a model was asked."""
    body = chat(easy(), cache_ttl_s=2)
    first = ask(acme, body)
    stale = until(lambda: ask(acme, body), lambda response: "; ttl=-" in response.headers["cache-status"])
    fresh = until(lambda: ask(acme, body), lambda response: "; ttl=-" not in response.headers["cache-status"])

    assert stale.headers["cache-status"].startswith("nearside; hit; ttl=-")
    assert stale.json()["id"] == first.json()["id"] != fresh.json()["id"]
    assert is_hit(fresh)
    assert control.counters()["ai"] == 2


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_stale_answer_in_an_outage(acme: httpx.Client, control: Control, stream: bool) -> None:
    """200 with the old answer when every model fails, and Cache-Status says so."""
    body = chat(easy())
    first = ask(acme, body, {"nearside-cache-ttl": "1"})
    until(
        lambda: acme.post("/v1/chat/completions", json=body, headers={"cache-control": "only-if-cached"}),
        lambda r: r.status_code == 504,  # past its lifetime and the window in which it would be served at once
    )
    control.fault("ai", "error")
    control.fault("cloud", "refuse")
    response = ask(acme, {**body, "stream": stream})

    assert "; fwd-status=5" in response.headers["cache-status"]
    assert response.headers["cache-status"].startswith("nearside; fwd=stale; ")
    text = first.json()["choices"][0]["message"]["content"]
    assert (streamed_text(response) if stream else response.json()["choices"][0]["message"]["content"]) == text
    if stream:
        assert events(response)[-1] == "[DONE]"


@pytest.mark.parametrize(
    "asks",
    [
        pytest.param({"json": {"tag": "docs"}}, id="tag"),
        pytest.param({"params": {"tenant": "true"}}, id="tenant"),
        pytest.param({"json": {"all": True}, "headers": BOSS}, id="all"),
    ],
)
def test_purge(acme: httpx.Client, asks: dict[str, Any]) -> None:
    """Of what the isolate itself keeps, at once; what is asked for after it is stored again."""
    body = chat(easy(), cache_tags=["docs"])
    ask(acme, body)
    until(lambda: ask(acme, body), is_hit)
    response = acme.request("DELETE", "/v1/cache", **asks)

    assert response.status_code == 200, response.text
    assert not is_cached(acme, body)
    ask(acme, body)
    assert is_cached(acme, body)


def test_purge_by_key(acme: httpx.Client) -> None:
    """The key stands in the report of the answer."""
    body, stays = chat(easy()), chat(easy())
    keys = [told(ask(acme, each))["key"] for each in (body, stays)]
    until(lambda: ask(acme, body), is_hit)
    response = acme.request("DELETE", "/v1/cache", json={"key": keys[0]})

    assert response.json()["purged"] == {"key": keys[0]}
    assert [is_cached(acme, body), is_cached(acme, stays)] == [False, True]


def test_tenants_never_meet(acme: httpx.Client, other: httpx.Client) -> None:
    """Equal prompts: neither a hit nor a purge nor a count of one tenant shows in the other's."""
    body = chat(easy(), cache_tags=["docs"])
    key = told(ask(acme, body))["key"]
    until(lambda: ask(acme, body), is_hit)
    before = stats(other).json()["hits"]

    assert not is_cached(other, body)
    for purge in ({"key": key}, {"tag": "docs"}, {"tenant": True}):
        assert other.request("DELETE", "/v1/cache", json=purge).status_code == 200
    assert is_cached(acme, body)
    assert told(ask(other, body))["key"] != key
    assert stats(other).json()["hits"] == before
    assert other.request("DELETE", "/v1/cache", json={"all": True}).status_code == 403


def test_statistics(address: Address, control: Control) -> None:
    """Counted in a Durable Object, after the responses."""
    with httpx.Client(base_url=address.url, headers=BOSS, timeout=30) as boss:
        body = chat(easy())
        ask(boss, body)
        until(lambda: ask(boss, body), is_hit)
        ask(boss, {**body, "use_cache": False})
        counts = until(lambda: stats(boss), lambda r: r.json()["entries"] >= 1).json()

    assert (counts["misses"], counts["bypass"], counts["stored"], counts["entries"]) == (1, 1, 1, 1)
    assert counts["hits"]["total"] >= 1
    assert counts["tokens_avoided"] > 0
    assert counts["cost_avoided_usd"] > 0
    assert counts["bytes"] > 0
    assert counts["lost_counts"] == 0


def test_openai_sdk(address: Address, control: Control) -> None:
    """`extra_body` and `extra_headers` reach every control; an answer that is not there is asked for once only."""
    key = ACME["authorization"].removeprefix("Bearer ")
    messages: Any = [{"role": "user", "content": easy()}]
    with openai.OpenAI(base_url=f"{address.url}/v1", api_key=key, max_retries=2) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(
                model="auto", messages=messages, extra_headers={"cache-control": "only-if-cached"}
            )
        create = client.chat.completions.with_raw_response.create
        first = create(model="auto", messages=messages, extra_body={"cache_ttl_s": 100, "cache_tags": ["a"]})
        again = create(model="auto", messages=messages, extra_headers={"cache-control": "max-stale=60"})
        stream = client.chat.completions.create(
            model="auto", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)

    assert caught.value.status_code == 504
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert first.headers["cache-status"] == "nearside; fwd=miss; stored"
    assert 85 <= int(again.headers["cache-status"].split("ttl=")[1].split(";")[0]) <= 110
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == first.parse().choices[0].message.content
    assert chunks[-1].usage is not None
    assert control.counters()["ai"] == 1


@pytest.mark.parametrize("kind", ["error", "timeout", "slow", "malformed"])
def test_kv_that_fails(acme: httpx.Client, control: Control, kind: str) -> None:
    """The request is answered as if there were no cache, at most 0.2 s later; the isolate's own memory still serves."""
    for scope in ({"params": {"tenant": "true"}}, {"json": {"all": True}, "headers": BOSS}):
        acme.request("DELETE", "/v1/cache", **scope).raise_for_status()  # known for a minute, which begins now
    kept = chat(easy())
    ask(acme, kept)
    until(lambda: ask(acme, kept), is_hit)
    control.fault("kv", kind)
    look_ups_ms = []
    for _ in range(3):
        response = ask(acme, chat(easy()))
        assert response.headers["nearside-served-by"] == "edge-model"
        look_ups_ms.append(response.json()["nearside"]["timings_ms"]["cache"])

    assert min(look_ups_ms) < 200  # of three, because a busy machine wakes us late
    assert is_hit(ask(acme, kept))

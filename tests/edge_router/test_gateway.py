"""The HTTP surface: paths, keys, errors, and the report on every reply."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from edge_router import __version__
from edge_router.auth import hash_secret
from edge_router.catalog import Model
from edge_router.embeddings import MODEL as EMBEDDER
from edge_router.errors import BodyTooLarge, RequestRejected, StoreError
from edge_router.location import UNKNOWN
from edge_router.replies import Reply
from tests.edge_router.harness import (
    COMPLEX_PROMPT,
    DONE,
    MODELS,
    SIMPLE_PROMPT,
    World,
    bearer,
    chat_body,
    chunk,
    cloud,
    completion,
    edge,
    error_of,
    event,
    key_records,
    native,
    native_events,
    read_json,
    read_stream,
)
from tests.fakes import (
    STALL,
    Caller,
    CloudCall,
    FailingStore,
    FakeRateLimiter,
    FakeUpstreamResponse,
    MemoryStore,
)

SECRET = "s3cretS3cretS3cret"
KEYS = {"key:k001": json.dumps({"tenant": "acme", "hashes": [hash_secret(SECRET)]})}
AUTHORIZATION = {"authorization": f"Bearer nsk_k001_{SECRET}"}


def with_keys() -> World:
    return World(auth="keys", keys=MemoryStore(KEYS))


async def test_health() -> None:
    """Needs no key and asks nobody."""
    world = World(auth="keys", keys=FailingStore())
    reply = await world.ask(path="/health", method="GET")

    assert reply.status == 200
    assert read_json(reply) == {"status": "ok", "service": "nearside", "version": __version__, "colo": "CDG"}
    assert world.log.lines == []


async def well() -> bool:
    return True


async def ill() -> bool:
    return False


async def broken() -> bool:
    raise StoreError("no answer")


@pytest.mark.parametrize(
    ("probe", "status"),
    [pytest.param(well, 200, id="well"), pytest.param(ill, 503, id="ill"), pytest.param(broken, 503, id="broken")],
)
async def test_readiness(probe: Any, status: int) -> None:
    """503 unless all that answers need is there; each part is named."""
    reply = await World(probes={"kv": well, "cloud": probe}).ask(path="/ready", method="GET")

    assert reply.status == status
    assert read_json(reply)["checks"] == {"kv": True, "cloud": status == 200}


async def test_health_of_some_parts() -> None:
    """Only those asked for."""
    gateway = World(probes={"kv": well, "cloud": ill}).gateway()

    assert await gateway.health_of(["cloud"]) == {"cloud": False}


# Keys


async def test_key() -> None:
    """Opens the door; the time of its check is told."""
    reply = await with_keys().ask(chat_body(), headers=AUTHORIZATION)

    assert reply.status == 200
    assert "auth;dur=" in reply.headers["server-timing"]
    assert "nearside-auth" not in reply.headers


async def test_open_gateway() -> None:
    """Anyone may call, and every answer says so."""
    reply = await World(auth="open").ask(chat_body())

    assert reply.headers["nearside-auth"] == "open"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no key"),
        pytest.param({"authorization": "Bearer nsk_k001_wrongwrongwrongwrong"}, id="wrong secret"),
        pytest.param({"authorization": f"Bearer nsk_k002_{SECRET}"}, id="unknown id"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/completions/stream"),
        ("POST", "/v1/completions/batch"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/route"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/a"),
    ],
)
async def test_caller_without_a_valid_key(method: str, path: str, headers: dict[str, str]) -> None:
    """401 everywhere but at the health checks; the body is not even read."""
    world = with_keys()
    reply = await world.ask(AssertionError("was read"), path=path, method=method, headers=headers)

    assert reply.status == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert SECRET not in str(reply)
    assert world.calls == 0


@pytest.mark.parametrize(
    "record",
    [
        pytest.param('{"tenant": "acme", "hashes": ["é"]}', id="hash not ASCII"),
        pytest.param("[" * 100_000, id="nested too deeply"),
        pytest.param("{", id="not JSON"),
    ],
)
async def test_broken_record_of_a_key(record: str) -> None:
    """Nobody gets in, and the error says that it is us: the key may be good."""
    world = World(auth="keys", keys=MemoryStore({"key:k001": record}))
    reply = await world.ask(chat_body(), headers=AUTHORIZATION)

    assert (reply.status, error_of(reply)["code"]) == (503, "auth_unavailable")


async def test_keys_that_can_not_be_read() -> None:
    """Nobody gets in, and the error says that it is us."""
    reply = await World(auth="keys", keys=FailingStore()).ask(chat_body(), headers=AUTHORIZATION)

    assert (reply.status, error_of(reply)["code"]) == (503, "auth_unavailable")
    assert reply.headers["retry-after"] == "1"


async def test_key_that_is_known_by_now() -> None:
    """The isolate remembers it, and the store is not asked meanwhile; the secret counts all the same."""
    world, keys = with_keys(), MemoryStore(KEYS)
    world.keys = keys
    gateway = world.gateway()
    first = await world.ask(headers=AUTHORIZATION, of=gateway)
    keys.texts.clear()
    again = await world.ask(headers=AUTHORIZATION, of=gateway)
    wrong = await world.ask(headers={"authorization": "Bearer nsk_k001_wrongwrongwrongwrong"}, of=gateway)

    assert [first.status, again.status, wrong.status] == [200, 200, 401]
    assert "auth;dur=" in again.headers["server-timing"]


ENDPOINTS = [
    ("POST", "/", "infer"),
    ("POST", "/v1/chat/completions", "infer"),
    ("POST", "/v1/completions", "infer"),
    ("POST", "/v1/completions/stream", "infer"),
    ("POST", "/v1/completions/batch", "infer"),
    ("POST", "/v1/responses", "infer"),
    ("POST", "/v1/embeddings", "infer"),
    ("POST", "/v1/route", "infer"),
    ("POST", "/v1/feedback", "infer"),
    ("GET", "/v1/models", "infer"),
    ("GET", "/v1/models/auto", "infer"),
    ("GET", "/v1/usage", "infer"),
    ("GET", "/v1/metrics", "metrics"),
    ("GET", "/metrics", "metrics"),
    ("GET", "/v1/alerts", "metrics"),
    ("DELETE", "/v1/cache", "cache"),
    ("GET", "/v1/cache/stats", "cache"),
    ("GET", "/v1/feedback/export", "admin"),
]


@pytest.mark.parametrize(("method", "path", "scope"), ENDPOINTS)
async def test_scope_of_an_endpoint(method: str, path: str, scope: str) -> None:
    """A key with that scope, or an administrator's, gets further; with any other: 403 that names it."""
    for has in ("infer", "metrics", "cache", "admin"):
        keys = key_records(k001={"tenant": "acme", "scopes": [has]})
        reply = await World(auth="keys", keys=keys).ask("{}", path=path, method=method, headers=bearer())

        if has in (scope, "admin"):
            assert reply.status not in (401, 403)
        else:
            assert (reply.status, error_of(reply)["code"]) == (403, "insufficient_scope")
            assert f"'{scope}'" in error_of(reply)["message"]


def test_every_endpoint_has_a_scope() -> None:
    """The list above is whole."""
    assert {path for _, path, _ in ENDPOINTS} - {"/v1/models/auto"} == set(World().gateway()._endpoints)


# Rate limit


async def test_caller_who_asks_too_often() -> None:
    """429 with the time to wait; nothing is asked of a model."""
    world = World(rate_limiter=FakeRateLimiter(left=1))
    replies = [await world.ask(chat_body(use_cache=False)) for _ in range(2)]

    assert [reply.status for reply in replies] == [200, 429]
    assert error_of(replies[1])["code"] == "rate_limit_exceeded"
    assert replies[1].headers["retry-after"] == "60"
    assert world.calls == 1


async def test_limiter_that_fails() -> None:
    """Lets everyone through."""
    world = World(rate_limiter=FakeRateLimiter(is_down=True))

    assert (await world.ask(chat_body())).status == 200
    assert world.log.names() == ["rate_limiter_failed"]


# Paths


@pytest.mark.parametrize("path", ["/v1", "/v1/chat/completions/", "/v2/models", "/etc/passwd", ""])
async def test_unknown_path(path: str) -> None:
    """404 in the contract's form."""
    reply = await World().ask(path=path)

    assert (reply.status, error_of(reply)["code"]) == (404, "unknown_path")


async def test_head_of_what_can_be_read() -> None:
    """Monitors ask for heads: they get the same status and headers."""
    reply = await World().ask(path="/health", method="HEAD")

    assert reply.status == 200
    assert reply.headers["server-timing"].startswith("total;dur=")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_page_for_people(method: str) -> None:
    """Needs no key, carries the report, and may load and ask nothing but this gateway."""
    reply = await World(auth="keys").ask(path="/", method=method)

    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert reply.headers["nearside-colo"] == "CDG"


async def test_page_that_was_not_deployed() -> None:
    """404 in the contract's form."""
    reply = await World().ask(path="/dashboard", method="GET")

    assert (reply.status, error_of(reply)["code"]) == (404, "unknown_path")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        pytest.param("GET", "/v1/chat/completions", "POST", id="GET"),
        pytest.param("DELETE", "/v1/models", "GET, HEAD", id="DELETE"),
        pytest.param("POST", "/v1/models/a", "GET, HEAD", id="POST"),
        pytest.param("GET", "/v1/completions/stream", "POST", id="GET of a stream"),
        pytest.param("GET", "/v1/embeddings", "POST", id="GET of vectors"),
    ],
)
async def test_method_that_a_path_does_not_take(method: str, path: str, allow: str) -> None:
    """405 with those that it takes."""
    reply = await World().ask(path=path, method=method)

    assert (reply.status, error_of(reply)["code"]) == (405, "method_not_allowed")
    assert reply.headers["allow"] == allow


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(BodyTooLarge("too large"), 413, id="too large"),
        pytest.param(RequestRejected("not UTF-8", code="invalid_json"), 400, id="not UTF-8"),
        pytest.param("{", 400, id="not JSON"),
        pytest.param({}, 400, id="empty object"),
        pytest.param(chat_body(model="gpt-9"), 404, id="unknown model"),
    ],
)
async def test_body_that_can_not_be_answered(body: object, status: int) -> None:
    """The reason is told; no model is asked."""
    world = World()
    reply = await world.ask(body)

    assert reply.status == status
    assert error_of(reply)["type"] == "invalid_request_error"
    assert world.calls == 0


async def test_list_of_models() -> None:
    """The three names that let the router choose, then the catalog, then the embedder."""
    models = read_json(await World().ask(path="/v1/models", method="GET"))["data"]

    assert [model["id"] for model in models] == ["auto", "edge", "cloud", *(model.id for model in MODELS), EMBEDDER]
    assert models[3]["owned_by"] == "cloudflare"
    assert models[-2]["nearside"]["tier"] == "cloud-quality"
    assert models[-1]["nearside"] == {"side": "edge", "dimensions": 384}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("auto", "auto", id="a name for the router"),
        pytest.param("edge-small-1", "edge-small-1", id="of the catalog"),
        pytest.param(EMBEDDER, EMBEDDER, id="the embedder"),
        pytest.param("@cf/a/b", "@cf/a/b", id="with slashes"),
        pytest.param("%40cf%2Fa%2Fb", "@cf/a/b", id="percent-encoded"),
    ],
)
async def test_one_model(path: str, expected: str) -> None:
    """By its id, as clients write it into a path."""
    world = World(models=[*MODELS, Model("@cf/*", "edge", "edge-large", 1000)])

    assert read_json(await world.ask(path=f"/v1/models/{path}", method="GET"))["id"] == expected


@pytest.mark.parametrize("path", ["gpt-9", "", "%ff"])
async def test_one_model_that_does_not_exist(path: str) -> None:
    """404 with OpenAI's code."""
    reply = await World().ask(path=f"/v1/models/{path}", method="GET")

    assert (reply.status, error_of(reply)["code"]) == (404, "model_not_found")


async def test_route_without_running_it() -> None:
    """Tells the decision, and asks no model."""
    world = World()
    body = read_json(await world.ask(chat_body(COMPLEX_PROMPT), path="/v1/route"))

    assert body["model"] == "cloud-fast-1"
    assert (body["tier"], body["side"], body["reason"], body["complexity"]) == ("cloud-fast", "cloud", "complex", 0.8)
    assert [each["model"] for each in body["candidates"]] == ["cloud-fast-1", "cloud-quality-1"]
    assert list(body["nearside"]["timings_ms"]) == ["decide", "total"]
    assert world.calls == 0


async def test_prompt() -> None:
    """One prompt, one answer, with the place and the time."""
    world = World()
    world.edge.handler = lambda call: _after(world, 0.25)
    body = read_json(await world.ask({"prompt": SIMPLE_PROMPT}, path="/"))

    assert {key: body[key] for key in ("response", "location", "latency_ms")} == {
        "response": "Paris.",
        "location": "CDG",
        "latency_ms": 250.0,
    }
    assert body["nearside"]["served_by"] == "edge-model"


def _after(world: World, seconds: float) -> FakeUpstreamResponse:
    world.clock.advance(seconds)
    return FakeUpstreamResponse.plain(native("Paris."))


async def test_prompt_with_controls_in_headers() -> None:
    """They count here too."""
    reply = await World().ask({"prompt": "Hi"}, path="/", headers={"nearside-use-cache": "false"})

    assert reply.headers["cache-status"] == "nearside; fwd=bypass"


async def test_prompt_from_nowhere_known() -> None:
    """The place is null, not invented."""
    assert read_json(await World().ask({"prompt": "Hi"}, path="/", location=UNKNOWN))["location"] is None


# Report


def cloud_refuses(call: CloudCall) -> FakeUpstreamResponse:
    return FakeUpstreamResponse.plain({"error": {"code": "x"}}, status=400)


REPLIES: list[Any] = [
    pytest.param(World(), "POST", "/v1/chat/completions", chat_body(), id="answer"),
    pytest.param(World(), "POST", "/v1/chat/completions", chat_body(stream=True), id="stream"),
    pytest.param(World(), "POST", "/", {"prompt": "Hi"}, id="prompt"),
    pytest.param(World(), "POST", "/v1/completions", {"prompt": "Hi"}, id="text"),
    pytest.param(World(), "POST", "/v1/completions", {"prompt": ["Hi", "Ho"]}, id="texts"),
    pytest.param(World(), "POST", "/v1/completions/stream", {"prompt": "Hi"}, id="text stream"),
    pytest.param(World(), "POST", "/v1/completions/stream", {"prompt": ["Hi", "Ho"]}, id="chained stream"),
    pytest.param(World(), "POST", "/v1/completions/batch", {"prompts": ["Hi", "Ho"]}, id="batch"),
    pytest.param(World(), "POST", "/v1/responses", {"input": "Hi"}, id="response"),
    pytest.param(World(), "POST", "/v1/embeddings", {"input": "Hi"}, id="embedding"),
    pytest.param(World(), "POST", "/v1/route", chat_body(), id="route"),
    pytest.param(World(), "GET", "/v1/models", "", id="models"),
    pytest.param(World(), "GET", "/health", "", id="health"),
    pytest.param(World(), "GET", "/ready", "", id="ready"),
    pytest.param(World(), "GET", "/nowhere", "", id="404"),
    pytest.param(World(), "PUT", "/", "", id="405"),
    pytest.param(World(auth="keys"), "POST", "/", "", id="401"),
    pytest.param(World(), "POST", "/v1/chat/completions", "{", id="400"),
    pytest.param(World(), "POST", "/v1/chat/completions", BodyTooLarge("x"), id="413"),
    pytest.param(World(regions=()), "POST", "/v1/chat/completions", chat_body(COMPLEX_PROMPT), id="502"),
    pytest.param(
        World(cloud=cloud(cloud_refuses)), "POST", "/v1/chat/completions", chat_body(COMPLEX_PROMPT), id="refused"
    ),
    pytest.param(World(), "POST", "/v1/chat/completions", ZeroDivisionError(), id="crash"),
]


@pytest.mark.parametrize(("world", "method", "path", "body"), REPLIES)
async def test_any_reply(world: World, method: str, path: str, body: object) -> None:
    """Has the report in its headers, whatever happened."""
    reply = await world.ask(body, method=method, path=path, headers={"x-request-id": "abc-1"})
    if not isinstance(reply.body, str):
        await read_stream(reply)

    assert reply.headers["x-request-id"] == "abc-1"
    assert reply.headers["nearside-colo"] == "CDG"
    assert reply.headers.get("nearside-auth") == ("open" if world.auth == "open" else None)
    assert reply.headers["nearside-client-rtt-ms"] == "12.5"
    assert "content-type" in reply.headers


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(None, id="absent"),
        pytest.param("", id="empty"),
        pytest.param("a b", id="space"),
        pytest.param("a\r\nset-cookie: x", id="would break a header"),
        pytest.param("é", id="not ASCII"),
        pytest.param("a" * 129, id="too long"),
    ],
)
async def test_request_id_that_can_not_be_used(given: str | None) -> None:
    """A new one stands in its place, in the headers, the log and upstream."""
    world = World()
    reply = await world.ask(chat_body(COMPLEX_PROMPT), headers={} if given is None else {"x-request-id": given})

    assert reply.headers["x-request-id"] == "req_1"
    assert world.cloud.calls[0].headers["x-request-id"] == "req_1"


async def test_bug_of_ours() -> None:
    """500 in the contract's form; the log has the place of the fault and none of its words."""
    world = World()
    reply = await world.ask(ZeroDivisionError("the prompt"))

    assert (reply.status, error_of(reply)["code"]) == (500, "internal_error")
    name, facts = world.log.lines[0]
    assert (name, facts["reason"]) == ("crash", "ZeroDivisionError")
    assert "fakes.py:" in str(facts["traceback"])
    assert "the prompt" not in world.log.text() + str(reply)


PRIVATE = "zanzibar"  # a word that must not leave the bodies


def echo(body: object, status: int = 200) -> FakeUpstreamResponse:
    return FakeUpstreamResponse.plain(body, status=status)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(completion(f"{PRIVATE}!"), id="an answer that repeats it"),
        pytest.param({"error": {"message": PRIVATE}}, id="an error that repeats it"),
        pytest.param(f"<{PRIVATE}>", id="no answer"),
    ],
)
async def test_words_of_a_prompt(answer: object, stream: bool) -> None:
    """Are in no log line, no header, no telemetry, and no error that was made here."""
    world = World(edge=edge(lambda call: echo(answer)), cloud=cloud(lambda call: echo(answer, 500)))
    reply = await world.ask(chat_body(f"What is {PRIVATE}?", user=PRIVATE, stream=stream), headers={"cookie": PRIVATE})
    if not isinstance(reply.body, str):
        await read_stream(reply)
    await world.background.finish()

    assert PRIVATE not in world.log.text()
    assert PRIVATE not in json.dumps(reply.headers)
    assert PRIVATE not in json.dumps(world.telemetry.records)
    assert reply.status == 200 or PRIVATE not in str(reply.body)


async def test_wildcard_model_with_an_unsafe_name() -> None:
    """A name that a caller made up can't break or forge a header."""
    world = World(models=[*MODELS, Model("@cf/*", "edge", "edge-large", 10_000)])
    reply = await world.ask(chat_body(model="@cf/é\r\nset-cookie: a=b"))

    assert all(value.isascii() and value.isprintable() for value in reply.headers.values())


# Telemetry


def statuses(world: World) -> list[tuple[str, int]]:
    return [(tenant, status) for tenant, status, _ in world.telemetry.records]


async def test_record_of_an_answer() -> None:
    """One, with the tenant and the whole report."""
    world = with_keys()
    await world.ask(chat_body(), headers=AUTHORIZATION)

    assert statuses(world) == [("acme", 200)]
    assert world.telemetry.records[0][2]["cost_usd"] == 0.00002


async def test_record_of_a_stream() -> None:
    """Written when the stream is over: only then it is complete."""
    world = World()
    reply = await world.ask(chat_body(stream=True))
    assert statuses(world) == []

    await read_stream(reply)

    assert statuses(world) == [("open", 200)]
    assert world.telemetry.records[0][2]["cost_usd"] == 0.00002


async def leave(reply: Reply, after: int) -> None:
    assert not isinstance(reply.body, str)
    caller = Caller(reply.body)
    await caller.hear(after)
    await caller.leave()


@pytest.mark.parametrize("after", [0, 1], ids=["before the first event", "after it"])
async def test_record_of_a_stream_that_was_left(after: int) -> None:
    """Written all the same: the upstream was paid."""
    world = World()
    world.edge.handler = lambda call: FakeUpstreamResponse.stream(native_events("x")[0], STALL)
    await leave(await world.ask(chat_body(stream=True)), after)

    assert statuses(world) == [("open", 200)]


async def test_stream_that_is_a_hit() -> None:
    """Needs no upstream, and is recorded like any other."""
    world = World()
    for _ in range(2):
        await read_stream(await world.ask(chat_body(stream=True)))
        await world.background.finish()

    assert statuses(world) == [("open", 200)] * 2
    assert world.telemetry.records[1][2]["cache"]["status"] == "hit"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [pytest.param({}, [], id="unknown caller"), pytest.param(AUTHORIZATION, [("acme", 400)], id="known caller")],
)
async def test_record_of_a_refusal(headers: Mapping[str, str], expected: list[tuple[str, int]]) -> None:
    """Only where a tenant is known to whom it belongs."""
    world = with_keys()
    await world.ask("{", headers=headers)

    assert statuses(world) == expected


async def test_stream_of_one_chunk() -> None:
    """Begins and ends with it: the report is complete."""
    steps = [event(chunk({"content": "x"}, finish="stop")), DONE]
    world = World(cloud=cloud(lambda call: FakeUpstreamResponse.stream(*steps)))
    chunks = await read_stream(await world.ask(chat_body(COMPLEX_PROMPT, stream=True)))

    assert [("nearside" in each, "cost_usd" in each["nearside"]) for each in chunks] == [(True, True)]


async def test_text_that_was_answered_from_memory() -> None:
    """Is not read anew; what its headers ask for still counts, and another text has another answer."""
    world = World(memory_cache_bytes=100_000)
    gateway = world.gateway()
    for _ in range(3):
        reply = await world.ask(chat_body(), of=gateway)
        await world.background.finish()
    assert "detail=memory" in reply.headers["cache-status"]

    fresh = await world.ask(chat_body(), of=gateway, headers={"nearside-use-cache": "false"})
    again = await world.ask(chat_body(), of=gateway)
    other = await world.ask(chat_body("Who?"), of=gateway)

    assert fresh.headers["cache-status"] == "nearside; fwd=bypass"
    assert read_json(again)["choices"] == read_json(reply)["choices"]
    assert other.headers["cache-status"].startswith("nearside; fwd=miss")

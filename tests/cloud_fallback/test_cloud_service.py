"""The HTTP surface, in process: what a caller gets for what the upstream does."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_fallback import forwarding
from tests.cloud_fallback.harness import (
    COMPLETION,
    DONE,
    KEY,
    STALL,
    Conversation,
    FakeUpstream,
    assert_lawful_failure,
    call,
    chat,
    chunk,
    events,
    service,
)

PROMPT = "a very private prompt"
SECRETS = (KEY, PROMPT, "upstream-trace")


def code_of(response: httpx.Response) -> tuple[int, str | None]:
    """Status and code, once the error's shape and the standing headers are right."""
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert not any(secret in response.text for secret in SECRETS)
    assert response.headers["nearside-cloud-region"] == "eu-west"
    assert response.headers["x-request-id"]
    assert response.headers["server-timing"].startswith("app;dur=")
    return response.status_code, error["code"]


async def test_health_and_models() -> None:
    """Health and the catalog need no upstream."""
    upstream = FakeUpstream()
    app = service(upstream)

    health = await call(app, "GET", "/health")
    listed = await call(app, "GET", "/v1/models")
    one = await call(app, "GET", "/v1/models/gpt-4o")
    missing = await call(app, "GET", "/v1/models/other/model")

    assert health.json() == {
        "status": "ok", "service": "cloud_fallback", "region": "eu-west", "version": "0.1.0",
    }  # fmt: skip
    assert [model["id"] for model in listed.json()["data"]] == [
        "gpt-4o-mini", "gpt-4o", "text-embedding-3-small",
    ]  # fmt: skip
    assert one.json()["tier"] == "cloud-quality"
    assert code_of(missing) == (404, "model_not_found")
    assert not upstream.asked


async def test_plain_answer_is_unchanged() -> None:
    """The upstream's bytes are the answer, also when they are oddly written."""
    raw = json.dumps(COMPLETION, indent=3).encode() + b"\n"
    response = await chat(FakeUpstream.plain(raw))

    assert response.status_code == 200
    assert response.content == raw
    assert response.headers["content-type"] == "application/json"


async def test_what_the_upstream_gets() -> None:
    """Body bytes unchanged, our key instead of the caller's, ids passed on, no cookies kept."""
    upstream = FakeUpstream.plain(COMPLETION, set_cookie="a=b")
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    body = '{"model": "gpt-4o", "x_new": {"ü": [1.0, "👋"]},  "messages": []}'.encode()
    app = service(upstream)
    headers = {"authorization": "Bearer callers", "x-request-id": "a:b.c", "traceparent": trace, "tracestate": "a=1"}

    await call(app, "POST", "/v1/chat/completions", body, headers)
    response = await call(app, "POST", "/v1/chat/completions", body, {"traceparent": "wrong", "tracestate": "a=1"})

    first, second = upstream.asked
    assert first.url == "https://upstream.test/v1/chat/completions"
    assert upstream.asked_body == body
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert (first.headers["x-request-id"], first.headers["traceparent"]) == ("a:b.c", trace)
    assert first.headers["accept-encoding"] == "identity"
    assert first.headers["tracestate"] == "a=1"
    assert not {"traceparent", "tracestate", "cookie"} & set(second.headers)
    assert second.headers["x-request-id"] == response.headers["x-request-id"]


async def test_upstream_id(tmp_path: Path) -> None:
    """A model may have another name upstream; without a key none is sent."""
    file = tmp_path / "models.toml"
    file.write_text(
        '[[models]]\nid = "ours"\nupstream_id = "theirs"\ntier = "cloud-fast"\ncontext_window_tokens = 8\n'
        "input_usd_per_million = 0\noutput_usd_per_million = 0\n"
    )
    upstream = FakeUpstream.plain({"object": "list", "data": [{"embedding": [0.5], "index": 0}]})
    app = service(upstream, models_file=file, upstream_key=None)

    response = await call(app, "POST", "/v1/embeddings", {"model": "ours", "input": "a"})

    assert response.status_code == 200
    assert json.loads(upstream.asked_body) == {"model": "theirs", "input": "a"}
    assert "authorization" not in upstream.asked[0].headers


@pytest.mark.parametrize("asked", ["bad id", "x" * 129, "ü", ""])
async def test_bad_request_id_is_replaced(asked: str) -> None:
    """A request id that could break a log line or a header is not taken."""
    headers = {"x-request-id": asked.encode("latin-1").decode("latin-1")}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(service(FakeUpstream())), base_url="http://cloud.test"
    ) as client:
        response = await client.get("/health", headers=httpx.Headers(headers, encoding="latin-1"))

    assert response.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "expected"),
    [
        pytest.param("GET", "/nope", None, {}, (404, "not_found"), id="path"),
        pytest.param("GET", "/v1/chat/completions/", None, {}, (404, "not_found"), id="slash"),
        pytest.param("GET", "/v1/chat/completions", None, {}, (405, "method_not_allowed"), id="method"),
        pytest.param("POST", "/health", b"", {}, (405, "method_not_allowed"), id="method on health"),
        pytest.param("POST", "/v1/chat/completions", b"{", {}, (400, "invalid_json"), id="json"),
        pytest.param("POST", "/v1/chat/completions", b" " * 101, {}, (413, "body_too_large"), id="size"),
        pytest.param(
            "POST", "/v1/embeddings", {"model": "other"}, {}, (404, "model_not_found"), id="unknown model"
        ),
        pytest.param(
            "POST", "/v1/completions", b"{}", {"content-type": "text/plain"},
            (415, "unsupported_media_type"), id="media type",
        ),
        pytest.param(
            "POST", "/v1/completions", b"{}", {"content-encoding": "gzip"},
            (415, "unsupported_media_type"), id="compressed",
        ),
    ],
)  # fmt: skip
async def test_rejected(method: str, path: str, body: Any, headers: dict[str, str], expected: tuple[int, str]) -> None:
    """What is wrong with the request is said in OpenAI's shape, and nothing goes upstream."""
    upstream = FakeUpstream()

    response = await call(service(upstream, max_body_bytes=100), method, path, body, headers)

    assert code_of(response) == expected
    assert not upstream.asked
    if response.status_code == 405:
        assert response.headers["allow"] == ("POST" if "v1" in path else "GET, HEAD")


async def test_size_without_a_declared_length() -> None:
    """A body sent in chunks is counted."""

    async def parts() -> Any:
        for _ in range(20):
            yield b" " * 10

    transport = httpx.ASGITransport(service(FakeUpstream(), max_body_bytes=100))
    async with httpx.AsyncClient(transport=transport, base_url="http://cloud.test") as client:
        response = await client.post("/v1/completions", content=parts())

    assert code_of(response) == (413, "body_too_large")


LEAK = {"message": f"{KEY} {PROMPT} upstream-trace", "type": "t" * 65, "param": "messages[0]", "code": "bad"}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    ("upstream", "expected"),
    [
        (FakeUpstream.plain({"error": LEAK}, 400), (400, "bad")),
        (FakeUpstream.plain({"error": LEAK}, 404), (404, "bad")),
        (FakeUpstream.plain(b"<html>upstream-trace", 413), (413, None)),
        (FakeUpstream.plain({"error": {"code": "sk-abcdefghijklmnop0123", "type": 1}}, 422), (422, None)),
        (FakeUpstream.plain({"error": "upstream-trace"}, 400), (400, None)),
        (FakeUpstream.plain({"error": LEAK}, 401), (502, "upstream_auth")),
        (FakeUpstream.plain({"error": LEAK}, 403), (502, "upstream_auth")),
        (FakeUpstream.plain({"error": LEAK}, 429), (429, "rate_limited")),
        (FakeUpstream.plain({}, 408), (504, "upstream_timeout")),
        (FakeUpstream.plain({}, 418), (502, "upstream_error")),
        (FakeUpstream.plain({"error": LEAK}, 500), (502, "upstream_error")),
        (FakeUpstream.plain({}, 503), (502, "upstream_error")),
        (FakeUpstream.plain({}, 302, location="http://x"), (502, "upstream_error")),
        (FakeUpstream([b"a", STALL], status=500), (502, "upstream_error")),
        (FakeUpstream([b"a" * 70_000, STALL], status=400), (400, None)),
        (FakeUpstream.plain(b""), (502, "upstream_error")),
        (FakeUpstream.plain(b"<html>"), (502, "upstream_error")),
        (FakeUpstream.plain([]), (502, "upstream_error")),
        (FakeUpstream.plain({"choices": []}), (502, "upstream_error")),
        (FakeUpstream.plain({"error": LEAK}), (502, "upstream_error")),
        (FakeUpstream.plain({"error": {"code": []}}), (502, "upstream_error")),
        (FakeUpstream.plain({"error": {"type": "rate_limit_error"}}), (429, "rate_limited")),
        (FakeUpstream.plain({"error": {"status": 400, "code": "bad"}}), (400, "bad")),
        (FakeUpstream.plain(COMPLETION, content_type="text/html"), (502, "upstream_error")),
        (FakeUpstream([b"{}"]), (502, "upstream_error")),
        (FakeUpstream(failure=httpx.ConnectError("upstream-trace")), (502, "upstream_unreachable")),
        (FakeUpstream(failure=httpx.ConnectTimeout("upstream-trace")), (504, "upstream_timeout")),
        (FakeUpstream(failure=httpx.RemoteProtocolError("upstream-trace")), (502, "upstream_error")),
        (FakeUpstream(never_answers=True), (504, "upstream_timeout")),
    ],
)
async def test_upstream_failure(upstream: FakeUpstream, expected: tuple[int, str | None], stream: bool) -> None:
    """Before the first byte every failure has its status and code, and the upstream's words stay inside."""
    response = await chat(upstream, stream=stream)

    assert code_of(response) == expected
    assert all(body.is_closed.is_set() for body in upstream.bodies)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param([b'{"id": ', STALL], (504, "upstream_timeout"), id="stall"),
        pytest.param([b'{"id": ', httpx.ReadError("x")], (502, "upstream_error"), id="cut"),
        pytest.param([b" " * 200], (502, "upstream_error"), id="too large"),
    ],
)
async def test_plain_body_breaks(steps: list[Any], expected: tuple[int, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain answer that stops half way is an error with a status."""
    monkeypatch.setattr(forwarding, "MAX_ANSWER_BYTES", 100)

    response = await chat(FakeUpstream(steps, headers={"content-type": "application/json"}))

    assert code_of(response) == expected


@pytest.mark.parametrize(("given", "kept"), [("7", "7"), ("Wed, 21 Oct 2026 07:28:00 GMT",) * 2, ("<x>", None)])
async def test_retry_after(given: str, kept: str | None) -> None:
    """The upstream's Retry-After is kept when it looks like one."""
    response = await chat(FakeUpstream.plain({}, 429, retry_after=given))

    assert response.headers.get("retry-after") == kept


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param([], (502, "upstream_error"), id="empty"),
        pytest.param([b": hi\n\n"], (502, "upstream_error"), id="comments only"),
        pytest.param([DONE], (502, "upstream_error"), id="done only"),
        pytest.param([b'data: {"error": {"code": 429}}\n\n'], (429, "rate_limited"), id="error event"),
        pytest.param([b": hi\n\n", STALL], (504, "upstream_timeout"), id="silent"),
        pytest.param([httpx.ReadError("x")], (502, "upstream_error"), id="cut"),
        pytest.param([b"<html>\n\n"], (502, "upstream_error"), id="html"),
    ],
)
async def test_stream_fails_at_the_start(steps: list[Any], expected: tuple[int, str]) -> None:
    """A stream that answers 200 and then has nothing good to say still becomes a status."""
    upstream = FakeUpstream.streaming(*steps)

    response = await chat(upstream, stream=True)

    assert code_of(response) == expected
    assert upstream.bodies[0].is_closed.is_set()


async def test_stream_is_unchanged() -> None:
    """A good stream passes byte for byte, comments and all."""
    parts = [b": hi\n\n", chunk("Grüße"), chunk("👋"), DONE]
    response = await chat(FakeUpstream.streaming(*parts, DONE), stream=True)

    assert response.content == b"".join(parts)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "upstream;dur=" in response.headers["server-timing"]


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        pytest.param([httpx.ReadError("x")], "upstream_error", id="cut"),
        pytest.param([chunk("👋")[:-20]], "upstream_error", id="end within an event"),
        pytest.param([STALL], "upstream_timeout", id="stall"),
        pytest.param([], "upstream_error", id="no done"),
        pytest.param([b"data: {\n\n"], "upstream_error", id="malformed"),
        pytest.param([b'data: {"error": {"message": "upstream-trace"}}\n\n'], "upstream_error", id="event"),
        pytest.param([ValueError("a bug")], "upstream_error", id="crash"),
    ],
)
async def test_stream_fails_later(steps: list[Any], code: str) -> None:
    """After the first event a failure is one error event, then `[DONE]`; the upstream is closed."""
    upstream = FakeUpstream.streaming(chunk(), *steps)

    response = await chat(upstream, stream=True)

    assert response.status_code == 200
    assert_lawful_failure(response.content, code)
    assert not any(secret in response.text for secret in SECRETS)
    assert upstream.bodies[0].is_closed.is_set()


async def test_upstream_that_stays_open_after_done() -> None:
    """The answer ends at `[DONE]`, however long the upstream keeps its side open."""
    upstream = FakeUpstream.streaming(chunk(), DONE, STALL)

    response = await chat(upstream, stream=True)

    assert response.content == chunk() + DONE
    assert upstream.bodies[0].is_closed.is_set()


async def test_json_although_a_stream_was_asked() -> None:
    """It becomes the stream that was asked for: role first, then all of the message, then the reason."""
    call_ = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "Grüße", "refusal": None, "tool_calls": [call_]}
    choice = {"index": 0, "message": message, "logprobs": {"content": []}, "finish_reason": "tool_calls"}
    answer = {**COMPLETION, "choices": [choice]}
    options = {"include_usage": True}

    response = await chat(FakeUpstream.plain(answer), stream=True, stream_options=options)

    role, content, finish, usage, done = events(response.content)
    assert role["choices"] == [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
    assert content["choices"][0]["delta"] == {"content": "Grüße", "tool_calls": [{"index": 0, **call_}]}
    assert content["choices"][0]["logprobs"] == {"content": []}
    assert finish["choices"] == [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]
    assert (usage["choices"], usage["usage"]) == ([], COMPLETION["usage"])
    assert {(event["id"], event["object"]) for event in (role, content, finish, usage)} == {
        ("chatcmpl-1", "chat.completion.chunk")
    }
    assert done == "[DONE]"
    assert response.headers["content-type"].startswith("text/event-stream")


async def test_json_as_completions_stream() -> None:
    """The same for /v1/completions; usage only when it was asked for."""
    answer = {"id": "cmpl-1", "choices": [{"text": "a", "index": 0, "finish_reason": "length"}], "usage": {"x": 1}}
    body = {"model": "gpt-4o", "prompt": "a", "stream": True}

    response = await call(service(FakeUpstream.plain(answer)), "POST", "/v1/completions", body)

    one, done = events(response.content)
    assert one["choices"] == [{"text": "a", "index": 0, "finish_reason": "length"}]
    assert (one["object"], done) == ("text_completion", "[DONE]")


@pytest.mark.parametrize(
    ("path", "item", "is_good"),
    [
        ("chat/completions", {"message": {"content": "a"}}, True),
        ("chat/completions", {"message": {"content": None, "tool_calls": [{}]}}, True),
        ("chat/completions", {"message": {"content": 1}}, False),
        ("chat/completions", {"message": {"content": "a"}, "finish_reason": 1}, False),
        ("chat/completions", {"message": {"content": "a"}, "index": "0"}, False),
        ("chat/completions", {"message": {"content": "a", "tool_calls": [1]}}, False),
        ("chat/completions", {"message": {}}, False),
        ("chat/completions", {"message": None}, False),
        ("chat/completions", "a", False),
        ("completions", {"text": "a"}, True),
        ("completions", {"text": None}, False),
        ("embeddings", {"embedding": "AAAA"}, True),
        ("embeddings", {"embedding": None}, False),
    ],
)
async def test_shape_of_plain_answers(path: str, item: object, is_good: bool) -> None:
    """Garbage with status 200 is the upstream's fault, not an answer."""
    answer = {"data" if path == "embeddings" else "choices": [item]}

    response = await call(service(FakeUpstream.plain(answer)), "POST", f"/v1/{path}", {"model": "gpt-4o"})

    assert response.status_code == (200 if is_good else 502)


async def test_first_chunk_leaves_before_the_second_arrives() -> None:
    """Nothing is buffered: each chunk is sent before the upstream has written the next."""
    second, third = asyncio.Event(), asyncio.Event()
    upstream = FakeUpstream.streaming(chunk("1"), second, chunk("2"), third, DONE)
    app = service(upstream)
    talk = Conversation(app, {"model": "gpt-4o", "stream": True})

    assert await talk.parts.get() == chunk("1")
    second.set()
    assert await talk.parts.get() == chunk("2")
    third.set()
    assert await talk.parts.get() == DONE
    await talk.task


async def test_caller_hangs_up_on_a_stream(capsys: pytest.CaptureFixture[str]) -> None:
    """The upstream is closed at once."""
    upstream = FakeUpstream.streaming(chunk(), STALL)
    talk = Conversation(service(upstream, stream_idle_s=60), {"model": "gpt-4o", "stream": True})
    await talk.parts.get()

    talk.hang_up()

    await asyncio.wait_for(upstream.bodies[0].is_closed.wait(), 10)
    await talk.task
    assert '"reason": "caller_gone"' in capsys.readouterr().err


async def test_caller_hangs_up_before_the_answer() -> None:
    """A call that has no answer yet is cancelled."""
    upstream = FakeUpstream(never_answers=True)
    talk = Conversation(service(upstream, first_byte_timeout_s=60), {"model": "gpt-4o"})
    await upstream.arrived.wait()

    talk.hang_up()
    await asyncio.wait_for(talk.task, 10)

    assert upstream.is_cancelled
    assert talk.status is None


async def test_caller_hangs_up_within_the_body() -> None:
    """Half a request goes nowhere."""
    upstream = FakeUpstream()
    talk = Conversation(service(upstream), {"model": "gpt-4o"})
    talk._request[0]["more_body"] = True

    talk.hang_up()
    await talk.task

    assert not upstream.asked


async def test_logs_hold_no_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON line a request with ids, names and times; no prompt, answer or key, also after a crash."""
    upstream = FakeUpstream(failure=RuntimeError("a bug"))
    messages = [{"role": "user", "content": PROMPT}]
    app = service(upstream)
    headers = {"x-request-id": "id-1", "authorization": "Bearer callers-key"}

    body = {"model": "gpt-4o", "messages": messages}
    crashed = await call(app, "POST", "/v1/chat/completions?q=callers-key", body, headers)
    upstream.failure = None
    upstream.headers = {"content-type": "application/json"}
    upstream.steps = [json.dumps(COMPLETION).encode()]
    await call(app, "POST", "/v1/chat/completions", body, headers)
    await call(app, "POST", "/v1/chat/completions", {"model": PROMPT}, headers)

    assert code_of(crashed) == (500, None)
    lines = capsys.readouterr().err
    trace, first, second, third = map(json.loads, lines.splitlines())
    assert "RuntimeError: a bug" in trace["exception"]
    assert (first["status"], first["reason"], first["request_id"]) == (500, "crash", "id-1")
    assert (second["status"], second["reason"], second["model"]) == (200, None, "gpt-4o")
    assert (third["status"], third["reason"], third["model"]) == (404, "model_not_found", None)
    assert second["total_ms"] >= second["upstream_ms"] >= 0
    assert not any(text in lines for text in (*SECRETS, "callers-key", "Grüße", "\\u00fc"))


async def test_lifespan() -> None:
    """The pool is closed at the end."""
    sent: list[str] = []
    inbox = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Any:
        return inbox.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await service(FakeUpstream())({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)

    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_body_that_does_not_arrive() -> None:
    """Is waited for as long as body_timeout_s; then the caller is told, and nobody is asked."""
    upstream = FakeUpstream()
    talk = Conversation(service(upstream, body_timeout_s=0.02), {"model": "gpt-4o"})
    talk._request[0]["more_body"] = True
    await talk.task

    assert (talk.status, upstream.asked) == (408, [])

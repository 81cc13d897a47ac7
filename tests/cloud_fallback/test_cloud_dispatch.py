"""Which upstream answers: retries, equals, fallbacks, all before the first byte and before the deadline."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_fallback import upstream
from cloud_fallback.breaker import MIN_CALLS
from tests.cloud_fallback.harness import (
    COMPLETION,
    DONE,
    STALL,
    Conversation,
    ScriptedBody,
    call,
    chunk,
    events,
    service,
)

CATALOG = """
[[upstreams]]
id = "one"
base_url = "https://one.test/v1"
key_variable = "KEY_ONE"

[[upstreams]]
id = "two"
base_url = "https://two.test/v1"
max_concurrency = 1
max_queue = 0

[[models]]
id = "single"
upstreams = ["one"]

[[models]]
id = "twin"
upstreams = ["one", "two"]

[[models]]
id = "narrow"
upstreams = ["two"]

[[models]]
id = "chained"
upstreams = ["one"]
fallbacks = ["narrow"]

[[models]]
id = "seeing"
upstreams = ["one"]
features = ["vision", "tools"]
fallbacks = ["narrow"]

[[models]]
id = "joined"
upstreams = ["one"]
fallbacks = ["narrow"]
batching = {}

[[models]]
id = "frugal"
upstreams = ["two"]
fallbacks = ["rich", "single"]

[[models]]
id = "rich"
upstreams = ["one"]
features = ["vision"]
usd_per_day = 0.000004
"""
REST = 'tier = "cloud-fast"\ncontext_window_tokens = 8\ninput_usd_per_million = 1.0\noutput_usd_per_million = 1.0\n'
OK = (200, json.dumps(COMPLETION).encode())
BUSY = (503, b"{}")

Answer = tuple[int, bytes] | Exception | float


class Hosts(httpx.AsyncBaseTransport):
    """Each host answers by its own script, the last line of it for ever; a number waits that many seconds."""

    def __init__(self, **scripts: list[Answer]) -> None:
        self._scripts = scripts
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        self.keys: list[str | None] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host.removesuffix(".test")
        self.asked.append(host)
        self.keys.append(request.headers.get("authorization"))
        script = self._scripts[host]
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            answer = OK
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        kind = "text/event-stream" if body.startswith(b"data:") else "application/json"
        return httpx.Response(status, headers={"content-type": kind, **self.headers}, stream=ScriptedBody([body]))


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("KEY_ONE", "sk-one")
    file = tmp_path / "models.toml"
    file.write_text(CATALOG.replace("[[models]]\n", f"[[models]]\n{REST}"))

    def make(hosts: Hosts, **settings: Any) -> Any:
        fast = {"attempts": 3, "backoff_s": 0.001, "models_file": file}
        return service(hosts, **{"upstream_url": None, "upstream_key": "sk-default", **fast, **settings})

    return make


async def ask(app: Any, model: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await call(app, "POST", "/v1/chat/completions", {"model": model, "messages": []}, named)


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(httpx.ConnectError("x"), id="connection"),
        pytest.param(httpx.ConnectTimeout("x"), id="connection in time"),
        pytest.param(httpx.RemoteProtocolError("x"), id="kept connection that was closed"),
        *(pytest.param((status, b"{}"), id=str(status)) for status in (408, 409, 429, 500, 502, 503, 529)),
        pytest.param((200, b"data: [DONE]\n\n"), id="empty stream"),
        pytest.param((200, b"{"), id="half an answer"),
    ],
)
async def test_retried(failure: Answer, app: Callable[..., Any]) -> None:
    """What may pass by is tried again, and the caller sees a good answer and how many calls it took."""
    hosts = Hosts(one=[failure, OK])

    response = await ask(app(hosts), "single")

    assert response.status_code == 200
    assert (hosts.asked, response.headers["nearside-cloud-attempts"]) == (["one", "one"], "2")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 302, 418])
async def test_not_retried(status: int, app: Callable[..., Any]) -> None:
    """What would come out the same is not asked again."""
    hosts = Hosts(one=[(status, b"{}"), OK])

    response = await ask(app(hosts), "single")

    assert response.status_code >= 400
    assert hosts.asked == ["one"]


async def test_gives_up(app: Callable[..., Any]) -> None:
    """After so many calls the last failure is the answer."""
    hosts = Hosts(one=[BUSY])

    response = await ask(app(hosts), "single")

    assert (response.status_code, len(hosts.asked)) == (502, 3)


async def test_stream_is_retried_before_its_first_event_only(app: Callable[..., Any]) -> None:
    """An error as the first event is retried unseen; after content there is one error event and no second call."""
    hosts = Hosts(one=[(200, b'data: {"error": {"message": "x"}}\n\n'), (200, chunk() + b"data: {\n\n")])
    body = {"model": "single", "messages": [], "stream": True}

    response = await call(app(hosts), "POST", "/v1/chat/completions", body)

    first, error, done = events(response.content)
    assert (response.status_code, hosts.asked) == (200, ["one", "one"])
    assert (first["choices"][0]["delta"]["content"], error["error"]["code"], done) == ("hi", "upstream_error", "[DONE]")


@pytest.mark.parametrize(
    ("retry_after", "calls"),
    [("0", 2), ("1", 2), ("3", 1), ("Wed, 21 Oct 2026 07:28:00 GMT", 1)],
)
async def test_retry_after(retry_after: str, calls: int, app: Callable[..., Any]) -> None:
    """Honoured when it is short; a longer one is the caller's to wait for."""
    hosts = Hosts(one=[(429, b"{}"), OK])
    hosts.headers = {"retry-after": retry_after}
    started_s = time.monotonic()

    response = await ask(app(hosts), "single")

    assert len(hosts.asked) == calls
    assert response.status_code == (200 if calls == 2 else 429)
    if calls == 2:
        assert time.monotonic() - started_s >= float(retry_after)
    else:
        assert response.headers["retry-after"] == retry_after


async def test_deadline(app: Callable[..., Any]) -> None:
    """The caller's deadline ends a call that is waited for, and no wait begins that it would cut short."""
    slow, busy = Hosts(one=[30.0]), Hosts(one=[(429, b"{}")])
    busy.headers = {"retry-after": "2"}

    async with asyncio.timeout(20):
        late = await ask(app(slow), "single", nearside_deadline_ms="50")
        limited = await ask(app(busy), "single", nearside_deadline_ms="500")

    assert (late.status_code, late.json()["error"]["code"]) == (504, "upstream_timeout")
    assert (limited.status_code, len(busy.asked)) == (429, 1)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "99999999"])
async def test_wrong_deadline(value: str, app: Callable[..., Any]) -> None:
    """A deadline that can't be read is told, not guessed."""
    hosts = Hosts(one=[OK])

    response = await ask(app(hosts), "single", nearside_deadline_ms=value)

    assert (response.status_code, response.json()["error"]["param"]) == (400, "nearside-deadline-ms")
    assert not hosts.asked


async def test_equals_fail_over_at_once(app: Callable[..., Any]) -> None:
    """The other of two equals is asked without a wait; each gets its own key, and one without gets none."""
    hosts = Hosts(one=[BUSY], two=[OK])

    response = await ask(app(hosts, backoff_s=60.0), "twin")

    assert response.status_code == 200
    assert hosts.asked == ["one", "two"]
    assert hosts.keys == ["Bearer sk-one", None]


async def test_quicker_equal_is_preferred(app: Callable[..., Any]) -> None:
    """Once both are known, calls go to the quicker one."""
    hosts = Hosts(one=[0.3], two=[0.001])
    made = app(hosts)

    for _ in range(8):
        await ask(made, "twin")

    assert hosts.asked[:2] == ["one", "two"]
    assert hosts.asked[2:] == ["two"] * 6


async def test_fallback_model(app: Callable[..., Any]) -> None:
    """When nobody has the model its fallback answers, and the answer says which one it was."""
    hosts = Hosts(one=[BUSY], two=[OK])

    response = await ask(app(hosts), "chained")

    assert (response.status_code, response.headers["nearside-cloud-model"]) == (200, "narrow")
    assert hosts.asked == ["one"] * 3 + ["two"]


async def test_caller_who_wants_no_fallback(app: Callable[..., Any]) -> None:
    """Hears of the failure; equals and retries of the model that was asked for stay."""
    hosts = Hosts(one=[BUSY], two=[OK])
    made = app(hosts)

    failed = await ask(made, "chained", nearside_fallbacks="off")
    answered = await ask(made, "twin", nearside_fallbacks="off")

    assert (failed.status_code, answered.status_code) == (502, 200)
    assert hosts.asked == ["one"] * 4 + ["two"]


async def test_joined_embeddings(app: Callable[..., Any]) -> None:
    """Who wants no fallback is not joined with others, who are told which model answered them."""
    vectors = {"data": [{"index": 0, "embedding": [0.0]}]}
    hosts = Hosts(one=[BUSY], two=[(200, json.dumps(vectors).encode())])
    made, body = app(hosts), {"model": "joined", "input": "a"}

    answered, failed = await asyncio.gather(
        *(call(made, "POST", "/v1/embeddings", body, named) for named in ({}, {"nearside-fallbacks": "off"}))
    )

    assert (failed.status_code, answered.status_code) == (502, 200)
    assert (answered.json(), answered.headers["nearside-cloud-model"]) == (vectors, "narrow")


@pytest.mark.parametrize("value", ["", "on", "OFF", "no"])
async def test_wrong_word_for_fallbacks(value: str, app: Callable[..., Any]) -> None:
    """Is told, not guessed: what was meant may be a promise to somebody."""
    hosts = Hosts(one=[OK])

    response = await ask(app(hosts), "chained", nearside_fallbacks=value)

    assert (response.status_code, response.json()["error"]["param"]) == (400, "nearside-fallbacks")
    assert not hosts.asked


async def test_rejection_is_final(app: Callable[..., Any]) -> None:
    """A call that is wrong is not shown to the fallback."""
    hosts = Hosts(one=[(400, b"{}")], two=[OK])

    assert (await ask(app(hosts), "chained")).status_code == 400
    assert hosts.asked == ["one"]


IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://127.0.0.1/a.png"}}]}


async def test_image_for_a_model_without_eyes(app: Callable[..., Any]) -> None:
    """No upstream sees the address, which it might fetch."""
    hosts = Hosts(one=[OK])

    response = await call(app(hosts), "POST", "/v1/chat/completions", {"model": "single", "messages": [IMAGE]})

    assert (response.status_code, response.json()["error"]["code"]) == (400, "unsupported_value")
    assert hosts.asked == []


@pytest.mark.parametrize("asked", [{"messages": [IMAGE]}, {"messages": [], "tools": [{"type": "function"}]}])
async def test_fallback_without_the_features_is_not_asked(asked: dict[str, Any], app: Callable[..., Any]) -> None:
    hosts = Hosts(one=[BUSY], two=[OK])

    response = await call(app(hosts), "POST", "/v1/chat/completions", {"model": "seeing", **asked})

    assert (response.status_code, set(hosts.asked)) == (502, {"one"})


async def test_fallback_for_plain_text_needs_no_features(app: Callable[..., Any]) -> None:
    hosts = Hosts(one=[BUSY], two=[OK])

    assert (await ask(app(hosts), "seeing")).headers["nearside-cloud-model"] == "narrow"


async def test_open_breaker(app: Callable[..., Any]) -> None:
    """An upstream that keeps failing is not asked for a while; callers hear at once and when to come again."""
    hosts = Hosts(one=[BUSY])
    made = app(hosts, attempts=1)
    for _ in range(MIN_CALLS):
        await ask(made, "single")

    response = await ask(made, "single")
    ready = await call(made, "GET", "/ready")

    assert (response.status_code, response.json()["error"]["code"]) == (503, "upstream_open")
    assert response.headers["retry-after"] == "1"
    assert len(hosts.asked) == MIN_CALLS
    assert (ready.status_code, ready.json()["open_breakers"]) == (200, {"one": ["single"], "two": []})


async def test_full_bulkhead(app: Callable[..., Any]) -> None:
    """More calls than an upstream may have are refused with 503 and Retry-After, and never reach it."""
    hosts = Hosts(two=[0.1])
    made = app(hosts)

    answers = await asyncio.gather(*(ask(made, "narrow") for _ in range(5)))

    assert sorted(answer.status_code for answer in answers) == [200, 503, 503, 503, 503]
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert (refused.json()["error"]["code"], refused.headers["retry-after"]) == ("upstream_saturated", "1")
    assert hosts.asked == ["two"]


async def test_place_is_given_back(app: Callable[..., Any]) -> None:
    """After streams, failures and answers alike the place is free again."""
    hosts = Hosts(two=[(200, chunk() + DONE), (200, chunk()), (400, b"{}"), BUSY, OK])
    made = app(hosts, attempts=1)
    body = {"model": "narrow", "messages": [], "stream": True}

    statuses = [(await call(made, "POST", "/v1/chat/completions", body)).status_code for _ in range(5)]

    assert statuses == [200, 200, 400, 502, 200]


async def test_budget_of_a_day(app: Callable[..., Any]) -> None:
    """A model that has cost what it may answers 429 and is not asked."""
    hosts = Hosts(one=[OK])
    made = app(hosts)

    statuses = [(await ask(made, "rich")).status_code for _ in range(4)]

    assert statuses == [200, 200, 429, 429]
    assert len(hosts.asked) == 2


LONG = "x" * 40  # ten tokens, where the day of `rich` has four
UNCOUNTED = (200, json.dumps({"choices": [{"message": {"content": LONG}}]}).encode())


@pytest.mark.parametrize(
    ("status", "begin", "expected"),
    [
        pytest.param(200, b"", (504, "upstream_timeout"), id="an answer"),
        pytest.param(500, b"", (502, "upstream_error"), id="an error"),
        pytest.param(400, b'{"error": {"code": "bad"}}', (400, "bad"), id="a rejection"),
    ],
)
async def test_body_that_trickles(
    status: int, begin: bytes, expected: tuple[int, str], app: Callable[..., Any]
) -> None:
    """A body that never falls silent and never ends has until first_byte_timeout_s; of an error counts what came."""

    class Trickle(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield begin
            while True:
                await asyncio.sleep(0.01)
                yield b" "

    class Trickling(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(status, headers={"content-type": "application/json"}, stream=Trickle())

    made = app(Trickling(), attempts=1, first_byte_timeout_s=0.3, stream_idle_s=60.0)
    async with asyncio.timeout(10):
        answers = [await ask(made, "narrow") for _ in range(2)]  # the second finds the only place free again

    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [expected] * 2


@pytest.mark.parametrize(
    ("content", "answer", "status"),
    [
        pytest.param("", (200, chunk(LONG)), 429, id="a stream that breaks off"),
        pytest.param("", (200, chunk(usage={"prompt_tokens": None}) + chunk(LONG) + DONE), 429, id="odd counts"),
        pytest.param("", UNCOUNTED, 429, id="a plain answer"),
        pytest.param(LONG, (200, chunk()), 429, id="a long question"),
        pytest.param("", (200, chunk()), 200, id="a short one"),
        pytest.param([{"type": "file", "file": {"file_data": LONG}}], (200, chunk()), 200, id="a file"),
        pytest.param(LONG, (200, chunk(LONG, usage=COMPLETION["usage"]) + DONE), 200, id="counted"),
    ],
)
async def test_answer_whose_tokens_nobody_counted(
    content: Any, answer: Answer, status: int, app: Callable[..., Any]
) -> None:
    """Costs the day of its model what they seem to be."""
    made = app(Hosts(one=[answer, OK]))
    body = {"model": "rich", "messages": [{"role": "user", "content": content}], "stream": answer is not UNCOUNTED}
    await call(made, "POST", "/v1/chat/completions", body)

    assert (await ask(made, "rich")).status_code == status


async def test_stream_whose_caller_leaves(app: Callable[..., Any]) -> None:
    """Costs the day of its model what came until then."""

    class Endless(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            kind = {"content-type": "text/event-stream"}
            return httpx.Response(200, headers=kind, stream=ScriptedBody([chunk(LONG), STALL]))

    made = app(Endless(), stream_idle_s=60.0)
    caller = Conversation(made, {"model": "rich", "messages": [], "stream": True})
    await caller.parts.get()
    caller.hang_up()
    await caller.task

    assert (await ask(made, "rich")).status_code == 429


async def test_fallback_whose_day_is_spent(app: Callable[..., Any]) -> None:
    """Is passed over for the next one, whoever spent it."""
    made = app(Hosts(one=[OK], two=[BUSY]), attempts=1)

    answered = [(await ask(made, model)).headers["nearside-cloud-model"] for model in ("rich", "frugal", "frugal")]

    assert answered == ["rich", "rich", "single"]


async def test_missing_key_stops_the_start(app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that the catalog names and nobody has set is one line at the start."""
    monkeypatch.delenv("KEY_ONE")

    with pytest.raises(SystemExit, match="KEY_ONE: must be set"):
        app(Hosts())


async def test_stalled_upstream_counts_as_failed(app: Callable[..., Any]) -> None:
    """A stream that falls silent is its upstream's failure, and enough of them open the breaker."""

    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            kind = {"content-type": "text/event-stream"}
            return httpx.Response(200, headers=kind, stream=ScriptedBody([chunk(), STALL]))

    made = app(Silent(), attempts=1, stream_idle_s=0.01)
    body = {"model": "single", "messages": [], "stream": True}
    for _ in range(MIN_CALLS):
        await call(made, "POST", "/v1/chat/completions", body)

    assert (await call(made, "GET", "/ready")).json()["open_breakers"]["one"] == ["single"]


async def test_full_equal_hides_no_failure(app: Callable[..., Any]) -> None:
    """Of two upstreams one failed and the other had no place: the answer tells of the failure."""
    hosts = Hosts(one=[BUSY], two=[60.0])
    made = app(hosts, attempts=1, first_byte_timeout_s=60.0)
    busy = asyncio.create_task(ask(made, "narrow"))
    while not hosts.asked:  # noqa: ASYNC110
        await asyncio.sleep(0.001)

    response = await ask(made, "twin")
    busy.cancel()

    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_error")


async def test_health_of_many_models(app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Is kept of those that were asked last; another one begins anew."""
    monkeypatch.setattr(upstream, "MAX_MODELS", 1)
    made = app(Hosts(one=[BUSY], two=[OK]), attempts=1)
    for _ in range(MIN_CALLS):
        await ask(made, "single")
    closed = (await ask(made, "single")).json()["error"]["code"]
    await ask(made, "rich")

    assert (closed, (await ask(made, "single")).json()["error"]["code"]) == ("upstream_open", "upstream_error")

"""The way of a request through the real Worker: edge model, cloud, cache, plain and streamed."""

import json

import httpx
import pytest

from tests.edge.control import Control, chat, easy, events, eventually_cached, hard, streamed_text

pytestmark = pytest.mark.workerd

ALWAYS = {"nearside-colo", "nearside-client-rtt-ms", "x-request-id", "server-timing"}
ANSWERED = ALWAYS | {"nearside-served-by", "nearside-model", "nearside-tier", "nearside-route-reason", "cache-status"}


def test_health_needs_no_key_and_no_io(edge: httpx.Client, control: Control) -> None:
    """`GET /health` answers without touching a binding, also while no store and no object does."""
    for target in ("kv", "do", "ledger"):
        control.fault(target, "timeout")
    responses = [edge.get("/health") for _ in range(20)]

    assert {response.status_code for response in responses} == {200}
    assert {response.json()["status"] for response in responses} == {"ok"}
    assert control.counters()["kv"] < 20  # what earlier tests left to be written may still come


@pytest.mark.parametrize(
    ("prompt", "served_by", "reason", "counter"),
    [
        pytest.param(easy(), "edge-model", "simple", "ai", id="simple: Workers AI"),
        pytest.param(hard(), "cloud", "complex", "upstream", id="complex: cloud"),
    ],
)
def test_question_is_answered_where_it_belongs(
    edge: httpx.Client, control: Control, prompt: str, served_by: str, reason: str, counter: str
) -> None:
    """A simple question stays at the edge, a complex one goes to the cloud; both say so in headers and body."""
    response = edge.post("/v1/chat/completions", json=chat(prompt))

    body = response.json()
    assert response.status_code == 200
    assert response.headers.keys() >= ANSWERED
    assert response.headers["nearside-served-by"] == body["nearside"]["served_by"] == served_by
    assert response.headers["nearside-route-reason"] == reason
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"].startswith("[simulated answer by")
    assert body["model"].startswith("simulated/")
    assert body["usage"]["total_tokens"] > 0
    assert control.counters()[counter] == 1


@pytest.mark.parametrize("prompt", [pytest.param(easy(), id="edge"), pytest.param(hard(), id="cloud")])
def test_stream_is_whole_and_reports_first_and_last(edge: httpx.Client, control: Control, prompt: str) -> None:
    """Role first, one finish reason, `[DONE]` last; the report rides on the first and on the last chunk."""
    response = edge.post("/v1/chat/completions", json=chat(prompt, stream=True))

    *chunks, done = events(response)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers.keys() >= ANSWERED
    assert done == "[DONE]"
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [c["choices"][0]["finish_reason"] for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert ["nearside" in chunk for chunk in chunks] == [True, *[False] * (len(chunks) - 2), True]
    assert "ttft" in chunks[0]["nearside"]["timings_ms"]
    assert "total" in chunks[-1]["nearside"]["timings_ms"]
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_usage_chunk_comes_when_asked(edge: httpx.Client) -> None:
    """`include_usage` adds one chunk without choices before `[DONE]`."""
    body = chat(easy(), stream=True, stream_options={"include_usage": True})

    *_, usage, done = events(edge.post("/v1/chat/completions", json=body))

    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("prompt", [pytest.param(easy(), id="edge"), pytest.param(hard(), id="cloud")])
def test_second_identical_request_is_a_hit(edge: httpx.Client, control: Control, prompt: str) -> None:
    """The stored answer serves the plain request and the stream, and costs no model call."""
    body = chat(prompt)
    first = edge.post("/v1/chat/completions", json=body)
    eventually_cached(edge, body)
    calls = control.counters()

    plain = edge.post("/v1/chat/completions", json=body)
    stream = edge.post("/v1/chat/completions", json={**body, "stream": True})

    answer = first.json()["choices"][0]["message"]["content"]
    assert plain.headers["nearside-served-by"] == stream.headers["nearside-served-by"] == "exact-cache"
    assert plain.headers["cache-status"].startswith("nearside; hit; ttl=")
    assert int(plain.headers["age"]) >= 0
    assert plain.json()["choices"][0]["message"]["content"] == answer
    assert streamed_text(stream) == answer
    assert events(stream)[-1] == "[DONE]"
    after = control.counters()
    assert (after["ai"], after["upstream"]) == (calls["ai"], calls["upstream"])


def test_streamed_answer_is_stored_for_plain_requests(edge: httpx.Client) -> None:
    """One entry serves both: what was streamed first is a plain hit later."""
    body = chat(hard())
    streamed = streamed_text(edge.post("/v1/chat/completions", json={**body, "stream": True}))

    hit = eventually_cached(edge, body)

    assert hit.headers["nearside-served-by"] == "exact-cache"
    assert hit.json()["choices"][0]["message"]["content"] == streamed


@pytest.mark.parametrize(
    ("headers", "fields", "status"),
    [
        pytest.param({"cache-control": "no-cache"}, {}, "nearside; fwd=bypass", id="no-cache"),
        pytest.param({}, {"use_cache": False}, "nearside; fwd=bypass", id="use_cache false"),
        pytest.param({"nearside-use-cache": "false"}, {}, "nearside; fwd=bypass", id="use_cache header"),
    ],
)
def test_cache_can_be_bypassed(
    edge: httpx.Client, headers: dict[str, str], fields: dict[str, object], status: str
) -> None:
    """A request that wants a new answer gets one although an old one is stored."""
    body = chat(easy())
    eventually_cached(edge, body)

    response = edge.post("/v1/chat/completions", json={**body, **fields}, headers=headers)

    assert response.headers["nearside-served-by"] == "edge-model"
    assert response.headers["cache-status"].startswith(status)


def test_prompt_endpoint_answers_simply(edge: httpx.Client) -> None:
    """`POST /` takes a prompt and returns the answer, the colo and the time."""
    response = edge.post("/", json={"prompt": easy()}, headers={"nearside-emulate-cf": '{"colo": "CDG"}'})

    body = response.json()
    assert body["response"].startswith("[simulated answer by")
    assert body["location"] == "CDG"
    assert body["latency_ms"] >= 0
    assert body["nearside"]["served_by"] == "edge-model"


def test_route_explains_and_runs_nothing(edge: httpx.Client, control: Control) -> None:
    """`POST /v1/route` tells model, reason and candidates without a call."""
    response = edge.post("/v1/route", json=chat(hard()))

    assert response.json()["reason"] == "complex"
    assert response.json()["side"] == "cloud"
    assert (control.counters()["ai"], control.counters()["upstream"]) == (0, 0)


@pytest.mark.parametrize(
    ("model", "served_by"),
    [
        pytest.param("edge", "edge-model", id="edge"),
        pytest.param("cloud", "cloud", id="cloud"),
        pytest.param("@cf/zai-org/glm-4.7-flash", "edge-model", id="OpenAI-shaped edge model"),
        pytest.param("gpt-4o", "cloud", id="cloud model"),
    ],
)
def test_model_can_be_chosen(edge: httpx.Client, model: str, served_by: str) -> None:
    """`edge` and `cloud` force a side, an id pins the model."""
    for stream in (False, True):
        response = edge.post("/v1/chat/completions", json=chat(easy(), model=model, stream=stream))

        assert response.headers["nearside-served-by"] == served_by
        if "/" in model or model.startswith("gpt"):
            assert response.headers["nearside-model"] == model


def test_models_are_listed_and_found(edge: httpx.Client) -> None:
    """Every listed id can be looked up, slashes included."""
    ids = [model["id"] for model in edge.get("/v1/models").json()["data"]]

    assert {"auto", "edge", "cloud", "gpt-4o"} <= set(ids)
    assert edge.get("/v1/models/@cf/zai-org/glm-4.7-flash").json()["id"] == "@cf/zai-org/glm-4.7-flash"
    assert edge.get("/v1/models/nope").json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("cf", "colo", "rtt_ms"),
    [
        pytest.param('{"colo": "SIN", "clientTcpRtt": 42}', "SIN", "42", id="TCP"),
        pytest.param('{"colo": "GRU", "clientQuicRtt": 7}', "GRU", "7", id="QUIC"),
        pytest.param("{}", None, None, id="unknown is absent"),
    ],
)
def test_place_and_distance_come_from_the_request(
    edge: httpx.Client, cf: str, colo: str | None, rtt_ms: str | None
) -> None:
    """Colo and round trip are what Cloudflare measured, and absent when it did not."""
    response = edge.post("/v1/chat/completions", json=chat(easy()), headers={"nearside-emulate-cf": cf})

    assert response.headers.get("nearside-colo") == colo
    assert response.headers.get("nearside-client-rtt-ms") == rtt_ms


@pytest.mark.parametrize(
    ("colo", "latitude", "longitude", "region"),
    [
        pytest.param("XPA", "48.85", "2.35", "weur", id="Paris"),
        pytest.param("XSF", "37.77", "-122.42", "wnam", id="San Francisco"),
    ],
)
def test_nearest_region_answers(
    edge: httpx.Client, control: Control, colo: str, latitude: str, longitude: str, region: str
) -> None:
    """The cloud is asked in the region nearest to the caller, and the answer names it.

    At a place of its own, where no round trip was measured yet, and which is not among the known ones: the caller's
    coordinates decide.
    """
    cf = json.dumps({"colo": colo, "latitude": latitude, "longitude": longitude})

    response = edge.post("/v1/chat/completions", json=chat(hard()), headers={"nearside-emulate-cf": cf})

    assert response.headers["nearside-cloud-region"] == region
    assert float(response.headers["nearside-cloud-rtt-ms"]) >= 0
    assert control.counters()["cloud"][region] == 1

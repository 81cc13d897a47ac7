"""The simulated provider: OpenAI's API in health and under every fault."""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import numpy as np
import pytest

from scripts.local.emulator import EmulatorConfig
from scripts.local.faults import KINDS
from tests.local.emulator_client import NEVER_S, PATIENCE_S, SILENT_KINDS, Emulator, Received, started

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
    "required": ["city", "unit"],
}
TOOLS = [
    {"type": "function", "function": {"name": "other", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}},
]
NAMED = {"type": "function", "function": {"name": "weather"}}


async def test_plain_answer(emulator: Emulator) -> None:
    received = await emulator.chat()

    answer = received.json()
    choice = answer["choices"][0]
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert answer["model"] == "simulated/sim-small"
    assert answer["system_fingerprint"] == "fp_simulated"
    assert choice["message"]["content"].startswith("[simulated answer by sim-small] ")
    assert choice["finish_reason"] == "stop"
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0


async def test_stream_says_what_the_plain_answer_says(emulator: Emulator) -> None:
    """One token per chunk, usage last when asked for, then [DONE]."""
    plain = (await emulator.chat()).json()
    received = await emulator.chat(stream=True, stream_options={"include_usage": True})

    assert received.headers["Content-Type"] == "text/event-stream"
    assert received.text == plain["choices"][0]["message"]["content"]
    assert len(received.contents) == plain["usage"]["completion_tokens"]
    assert received.data[-1] == "[DONE]"
    assert received.chunks[-1] == {**received.chunks[-1], "choices": [], "usage": plain["usage"]}
    assert received.chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert all(chunk["usage"] is None for chunk in received.chunks[:-1])


async def test_stream_has_no_usage_unless_asked(emulator: Emulator) -> None:
    received = await emulator.chat(stream=True)

    assert not any("usage" in chunk for chunk in received.chunks)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_token_limit(emulator: Emulator, name: str) -> None:
    answer = (await emulator.chat(**{name: 7})).json()

    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 7


async def test_stop_sequences(emulator: Emulator) -> None:
    """The text ends before the first stop sequence in it."""
    answer = (await emulator.chat(stop=["nowhere", " by "])).json()

    assert answer["choices"][0]["message"]["content"] == "[simulated answer"
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_n_choices(emulator: Emulator) -> None:
    """Plain and streamed alike: n different answers, told apart by index."""
    plain = (await emulator.chat(n=2)).json()
    stream = await emulator.chat(n=2, stream=True)

    texts = [choice["message"]["content"] for choice in plain["choices"]]
    streamed = ["", ""]
    for chunk in stream.chunks:
        for choice in chunk["choices"]:
            streamed[choice["index"]] += choice["delta"].get("content") or ""
    assert texts[0] != texts[1]
    assert streamed == texts


@pytest.mark.parametrize("stream", [False, True])
async def test_json_schema(emulator: Emulator, stream: bool) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "w", "schema": SCHEMA, "strict": True}}
    received = await emulator.chat(response_format=wanted, stream=stream)

    text = received.text if stream else received.json()["choices"][0]["message"]["content"]
    assert json.loads(text) == {"city": "simulated city", "unit": "C"}


async def test_json_object(emulator: Emulator) -> None:
    """OpenAI wants the word json in the messages."""
    wanted = {"type": "json_object"}
    refused = await emulator.chat(response_format=wanted)
    answered = await emulator.chat(response_format=wanted, messages=[{"role": "user", "content": "Answer in JSON"}])

    assert refused.status == 400
    assert json.loads(answered.json()["choices"][0]["message"]["content"])["simulated"] is True


@pytest.mark.parametrize("choice", ["required", NAMED])
async def test_tool_call(emulator: Emulator, choice: Any) -> None:
    tools = TOOLS if choice is NAMED else TOOLS[1:]
    answer = (await emulator.chat(tools=tools, tool_choice=choice)).json()

    message = answer["choices"][0]["message"]
    function = message["tool_calls"][0]["function"]
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert message["content"] is None
    assert function["name"] == "weather"
    assert json.loads(function["arguments"]) == {"city": "simulated city", "unit": "C"}


async def test_tool_call_streams_in_pieces(emulator: Emulator) -> None:
    """Name and id first, then the arguments bit by bit."""
    received = await emulator.chat(tools=TOOLS, tool_choice=NAMED, stream=True)

    pieces = [delta["tool_calls"][0] for delta in received.deltas if "tool_calls" in delta]
    assert pieces[0]["function"] == {"name": "weather", "arguments": ""}
    assert pieces[0]["id"].startswith("call_")
    assert len(pieces) > 4
    assert json.loads("".join(piece["function"]["arguments"] for piece in pieces))["unit"] == "C"


async def test_a_model_free_to_choose_answers_with_text(emulator: Emulator) -> None:
    answer = (await emulator.chat(tools=TOOLS, tool_choice="auto")).json()

    assert "tool_calls" not in answer["choices"][0]["message"]


async def test_text_completions(emulator: Emulator) -> None:
    """A list of prompts gives a choice each; 16 tokens unless told otherwise."""
    body = {"model": "m", "prompt": ["one", "two"]}
    plain = (await emulator.send("provider", "/v1/completions", body)).json()
    stream = await emulator.send("provider", "/v1/completions", {**body, "prompt": "one", "stream": True})

    assert plain["object"] == "text_completion"
    assert [choice["index"] for choice in plain["choices"]] == [0, 1]
    assert plain["usage"]["completion_tokens"] == 32
    streamed = "".join(chunk["choices"][0]["text"] for chunk in stream.chunks)
    assert streamed == plain["choices"][0]["text"]


async def test_embeddings(emulator: Emulator) -> None:
    """float and base64 carry the same vectors; `dimensions` shortens them to unit vectors."""
    body: dict[str, Any] = {"model": "text-embedding-3-small", "input": ["one", "two"]}
    floats = (await emulator.send("provider", "/v1/embeddings", body)).json()
    base = (await emulator.send("provider", "/v1/embeddings", {**body, "encoding_format": "base64"})).json()
    short = (await emulator.send("provider", "/v1/embeddings", {**body, "dimensions": 64})).json()

    first = np.array(floats["data"][0]["embedding"], np.float32)
    decoded = np.frombuffer(base64.b64decode(base["data"][0]["embedding"]), np.float32)
    assert first.shape == (384,)
    assert floats["usage"]["prompt_tokens"] == 6
    np.testing.assert_allclose(first, decoded, atol=1e-6)
    assert np.linalg.norm(short["data"][1]["embedding"]) == pytest.approx(1)


async def test_models_and_health(emulator: Emulator) -> None:
    """Neither counts as a call."""
    models = await emulator.send("provider", "/v1/models", method="GET")
    health = await emulator.send("provider", "/health", method="GET")

    assert models.json()["object"] == "list"
    assert health.status == 200
    assert (await emulator.counters())["upstream"] == 0


@pytest.mark.parametrize(
    ("change", "param"),
    [
        pytest.param({"messages": None}, "messages", id="no messages"),
        pytest.param({"messages": []}, "messages", id="empty messages"),
        pytest.param({"messages": "hi"}, "messages", id="messages of a wrong type"),
        pytest.param({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", id="role"),
        pytest.param({"messages": [{"role": "user"}]}, "messages[0].content", id="no content"),
        pytest.param({"messages": [{"role": "user", "content": 3}]}, "messages[0].content", id="content"),
        pytest.param({"temperature": 3}, "temperature", id="temperature"),
        pytest.param({"top_p": -1}, "top_p", id="top_p"),
        pytest.param({"top_p": "high"}, "top_p", id="top_p of a wrong type"),
        pytest.param({"max_tokens": 0}, "max_tokens", id="max_tokens"),
        pytest.param({"n": 129}, "n", id="n"),
        pytest.param({"stop": list("abcde")}, "stop", id="stop"),
        pytest.param({"stream": "yes"}, "stream", id="stream"),
        pytest.param({"stream_options": {"include_usage": True}}, "stream_options", id="stream options"),
        pytest.param({"response_format": {"type": "xml"}}, "response_format.type", id="format"),
        pytest.param({"response_format": {"type": "json_schema"}}, "response_format.json_schema.name", id="schema"),
        pytest.param({"tools": [{}]}, "tools[0].function.name", id="tool without a name"),
        pytest.param({"tool_choice": "required"}, "tool_choice", id="choice without tools"),
        pytest.param({"tools": TOOLS[:1], "tool_choice": NAMED}, "tool_choice", id="unknown tool"),
    ],
)
async def test_invalid_chat(emulator: Emulator, change: dict[str, Any], param: str) -> None:
    """400 with OpenAI's error body, naming the parameter."""
    received = await emulator.chat(**change)

    error = received.json()["error"]
    assert received.status == 400
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages": []}'])
async def test_unreadable_body(emulator: Emulator, body: bytes) -> None:
    url = emulator.url("provider", "/v1/chat/completions")
    async with emulator.session.post(url, data=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_key() -> None:
    """With a key configured, callers must present it."""
    async with started(EmulatorConfig(provider_key="secret")) as emulator:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        without = await emulator.send("provider", "/v1/chat/completions", body)
        wrong = await emulator.send("provider", "/v1/chat/completions", body, Authorization="Bearer no")
        right = await emulator.send("provider", "/v1/chat/completions", body, Authorization="Bearer secret")

    assert [without.status, wrong.status, right.status] == [401, 401, 200]
    assert wrong.json()["error"]["code"] == "invalid_api_key"


def is_whole(received: Received) -> bool:
    return received.data[-1:] == ["[DONE]"] and received.text.startswith("[simulated")


STREAM_EFFECTS: dict[str, Callable[[Received], bool]] = {
    "error": lambda r: r.status == 500 and "error" in r.json(),
    "timeout": lambda r: r.is_stalled and r.status == 0,
    "slow": lambda r: r.is_stalled and r.status == 0,
    "cut": lambda r: r.is_cut and len(r.contents) == 3,
    "malformed": lambda r: r.status == 200 and "<<<not json" in r.data[1] and r.data[-1] == "[DONE]",
    "allowance": lambda r: r.status == 500,
    "capacity": lambda r: r.status == 429,
    "refuse": lambda r: r.is_cut and r.status == 0,
    "429": lambda r: r.status == 429 and "Retry-After" not in r.headers,
    "429-retry-after": lambda r: r.status == 429 and r.headers["Retry-After"] == "1",
    "500": lambda r: r.status == 500,
    "503": lambda r: r.status == 503,
    "truncated": lambda r: not r.is_cut and not r.body.endswith(b"\n\n"),
    "wrong-content-type": lambda r: r.headers["Content-Type"].startswith("text/plain") and is_whole(r),
    "empty-body": lambda r: r.status == 200 and r.body == b"" and not r.is_cut,
    "empty-stream": lambda r: r.body == b"data: [DONE]\n\n",
    "no-done": lambda r: not r.is_cut and r.chunks[-1]["choices"][0]["finish_reason"] == "stop",
    "early-end": lambda r: not r.is_cut and len(r.contents) == 3 and "[DONE]" not in r.data,
    "stall": lambda r: r.is_stalled and len(r.contents) == 3,
    "slow-stream": lambda r: not r.is_cut and is_whole(r),
    "double-done": lambda r: r.data[-2:] == ["[DONE]", "[DONE]"],
    "html-error": lambda r: r.status == 502 and r.body.startswith(b"<html>"),
    "huge-chunk": lambda r: max(len(each) for each in r.contents) == 2**20 and r.data[-1] == "[DONE]",
    "tiny-chunks": lambda r: r.contents == ["t"] * 10_000 and r.data[-1] == "[DONE]",
    "cut-utf8": lambda r: r.is_cut and r.body.endswith(b"na\xc3"),
    "timeout-first-token": lambda r: r.is_stalled and r.status == 200 and r.body == b"",
}


def is_json(received: Received) -> bool:
    try:
        received.json()
    except ValueError:
        return False
    return not received.is_cut


PLAIN_EFFECTS: dict[str, Callable[[Received], bool]] = {
    **STREAM_EFFECTS,
    "cut": lambda r: r.is_cut and r.status == 200 and len(r.body) > 50,
    "malformed": lambda r: r.status == 200 and not r.is_cut and not is_json(r),
    "truncated": lambda r: not r.is_cut and len(r.body) > 50 and not is_json(r),
    "wrong-content-type": lambda r: r.headers["Content-Type"].startswith("text/plain") and is_json(r),
    "empty-stream": lambda r: r.body == b"{}",
    "no-done": is_json,
    "early-end": is_json,
    "stall": lambda r: r.is_stalled and len(r.body) > 50,
    "slow-stream": is_json,
    "double-done": is_json,
    "huge-chunk": lambda r: len(r.body) > 2**20 and is_json(r),
    "tiny-chunks": is_json,
    "cut-utf8": lambda r: r.is_cut and r.body.endswith(b"\xc3"),
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("bad-")])  # of `ai` alone
@pytest.mark.parametrize("stream", [pytest.param(True, id="stream"), pytest.param(False, id="plain")])
async def test_fault(emulator: Emulator, kind: str, stream: bool) -> None:
    """What each kind does, through the control port and through the model's name; then health again."""
    effects = STREAM_EFFECTS if stream else PLAIN_EFFECTS
    if kind == "slow-stream":
        await emulator.latency("upstream", itl_ms=0.1)
    await emulator.fault("upstream", kind, count=1)
    if kind in SILENT_KINDS:
        emulator.patience_s = NEVER_S

    by_control = await emulator.chat(stream=stream)
    by_name = await emulator.chat(f"sim-{kind}", stream=stream)
    after = await emulator.chat(stream=stream)

    assert effects[kind](by_control), by_control
    assert effects[kind](by_name), by_name
    assert after.status == 200


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        pytest.param("sim-cut-after-5", lambda r: r.is_cut and len(r.contents) == 5, id="cut after 5"),
        pytest.param("sim-cut-after-0", lambda r: r.is_cut and r.status == 200 and r.body == b"", id="after 0"),
        pytest.param("sim-stall-after-1", lambda r: r.is_stalled and len(r.contents) == 1, id="stall after 1"),
        pytest.param("sim-malformed-after-2", lambda r: "<<<" in r.data[3] and "<<<" not in r.data[2], id="garbage"),
        pytest.param("sim-429-retry-after-2", lambda r: r.headers["Retry-After"] == "2", id="retry after"),
        pytest.param("sim-empty", lambda r: r.body == b"data: [DONE]\n\n", id="empty"),
        pytest.param("sim-cut-after-9999", lambda r: r.is_cut and len(r.contents) > 30, id="cut at the end"),
        pytest.param("sim-unheard-of", is_whole, id="unknown name"),
    ],
)
async def test_named_fault(emulator: Emulator, model: str, expected: Callable[[Received], bool]) -> None:
    emulator.patience_s = NEVER_S if "stall" in model else PATIENCE_S
    received = await emulator.chat(model, stream=True)

    assert expected(received), received


@pytest.mark.parametrize(("model", "least_s"), [("sim-slow-ttft-120", 0.12), ("sim-slow-itl-20", 0.08)])
async def test_named_latency(emulator: Emulator, model: str, least_s: float) -> None:
    """Milliseconds before the first token, or before each later one; 5 tokens have 4 gaps."""
    started_s = time.perf_counter()
    received = await emulator.chat(model, stream=True, max_tokens=5)

    assert is_whole(received) or len(received.contents) == 5
    assert least_s <= time.perf_counter() - started_s < 100 * least_s


async def test_stream_that_was_held_up(emulator: Emulator) -> None:
    """After a stop of the machine tokens keep their distance: those that were due meanwhile do not come at once."""
    url = emulator.url("provider", "/v1/chat/completions")
    body = {"model": "sim-slow-itl-50", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    async with emulator.session.post(url, json={**body, "max_tokens": 8}) as response:
        await response.content.readany()
        time.sleep(0.6)  # noqa: ASYNC251  # stops the emulator as well, which runs in this process
        started_s = time.perf_counter()
        await response.content.read()

    assert time.perf_counter() - started_s >= 0.2


async def test_a_plain_answer_waits_for_all_its_tokens(emulator: Emulator) -> None:
    await emulator.latency("upstream", ttft_ms=40, itl_ms=10, rtt_ms=20)
    started_s = time.perf_counter()
    await emulator.chat(max_tokens=5)

    assert time.perf_counter() - started_s >= 0.1


async def test_a_caller_that_leaves_is_counted(emulator: Emulator) -> None:
    """While nothing was sent, and in the middle of a stream; complete answers and aborts are not."""
    await emulator.chat("sim-cut")
    await emulator.chat("sim-refuse")
    await emulator.chat()
    emulator.patience_s = NEVER_S
    await emulator.chat("sim-timeout")
    emulator.patience_s = PATIENCE_S
    url = emulator.url("provider", "/v1/chat/completions")
    body = {"model": "sim-slow-itl-50", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    async with emulator.session.post(url, json=body) as response:
        await response.content.readany()
        response.close()
    await emulator.cancelled("upstream", 2)

    counters = await emulator.counters()
    assert counters["upstream"] == 5
    assert counters["cancelled"]["upstream"] == 2


async def test_streams_run_side_by_side(emulator: Emulator) -> None:
    """Ten slow streams take the time of one."""
    started_s = time.perf_counter()
    async with aiohttp.ClientSession() as session:
        other = Emulator(emulator.ports, session)
        await asyncio.gather(*(other.chat("sim-slow-ttft-500", stream=True, max_tokens=5) for _ in range(10)))

    assert time.perf_counter() - started_s < 4

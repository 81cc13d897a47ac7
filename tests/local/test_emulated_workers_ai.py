"""The emulated AI binding's service: both model shapes, embeddings, errors, faults, a real upstream."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from scripts.local.emulator import EmulatorConfig
from scripts.local.faults import KINDS
from tests.local.emulator_client import NEVER_S, SILENT_KINDS, Emulator, Received, started

NATIVE = "@cf/meta/llama-3.2-1b-instruct"
THINKING = "@cf/zai-org/glm-4.7-flash"
EMBEDDING = "@cf/baai/bge-small-en-v1.5"
PROMPT = "Tell me about volcanoes in Iceland"
MESSAGES = [{"role": "user", "content": PROMPT}]
NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [{"name": "weather", "parameters": SCHEMA}]


@pytest.fixture
async def relaying() -> AsyncIterator[Emulator]:
    """An emulator whose chat models are answered by another one's provider."""
    async with started(EmulatorConfig()) as upstream:
        config = EmulatorConfig(ai_upstream=f"http://127.0.0.1:{upstream.ports.provider}")
        async with started(config) as emulator:
            yield emulator


async def test_native_answer(emulator: Emulator) -> None:
    received = await emulator.ai(NATIVE, messages=MESSAGES)

    answer = received.json()
    assert received.headers["Content-Type"] == "application/json"  # the binding compares it exactly
    assert received.headers["cf-ai-req-id"]
    assert answer["response"].startswith(f"[simulated answer by {NATIVE}] ")
    assert answer["model"] == f"simulated/{NATIVE}"
    assert answer["usage"]["total_tokens"] > 40


async def test_native_stream(emulator: Emulator) -> None:
    """A token per chunk, usage in the last, then [DONE]; the text of the plain answer."""
    plain = (await emulator.ai(NATIVE, messages=MESSAGES)).json()
    received = await emulator.ai(NATIVE, messages=MESSAGES, stream=True)

    assert received.headers["Content-Type"] == "text/event-stream"
    assert "".join(chunk["response"] for chunk in received.chunks) == plain["response"]
    assert received.chunks[-1]["usage"] == plain["usage"]
    assert received.data[-1] == "[DONE]"


async def test_native_models_stop_at_256_tokens_unless_told(emulator: Emulator) -> None:
    prompts = [f"Explain in detail how glaciers work {i}" for i in range(30)]
    counts = [(await emulator.ai(NATIVE, prompt=each)).json()["usage"]["completion_tokens"] for each in prompts]

    assert max(counts) <= 256


async def test_native_json_mode(emulator: Emulator) -> None:
    """`response` is an object; the schema comes directly under json_schema. Not with stream."""
    wanted = {"type": "json_schema", "json_schema": SCHEMA}
    plain = await emulator.ai(NATIVE, messages=MESSAGES, response_format=wanted)
    stream = await emulator.ai(NATIVE, messages=MESSAGES, response_format=wanted, stream=True)

    assert plain.json()["response"] == {"city": "simulated city"}
    assert stream.status == 400
    assert "JSON Mode couldn't be met" in stream.json()["description"]


@pytest.mark.parametrize("stream", [False, True])
async def test_native_tool_call(emulator: Emulator, stream: bool) -> None:
    """Arguments are an object, in one piece even when streamed."""
    received = await emulator.ai(NATIVE, messages=MESSAGES, tools=TOOLS, tool_choice="required", stream=stream)

    answer = received.chunks[0] if stream else received.json()
    assert answer["tool_calls"] == [{"name": "weather", "arguments": {"city": "simulated city"}}]


async def test_openai_shaped_answer(emulator: Emulator) -> None:
    answer = (await emulator.ai(THINKING, messages=MESSAGES, **NO_THINKING)).json()

    message = answer["choices"][0]["message"]
    assert answer["object"] == "chat.completion"
    assert answer["model"] == f"simulated/{THINKING}"
    assert message["content"].startswith("[simulated")
    assert "reasoning_content" not in message


async def test_thinking_comes_first(emulator: Emulator) -> None:
    """On unless enable_thinking is false."""
    thinking = await emulator.ai(THINKING, messages=MESSAGES, stream=True)
    direct = await emulator.ai(THINKING, messages=MESSAGES, stream=True, **NO_THINKING)

    parts = ["reasoning" if "reasoning_content" in delta else "content" for delta in thinking.deltas[1:-1]]
    assert parts == sorted(parts, reverse=True)
    assert parts[0] == "reasoning"
    assert thinking.text.startswith("[simulated")
    assert not any("reasoning_content" in delta for delta in direct.deltas)


async def test_embeddings(emulator: Emulator) -> None:
    """Real vectors in Workers AI's shape, counted as embed."""
    received = await emulator.ai(EMBEDDING, text=["reset my password", "volcanoes"], pooling="cls")
    single = await emulator.ai(EMBEDDING, text="reset my password")

    answer = received.json()
    assert (answer["shape"], answer["pooling"]) == ([2, 384], "cls")
    np.testing.assert_allclose(answer["data"][0], single.json()["data"][0], atol=1e-5)
    counters = await emulator.counters()
    assert (counters["embed"], counters["ai"]) == (2, 0)


@pytest.mark.parametrize(
    ("model", "inputs", "status", "code"),
    [
        pytest.param("@cf/no/such-model", {"prompt": "x"}, 400, 5007, id="unknown model"),
        pytest.param(NATIVE, {}, 400, 5006, id="no prompt"),
        pytest.param(NATIVE, {"messages": ["hi"]}, 400, 5006, id="messages"),
        pytest.param(NATIVE, {"prompt": "x", "temperature": 6}, 400, 5006, id="native temperature"),
        pytest.param(NATIVE, {"prompt": "x", "seed": 0}, 400, 5006, id="native seed"),
        pytest.param(NATIVE, {"prompt": "x", "max_tokens": "9"}, 400, 5006, id="native max_tokens"),
        pytest.param(THINKING, {"prompt": "x", "temperature": 3}, 400, 5006, id="temperature"),
        pytest.param(THINKING, {"prompt": "x", "max_tokens": 0}, 400, 5006, id="max_tokens"),
        pytest.param(NATIVE, {"prompt": "x", "max_tokens": 60_000}, 400, 5021, id="context window"),
        pytest.param(EMBEDDING, {"text": ["x"] * 101}, 400, 5006, id="too many texts"),
        pytest.param(EMBEDDING, {"text": []}, 400, 5006, id="no text"),
        pytest.param(EMBEDDING, {"text": "x", "pooling": "max"}, 400, 5006, id="pooling"),
    ],
)
async def test_refused(emulator: Emulator, model: str, inputs: dict[str, Any], status: int, code: int) -> None:
    """The fields that the binding makes its exception of."""
    received = await emulator.ai(model, **inputs)

    error = received.json()
    assert (received.status, error["internalCode"]) == (status, code)
    assert error["name"] == "InferenceUpstreamError"
    assert error["message"] == f"{code}: {error['description']}"


async def test_incomplete_call(emulator: Emulator) -> None:
    received = await emulator.send("ai", "/ai/run", {"model": NATIVE})

    assert received.json()["internalCode"] == 3003


async def test_the_real_bindings_own_request(emulator: Emulator) -> None:
    """Model in a header, path /run: what workerd's wrapped binding sends."""
    body = {"inputs": {"prompt": "hi"}, "options": {}}
    received = await emulator.send("ai", "/run?version=3", body, cf_consn_model_id=NATIVE)

    assert received.json()["model"] == f"simulated/{NATIVE}"


EFFECTS: dict[str, Callable[[Received], bool]] = {
    "error": lambda r: r.status == 500 and r.json()["internalCode"] == 3043,
    "capacity": lambda r: r.status == 429 and r.json()["internalCode"] == 3040,
    "allowance": lambda r: r.status == 429 and r.json()["internalCode"] == 3036,
    "503": lambda r: r.status == 503,
    "cut": lambda r: r.is_cut and len(r.chunks) == 3,
    "refuse": lambda r: r.is_cut and r.status == 0,
    "timeout": lambda r: r.is_stalled and r.status == 0,
    "malformed": lambda r: "<<<not json" in r.data[0],
    "huge-chunk": lambda r: len(r.chunks[0]["response"]) == 2**20,
    "no-done": lambda r: "[DONE]" not in r.data and "usage" in r.chunks[-1],
    "stall": lambda r: r.is_stalled and len(r.chunks) == 3,
}


@pytest.mark.parametrize("kind", EFFECTS)
async def test_fault(emulator: Emulator, kind: str) -> None:
    """Faults in Workers AI's own words; the kinds' full list is tested on the provider, the code is shared."""
    await emulator.fault("ai", kind, count=1)
    emulator.patience_s = NEVER_S if kind in SILENT_KINDS else emulator.patience_s
    received = await emulator.ai(NATIVE, messages=MESSAGES, stream=True)

    assert EFFECTS[kind](received), received
    assert kind in KINDS


async def test_embed_has_its_own_faults(emulator: Emulator) -> None:
    await emulator.fault("embed", "capacity")
    chat = await emulator.ai(NATIVE, prompt="hi")
    embedding = await emulator.ai(EMBEDDING, text="hi")

    assert (chat.status, embedding.status) == (200, 429)


@pytest.mark.parametrize("model", [NATIVE, THINKING])
@pytest.mark.parametrize("stream", [False, True])
async def test_upstream_answers_in_the_models_shape(relaying: Emulator, model: str, stream: bool) -> None:
    """The text is the upstream's, which simulates too and so says which model it was asked for."""
    received = await relaying.ai(model, messages=MESSAGES, stream=stream, max_tokens=40)

    if model == NATIVE:
        chunks = received.chunks if stream else [received.json()]
        text = "".join(chunk["response"] for chunk in chunks)
        assert chunks[-1]["usage"]["completion_tokens"] == 40
    elif stream:
        text = received.text
    else:
        text = received.json()["choices"][0]["message"]["content"]
    assert text.startswith(f"[simulated answer by {model}] ")
    assert not stream or received.data[-1] == "[DONE]"


@pytest.mark.parametrize("stream", [False, True])
async def test_upstream_tool_call_in_native_shape(relaying: Emulator, stream: bool) -> None:
    """Pieces of arguments are put together, since native models send an object."""
    received = await relaying.ai(NATIVE, messages=MESSAGES, tools=TOOLS, tool_choice="required", stream=stream)

    answer = received.chunks[0] if stream else received.json()
    assert answer["tool_calls"] == [{"name": "weather", "arguments": {"city": "simulated city"}}]


async def test_upstream_json_mode_in_native_shape(relaying: Emulator) -> None:
    wanted = {"type": "json_schema", "json_schema": SCHEMA}
    received = await relaying.ai(NATIVE, messages=MESSAGES, response_format=wanted)

    assert received.json()["response"] == {"city": "simulated city"}


async def test_upstream_that_is_down_is_an_error_of_workers_ai() -> None:
    async with started(EmulatorConfig(ai_upstream="http://127.0.0.1:9")) as emulator:
        received = await emulator.ai(NATIVE, prompt="hi")

    assert (received.status, json.loads(received.body)["internalCode"]) == (500, 3043)

"""`/v1/completions`: one prompt or many, plain or as a stream, and what chats can't do."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest

from edge_router.errors import RequestRejected, UpstreamError
from edge_router.replies import Reply
from edge_router.sse import KEEP_ALIVE
from edge_router.text_completions import MAX_PROMPTS, parse_text
from tests.edge_router.harness import (
    COMPLEX_PROMPT,
    DONE,
    EDGE_LARGE,
    SIMPLE_PROMPT,
    USAGE,
    World,
    chunk,
    chunks_of,
    cloud,
    completion,
    edge,
    error_of,
    event,
    native,
    native_events,
    openai_events,
    read_events,
    read_json,
    read_stream,
)
from tests.fakes import STALL, Caller, CloudCall, EdgeCall, FakeUpstreamResponse, RunningClock

PATH = "/v1/completions"


def echo(call: EdgeCall) -> FakeUpstreamResponse:
    """An edge that repeats each prompt, so that answers tell to which one they belong."""
    text = call.inputs["messages"][-1]["content"]
    if call.inputs.get("stream"):
        return FakeUpstreamResponse.stream(*native_events(text[:1], text[1:], usage=USAGE))
    return FakeUpstreamResponse.plain(native(text))


def fails_on(word: str, call: EdgeCall) -> FakeUpstreamResponse:
    if word in call.inputs["messages"][-1]["content"]:
        raise UpstreamError("Workers AI can't be reached.")
    return echo(call)


def edge_only(**fields: Any) -> World:
    """No cloud: what the edge can't answer fails."""
    return World(**{"edge": edge(echo), "regions": (), **fields})


async def ask(world: World, path: str = PATH, **body: Any) -> Reply:
    return await world.ask(body, path=path)


def texts_of(body: dict[str, Any]) -> list[str]:
    return [choice["text"] for choice in body["choices"]]


def streamed(chunks: list[dict[str, Any]]) -> dict[int, str]:
    """Index of each choice -> its text."""
    texts: dict[int, str] = {}
    for each in chunks:
        for choice in each["choices"]:
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    return texts


# One prompt


async def test_one_prompt() -> None:
    """Answered as a chat, in the older form."""
    reply = await ask(World(), prompt=SIMPLE_PROMPT)
    body = read_json(reply)

    assert body["id"].startswith("cmpl-")
    assert (body["object"], body["model"], body["usage"]) == ("text_completion", "edge-small-1", USAGE)
    assert body["choices"] == [
        {"text": "Paris, says edge-small-1.", "index": 0, "logprobs": None, "finish_reason": "stop"}
    ]
    assert body["nearside"]["served_by"] == "edge-model"
    assert reply.headers["nearside-model"] == "edge-small-1"


async def test_prompt_as_the_model_gets_it() -> None:
    """The user's message, with the parameters that both APIs have."""
    world = World()
    await ask(world, prompt=COMPLEX_PROMPT, temperature=0.5, max_tokens=7, stop=["x"], stream_options=None, user="u")

    assert world.cloud.calls[0].body == {
        "messages": [{"role": "user", "content": COMPLEX_PROMPT}],
        "model": "cloud-fast-1",
        "temperature": 0.5,
        "max_tokens": 7,
        "stop": ["x"],
        "user": "u",
    }


async def test_same_prompt_again() -> None:
    """A hit of the exact cache, and shared with a chat that asks the same."""
    world = World()
    await ask(world, prompt=SIMPLE_PROMPT)
    await world.background.finish()
    again = await ask(world, prompt=SIMPLE_PROMPT)
    chat = await world.ask({"messages": [{"role": "user", "content": SIMPLE_PROMPT}]})

    assert again.headers["cache-status"].startswith("nearside; hit")
    assert chat.headers["cache-status"].startswith("nearside; hit")
    assert world.calls == 1


async def test_several_choices() -> None:
    """Each of them, by its index."""
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for i, text in enumerate(["a", "b"])
    ]
    world = World(cloud=cloud(lambda call: FakeUpstreamResponse.plain(completion(choices=choices))))
    body = read_json(await ask(world, prompt=[COMPLEX_PROMPT] * 2, n=2, best_of=2))

    assert [(choice["index"], choice["text"]) for choice in body["choices"]] == [(0, "a"), (1, "b"), (2, "a"), (3, "b")]


LEAST = {"message": {"content": "Paris."}}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(completion("Paris.", usage=None), id="no usage"),
        pytest.param(completion("Paris.", usage={"prompt_tokens": 1, "completion_tokens": 2}), id="no total"),
        pytest.param(completion(choices=[LEAST]), id="no finish reason"),
        pytest.param({"choices": [LEAST]}, id="the least that is an answer"),
        pytest.param(completion("Paris.", id=7), id="a number as its id"),
        pytest.param(completion(choices=[{"message": {"content": None, "refusal": "No."}}]), id="a refusal"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_answer_that_lacks_something(answer: object, stream: bool) -> None:
    """Is an answer all the same, and no crash."""
    world = World(cloud=cloud(lambda call: FakeUpstreamResponse.plain(answer)))
    reply = await ask(world, prompt=COMPLEX_PROMPT, stream=stream)
    body = (await read_stream(reply))[-1] if stream else read_json(reply)

    assert reply.status == 200
    assert body["id"].startswith("cmpl-")
    assert body["choices"][0]["finish_reason"] == "stop"
    assert stream or body["usage"]["total_tokens"] > 0


async def test_stream_that_leaves_out_what_is_null() -> None:
    """Many providers send `finish_reason` in the last chunk only."""
    middle = {**chunk({"content": "x"}), "choices": [{"index": 0, "delta": {"content": "x"}}]}
    steps = [event(middle), event(chunk({}, finish="stop")), DONE]
    world = World(cloud=cloud(lambda call: FakeUpstreamResponse.stream(*steps)))
    chunks = await read_stream(await ask(world, prompt=COMPLEX_PROMPT, stream=True))

    assert streamed(chunks) == {0: "x"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


# Many prompts


async def test_list_of_prompts() -> None:
    """One choice for each, in their order, with the sum of what was used."""
    world = edge_only()
    reply = await ask(world, prompt=["one", "two", "three"])
    body = read_json(reply)

    assert texts_of(body) == ["one", "two", "three"]
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert body["usage"] == {"prompt_tokens": 30, "completion_tokens": 15, "total_tokens": 45}
    assert body["nearside"]["cost_usd"] == pytest.approx(3 * 0.00002)
    assert reply.headers["nearside-model"] == "edge-small-1"
    assert len(world.telemetry.records) == 1


async def test_prompts_that_go_to_different_places() -> None:
    """The report leaves out what they do not have in common."""
    reply = await ask(World(), prompt=[SIMPLE_PROMPT, COMPLEX_PROMPT])
    body = read_json(reply)

    assert texts_of(body) == ["Paris, says edge-small-1.", "Paris, says cloud-fast-1@fra."]
    assert "nearside-served-by" not in reply.headers
    assert "nearside-model" not in reply.headers
    assert body["nearside"]["cost_usd"] == pytest.approx(0.00002 + 0.0002)


async def test_list_of_prompts_asked_again() -> None:
    """A hit each; nothing is paid and no lifetime is invented for all of them."""
    world = edge_only()
    for _ in range(2):
        reply = await ask(world, prompt=["one", "two"])
        await world.background.finish()

    assert world.calls == 2
    assert reply.headers["cache-status"].startswith("nearside; hit")
    assert "None" not in str(reply.headers)
    assert reply.headers["nearside-cost-usd"] == "0"
    assert reply.headers["nearside-cost-avoided-usd"] == "0.00004"


async def test_list_with_a_prompt_that_fails() -> None:
    """Fails as a whole: the form has no place for an error beside the texts."""
    world = edge_only()
    world.edge.handler = lambda call: fails_on("two", call)
    reply = await ask(world, prompt=["one", "two", "three"])

    assert reply.status == 502
    assert error_of(reply)["type"] == "upstream_error"


async def test_list_with_a_prompt_that_fails_while_others_wait() -> None:
    """The others are stopped, and their upstreams told."""
    waiting = [FakeUpstreamResponse(STALL) for _ in range(3)]
    left = list(waiting)
    world = edge_only(models=(EDGE_LARGE,))
    world.edge.handler = lambda call: left.pop() if "x" in str(call.inputs["messages"]) else fails_on("two", call)
    reply = await ask(world, prompt=["x1", "x2", "x3", "two"])

    assert reply.status == 502
    assert [response.cancels for response in waiting] == [1, 1, 1]


# What is refused


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        pytest.param({}, "prompt", "missing_required_parameter", id="no prompt"),
        pytest.param({"prompt": None}, "prompt", "invalid_type", id="null"),
        pytest.param({"prompt": []}, "prompt", "empty_array", id="an empty list"),
        pytest.param({"prompt": ["a"] * (MAX_PROMPTS + 1)}, "prompt", "array_above_max_length", id="too many"),
        pytest.param({"prompt": [1, 2, 3]}, "prompt", "invalid_type", id="tokens"),
        pytest.param({"prompt": [[1, 2], [3]]}, "prompt", "invalid_type", id="lists of tokens"),
        pytest.param({"prompt": ["a", 5]}, "prompt", "invalid_type", id="text and tokens"),
        pytest.param({"prompt": "a", "echo": True}, "echo", "unsupported_value", id="echo"),
        pytest.param({"prompt": "a", "suffix": "b"}, "suffix", "unsupported_value", id="suffix"),
        pytest.param({"prompt": "a", "logprobs": 3}, "logprobs", "unsupported_value", id="logprobs"),
        pytest.param({"prompt": "a", "best_of": 3}, "best_of", "unsupported_value", id="best_of"),
        pytest.param({"prompt": "a", "best_of": 3, "n": 2}, "best_of", "unsupported_value", id="best_of above n"),
        pytest.param({"prompt": "a", "best_of": 2, "n": "2"}, "n", "invalid_type", id="n that is text"),
        pytest.param({"prompt": "a", "echo": "yes"}, "echo", "invalid_type", id="echo that is text"),
        pytest.param({"prompt": "a", "stream": "yes"}, "stream", "invalid_type", id="stream that is text"),
        pytest.param({"prompt": "a", "max_tokens": 0}, "max_tokens", "integer_below_min_value", id="no tokens"),
        pytest.param({"prompt": ["a", "b"], "temperature": 3}, "temperature", "integer_above_max_value", id="too hot"),
    ],
)
async def test_request_that_is_refused(fields: dict[str, Any], param: str, code: str) -> None:
    """400 that names the parameter; no model is asked."""
    world = World()
    reply = await world.ask(fields, path=PATH)

    assert reply.status == 400
    assert (error_of(reply)["param"], error_of(reply)["code"]) == (param, code)
    assert world.calls == 0


@pytest.mark.parametrize(
    "fields", [{"echo": False}, {"suffix": None}, {"suffix": ""}, {"best_of": 1}, {"best_of": 2, "n": 2}], ids=str
)
def test_field_that_asks_for_nothing(fields: dict[str, Any]) -> None:
    """Is taken."""
    assert parse_text({"prompt": "a", **fields}).prompts == ["a"]


def test_message_about_tokens() -> None:
    """Says what to send instead."""
    with pytest.raises(RequestRejected, match="as text or a list of texts"):
        parse_text({"prompt": [[1]]})


# Streams


@pytest.mark.parametrize("path", [PATH, PATH + "/stream"])
async def test_stream(path: str) -> None:
    """Text completion chunks, the report on the first and the last; `/stream` needs no `stream: true`."""
    body = {"prompt": SIMPLE_PROMPT} if path.endswith("/stream") else {"prompt": SIMPLE_PROMPT, "stream": True}
    world = World()
    chunks = await read_stream(await world.ask(body, path=path))

    assert {each["object"] for each in chunks} == {"text_completion"}
    assert all(each["id"].startswith("cmpl-") for each in chunks)
    assert streamed(chunks) == {0: "Paris, says edge-small-1."}
    assert [choice["finish_reason"] for each in chunks for choice in each["choices"]][-1] == "stop"
    assert [i for i, each in enumerate(chunks) if "nearside" in each] == [0, len(chunks) - 1]
    assert world.telemetry.records[0][1] == 200


async def test_stream_with_usage() -> None:
    """One chunk more, without choices, when it was asked for."""
    chunks = await read_stream(
        await ask(World(), prompt=SIMPLE_PROMPT, stream=True, stream_options={"include_usage": True})
    )

    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], USAGE)
    assert not any(each.get("usage") for each in chunks[:-1])


async def test_stream_of_an_answer_that_is_stored() -> None:
    """Replayed in one piece."""
    world = World()
    await ask(world, prompt=SIMPLE_PROMPT)
    await world.background.finish()
    reply = await ask(world, prompt=SIMPLE_PROMPT, stream=True)

    assert isinstance(reply.body, str)
    assert streamed(await read_stream(reply)) == {0: "Paris, says edge-small-1."}


async def test_stream_of_several_prompts() -> None:
    """One after the other, the index telling to which prompt a text belongs; one `[DONE]`."""
    world = edge_only()
    reply = await ask(world, prompt=["one", "two", "three"], stream=True)
    chunks = await read_stream(reply)

    assert streamed(chunks) == {0: "one", 1: "two", 2: "three"}
    assert [choice["index"] for each in chunks for choice in each["choices"]] == sorted(
        choice["index"] for each in chunks for choice in each["choices"]
    )
    assert len(world.telemetry.records) == 1


async def test_stream_of_several_prompts_with_several_choices() -> None:
    """Each prompt's choices follow those of the one before."""
    steps = [
        event(chunk({"content": "a"})),
        event(chunk({"content": "b"}, index=1)),
        event(chunk({}, finish="stop")),
        event(chunk({}, finish="stop", index=1)),
        DONE,
    ]
    world = World(cloud=cloud(lambda call: FakeUpstreamResponse.stream(*steps)))
    chunks = await read_stream(await ask(world, prompt=[COMPLEX_PROMPT] * 2, n=2, stream=True))

    assert streamed(chunks) == {0: "a", 1: "b", 2: "a", 3: "b"}


async def test_stream_of_prompts_some_of_which_are_stored() -> None:
    """Stored answers take their place among the live ones."""
    world = edge_only()
    for prompt in ("one", "three"):
        await ask(world, prompt=prompt)
    await world.background.finish()
    reply = await ask(world, prompt=["one", "two", "three"], stream=True)

    assert streamed(await read_stream(reply)) == {0: "one", 1: "two", 2: "three"}
    assert world.calls == 3


async def test_costs_of_a_chained_stream() -> None:
    """The record has those of all prompts, paid and avoided; each prompt's own chunks have its own."""
    world = edge_only()
    await ask(world, prompt="two")
    await world.background.finish()
    chunks = await read_stream(await ask(world, prompt=["one", "two", "three"], stream=True))
    costs = [each["nearside"]["cost_usd"] for each in chunks if "cost_usd" in each.get("nearside", {})]
    _, _, recorded = world.telemetry.records[-1]

    assert costs[0] == costs[-1] == 0.00002
    assert recorded["cost_usd"] == pytest.approx(0.00004)
    assert recorded["cost_avoided_usd"] == pytest.approx(0.00002)


async def test_stream_whose_first_prompt_fails() -> None:
    """Still a proper status."""
    world = edge_only()
    world.edge.handler = lambda call: fails_on("one", call)

    assert (await ask(world, prompt=["one", "two"], stream=True)).status == 502
    assert len(world.edge.calls) == 2  # two models for the first prompt, none for the second


async def test_stream_whose_second_prompt_fails() -> None:
    """Ends with an error: an answer can't be left out without a word. The third prompt is not asked."""
    world = edge_only()
    world.edge.handler = lambda call: fails_on("two", call)
    chunks = await read_stream(await ask(world, prompt=["one", "two", "three"], stream=True))

    assert streamed(chunks[:-1]) == {0: "one"}
    assert chunks[-1]["error"]["code"] == "upstream_error"
    assert chunks[-1]["choices"][0]["finish_reason"] == "error"
    assert not any("three" in str(call.inputs) for call in world.edge.calls)
    assert len(world.telemetry.records) == 1


async def test_heartbeats_of_a_chained_stream() -> None:
    """Whoever sends hears of silence in each part."""

    def slow(call: EdgeCall) -> FakeUpstreamResponse:
        first, *rest = native_events("x", "y")
        return FakeUpstreamResponse.stream(first, 0.05, *rest)

    world = edge_only(edge=edge(slow), heartbeat_s=0.01, clock=RunningClock())
    reply = await ask(world, prompt=["one", "two"], stream=True)
    assert not isinstance(reply.body, str)
    parts = await Caller(reply.body).hear_all()

    assert streamed(chunks_of("".join(parts).split("\n\n")[:-1])) == {0: "xy", 1: "xy"}
    silences = [first for first, second in pairwise(parts) if KEEP_ALIVE in (first, second) and first != second]
    assert len(silences) == 4


@pytest.mark.parametrize(
    ("after", "cancels"),
    [
        pytest.param(0, [1], id="at once"),
        pytest.param(1, [1], id="in the first"),
        pytest.param(4, [0, 1], id="in the second"),
    ],
)
async def test_caller_who_leaves_a_chained_stream(after: int, cancels: list[int]) -> None:
    """The upstream of the moment is told, the prompts that follow are not asked, and it is recorded once."""
    responses: list[FakeUpstreamResponse] = []

    def stalls_at_two(call: EdgeCall) -> FakeUpstreamResponse:
        steps = native_events("x", "y")
        stalls = "two" in str(call.inputs)
        responses.append(FakeUpstreamResponse.stream(*([steps[0], STALL] if stalls else steps)))
        return responses[-1]

    world = edge_only(edge=edge(stalls_at_two))
    reply = await ask(world, prompt=["one", "two", "three"], stream=True)
    assert not isinstance(reply.body, str)
    caller = Caller(reply.body)
    await caller.hear(after)
    await caller.leave()
    await caller.leave()

    assert [response.cancels for response in responses] == cancels
    assert len(world.telemetry.records) == 1


async def test_caller_who_leaves_between_two_prompts() -> None:
    """The upstream that is being opened is told, the third prompt is not asked, and nothing goes on."""
    asked = asyncio.Event()
    opening = FakeUpstreamResponse(STALL, headers={"content-type": "text/event-stream"}, on_read=asked.set)
    world = edge_only()
    world.edge.handler = lambda call: opening if "two" in str(call.inputs) else echo(call)
    before = asyncio.all_tasks()
    reply = await ask(world, prompt=["one", "two", "three"], stream=True)
    body = reply.body
    assert not isinstance(body, str)

    pumping = asyncio.ensure_future(Caller(body).hear_all())
    await asked.wait()
    pumping.cancel()
    await asyncio.wait({pumping})
    await body.aclose()
    await asyncio.sleep(0)

    assert opening.cancels == 1
    assert len(world.edge.calls) == 2
    assert asyncio.all_tasks() == before
    assert len(world.telemetry.records) == 1


async def test_caller_who_leaves_after_replayed_texts() -> None:
    """Nothing is left to close, and nothing more is asked."""
    world = edge_only()
    await ask(world, prompt="one")
    await world.background.finish()
    reply = await ask(world, prompt=["one", "two"], stream=True)
    assert not isinstance(reply.body, str)

    await reply.body.aclose()

    assert world.calls == 1
    assert len(world.telemetry.records) == 2


async def test_prompt_that_breaks_off_in_a_chained_stream() -> None:
    """Its error is told in its place."""

    def breaks_at_one(call: CloudCall) -> FakeUpstreamResponse:
        if "one" in str(call.body):
            return FakeUpstreamResponse.stream(event(chunk({"content": "x"})), UpstreamError("cut"))
        return FakeUpstreamResponse.stream(*openai_events("y"))

    world = World(cloud=cloud(breaks_at_one))
    events = await read_events(await ask(world, prompt=["Explain one", "Explain two"], stream=True))
    errors = [each for each in chunks_of(events) if "error" in each]

    assert [(each["error"]["code"], each["choices"][0]["index"]) for each in errors] == [("upstream_error", 0)]
    assert json.loads(events[0].removeprefix("data: "))["choices"][0]["text"] == "x"


async def test_usage_of_a_chained_stream() -> None:
    """Told once, at the end, for all prompts together."""
    reply = await ask(edge_only(), prompt=["one", "two"], stream=True, stream_options={"include_usage": True})
    chunks = chunks_of(await read_events(reply))
    plain = json.loads(str((await ask(edge_only(), prompt=["one", "two"])).body))

    told = [each["usage"] for each in chunks if not each["choices"]]
    assert told == [plain["usage"]]
    assert chunks[-1]["choices"] == []
    assert "nearside" in chunks[-1]


async def test_stream_of_several_prompts_that_breaks() -> None:
    """In the middle of one: the error ends the whole, with `[DONE]`, and the prompts behind it are not asked."""
    world = edge_only(edge=edge(lambda call: FakeUpstreamResponse.stream(*native_events("one")[:1])))
    chunks = await read_stream(await ask(world, prompt=["one", "two"], stream=True))

    assert streamed(chunks) == {0: "one"}
    assert chunks[-1]["error"]["code"] == "stream_cut"
    assert len(world.edge.calls) == 1

"""`/v1/responses`: text in and text out, plain or as numbered events, and what is refused."""

import json
from typing import Any

import pytest

from edge_router.errors import UpstreamError
from edge_router.replies import Reply
from edge_router.requests import Controls
from edge_router.responses_api import ResponsesEvents, chat_body, parse_responses
from tests.edge_router.harness import (
    COMPLEX_PROMPT,
    DONE,
    HEARTBEAT,
    SIMPLE_PROMPT,
    USAGE,
    World,
    chunk,
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
)
from tests.fakes import FakeUpstreamResponse, RunningClock

PATH = "/v1/responses"
PLAIN_EVENTS = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


OWN_FIELDS = {
    "use_cache": True,
    "cache_ttl_s": 60,
    "cache_tags": ["a"],
    "semantic_cache": False,
    "max_latency_ms": 500,
    "optimize_prompt": False,
    "fit_context": False,
    "cascade": "off",
    "residency": "eu",
}


async def ask(world: World, **body: Any) -> Reply:
    return await world.ask(body, path=PATH)


async def cloud_call(**fields: Any) -> dict[str, Any]:
    """What the cloud is asked for a request with these fields."""
    world = World()
    reply = await ask(world, **{"input": COMPLEX_PROMPT, "model": "cloud", **fields})
    assert reply.status == 200
    return world.cloud.calls[0].body


def of_cloud(*steps: bytes | Exception | float, **fields: Any) -> World:
    return World(cloud=cloud(lambda call: FakeUpstreamResponse.stream(*steps)), **fields)


async def read_typed(reply: Reply) -> list[dict[str, Any]]:
    """Every event of a streamed response, its name the same in both places, numbered without a gap."""
    events = []
    for text in await read_events(reply):
        if text == HEARTBEAT:
            continue
        name, data = text.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    assert [each["sequence_number"] for each in events] == list(range(len(events)))
    return events


def deltas(events: list[dict[str, Any]]) -> str:
    return "".join(each["delta"] for each in events if each["type"] == "response.output_text.delta")


# Plain


async def test_plain_response() -> None:
    """A finished response with one message, in the API's own terms."""
    reply = await ask(World(), input=SIMPLE_PROMPT)
    body = read_json(reply)

    assert body["id"].startswith("resp_")
    assert (body["object"], body["status"], body["model"]) == ("response", "completed", "edge-small-1")
    assert body["output"] == [
        {
            "id": "msg_" + body["id"].removeprefix("resp_"),
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "Paris, says edge-small-1.", "annotations": [], "logprobs": []}
            ],
        }
    ]
    assert body["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 15,
    }
    assert (body["error"], body["incomplete_details"], body["previous_response_id"]) == (None, None, None)
    assert body["store"] is False
    assert body["nearside"]["served_by"] == "edge-model"
    assert reply.headers["nearside-route-reason"] == "simple"


async def test_facts_that_are_repeated() -> None:
    """What the caller set stands in the answer; what was left out has the API's defaults."""
    given = {"instructions": "Be brief.", "temperature": 0, "top_p": 0.5, "user": "u", "metadata": {"a": "b"}}
    body = read_json(await ask(World(), input="Hi", max_output_tokens=7, **given))
    plain = read_json(await ask(World(), input="Hi"))

    assert {name: body[name] for name in given} == given
    assert body["max_output_tokens"] == 7
    assert (plain["temperature"], plain["top_p"], plain["metadata"]) == (1.0, 1.0, {})
    assert plain["text"] == {"format": {"type": "text"}}


async def test_answer_that_was_cut() -> None:
    """Is incomplete, and says why."""
    answer = native("Pa", usage={"prompt_tokens": 10, "completion_tokens": 2})
    world = World(edge=edge(lambda call: FakeUpstreamResponse.plain(answer)))
    body = read_json(await ask(world, input=SIMPLE_PROMPT, max_output_tokens=2))

    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert body["output"][0]["status"] == "incomplete"


async def test_refusal() -> None:
    """Is a part of its own kind."""
    choices = [{"index": 0, "message": {"role": "assistant", "content": None, "refusal": "No."}}]
    world = World(cloud=cloud(lambda call: FakeUpstreamResponse.plain(completion(choices=choices))))
    body = read_json(await ask(world, input=COMPLEX_PROMPT))

    assert body["output"][0]["content"] == [{"type": "refusal", "refusal": "No."}]
    assert body["status"] == "completed"


async def test_details_of_usage() -> None:
    """Are passed on under the API's names."""
    usage = {
        **USAGE,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    world = World(cloud=cloud(lambda call: FakeUpstreamResponse.plain(completion(usage=usage))))
    body = read_json(await ask(world, input=COMPLEX_PROMPT))

    assert body["usage"]["input_tokens_details"] == {"cached_tokens": 4, "cache_write_tokens": 0}
    assert body["usage"]["output_tokens_details"] == {"reasoning_tokens": 3}


@pytest.mark.parametrize("details", [[1], "4", 5, {"cached_tokens": None}], ids=str)
async def test_details_of_usage_that_can_not_be_read(details: object) -> None:
    """Count as none."""
    usage = {**USAGE, "prompt_tokens_details": details}
    world = World(cloud=cloud(lambda call: FakeUpstreamResponse.plain(completion(usage=usage))))
    reply = await ask(world, input=COMPLEX_PROMPT)

    assert reply.status == 200
    assert read_json(reply)["usage"]["input_tokens_details"]["cached_tokens"] == 0


async def test_response_and_chat_share_an_entry() -> None:
    """The same question asked through either API is answered once."""
    world = World()
    await ask(world, input=SIMPLE_PROMPT)
    await world.background.finish()
    chat = await world.ask({"messages": [{"role": "user", "content": SIMPLE_PROMPT}]})

    assert chat.headers["cache-status"].startswith("nearside; hit")


# What the model gets


async def test_conversation() -> None:
    """Instructions first, then every message, its text parts joined by line breaks."""
    conversation = [
        {"role": "user", "content": "Hi"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello."}]},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "input_text", "text": "Explain"}, {"type": "text", "text": "this"}]},
    ]
    sent = await cloud_call(input=conversation, instructions="Be brief.")

    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "Explain\nthis"},
    ]


async def test_parameters() -> None:
    """Those that chats have too go along under their names there; the rest stays here."""
    sent = await cloud_call(
        temperature=0.5, top_p=0.9, user="u", max_output_tokens=50, store=True, truncation="auto", include=[]
    )

    assert {name: value for name, value in sent.items() if name != "messages"} == {
        "model": "cloud-fast-1",
        "temperature": 0.5,
        "top_p": 0.9,
        "user": "u",
        "max_completion_tokens": 50,
    }


@pytest.mark.parametrize("name", Controls.model_fields)
def test_our_own_fields(name: str) -> None:
    """Each of them counts here too: none is lost on the way to the chat."""
    given = {**OWN_FIELDS, "input": "Hi"}

    assert chat_body(parse_responses(given), given)[name] == OWN_FIELDS[name]


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(
    ("text_format", "expected"),
    [
        pytest.param({"type": "text"}, {"type": "text"}, id="text"),
        pytest.param({"type": "json_object"}, {"type": "json_object"}, id="JSON"),
        pytest.param(
            {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True},
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
            id="a schema, flat here and nested there",
        ),
    ],
)
async def test_text_format(text_format: dict[str, Any], expected: dict[str, Any]) -> None:
    """Becomes a chat's response format."""
    assert (await cloud_call(text={"format": text_format}))["response_format"] == expected


async def test_text_without_a_format() -> None:
    """Asks for nothing."""
    assert "response_format" not in await cloud_call(text={"verbosity": "low"})


async def test_schema_in_routing() -> None:
    """A format that the small model can't hold to routes the request, and stands in the answer."""
    text = {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}
    reply = await ask(World(), input=SIMPLE_PROMPT, text=text)

    assert reply.headers["nearside-route-reason"] == "json"
    assert read_json(reply)["text"] == text


# What is refused


IMAGE = {"type": "input_image", "image_url": "https://a.test/b.png"}
TEXT = {"type": "input_text", "text": "a"}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        pytest.param({"input": None}, "input", "invalid_type", id="no input"),
        pytest.param({"input": []}, "input", "empty_array", id="empty input"),
        pytest.param({"input": [5]}, "input[0]", "invalid_type", id="an item that is a number"),
        pytest.param({"previous_response_id": "resp_1"}, "previous_response_id", "unsupported_value", id="continued"),
        pytest.param({"conversation": "conv_1"}, "conversation", "unsupported_value", id="a stored conversation"),
        pytest.param({"background": True}, "background", "unsupported_value", id="in the background"),
        pytest.param({"prompt": {"id": "p"}}, "prompt", "unsupported_value", id="a stored prompt"),
        pytest.param({"tools": [{"type": "web_search"}]}, "tools", "unsupported_value", id="tools"),
        pytest.param({"max_output_tokens": 0}, "max_output_tokens", "integer_below_min_value", id="no tokens"),
        pytest.param({"stream": "yes"}, "stream", "invalid_type", id="stream that is text"),
        pytest.param({"temperature": 3}, "temperature", "integer_above_max_value", id="too hot"),
        pytest.param({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value", id="an odd format"),
        pytest.param(
            {"text": {"format": {"type": "json_schema", "schema": {}}}},
            "text.format.name",
            "missing_required_parameter",
            id="a schema without a name",
        ),
        pytest.param(
            {"text": {"format": {"type": "json_schema", "name": "n"}}},
            "text.format.schema",
            "missing_required_parameter",
            id="a schema format without its schema",
        ),
        pytest.param(
            {"input": [{"type": "function_call_output", "output": "x"}]},
            "input[0].type",
            "unsupported_value",
            id="an item that is no message",
        ),
        pytest.param(
            {"input": [{"role": "user", "content": [TEXT, IMAGE]}]},
            "input[0].content[1]",
            "unsupported_value",
            id="an image",
        ),
        pytest.param(
            {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
            "input[0].content[0]",
            "unsupported_value",
            id="a text part without text",
        ),
        pytest.param(
            {"input": [{"role": "user", "content": ["a"]}]},
            "input[0].content[0]",
            "unsupported_value",
            id="a bare part",
        ),
        pytest.param(
            {"input": [{"content": "a"}]}, "input[0].role", "missing_required_parameter", id="a message without a role"
        ),
        pytest.param({"input": [{"role": "king", "content": "a"}]}, "input[0].role", "invalid_value", id="an odd role"),
        pytest.param(
            {"input": [{"role": ["user"], "content": "a"}]}, "input[0].role", "invalid_type", id="a role list"
        ),
        pytest.param(
            {"input": [{"role": "user"}]},
            "input[0].content",
            "missing_required_parameter",
            id="a message without content",
        ),
        pytest.param(
            {"input": [{"role": "user", "content": 5}]}, "input[0].content", "invalid_type", id="content as a number"
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_request_that_is_refused(fields: dict[str, Any], param: str, code: str, stream: bool) -> None:
    """400 that names the place, as the caller wrote it; no model is asked."""
    world = World()
    reply = await ask(world, **{"input": "Hi", "stream": stream, **fields})

    assert reply.status == 400
    assert (error_of(reply)["param"], error_of(reply)["code"]) == (param, code)
    assert world.calls == 0


@pytest.mark.parametrize(
    "fields", [{"previous_response_id": None}, {"background": False}, {"tools": []}, {"text": None}], ids=str
)
def test_field_that_asks_for_nothing(fields: dict[str, Any]) -> None:
    """Is taken."""
    assert parse_responses({"input": "Hi", **fields}).input == "Hi"


# Streams


async def test_stream() -> None:
    """Typed events in the API's order, the finished response last, with usage and the report."""
    events = await read_typed(await ask(World(), input=SIMPLE_PROMPT, stream=True))
    kinds = [each["type"] for each in events]
    first, last = events[0]["response"], events[-1]["response"]

    assert list(dict.fromkeys(kinds)) == PLAIN_EVENTS
    assert deltas(events) == "Paris, says edge-small-1."
    assert (first["status"], first["output"], first["usage"]) == ("in_progress", [], None)
    assert (last["status"], last["usage"]["total_tokens"]) == ("completed", 15)
    assert last["output"][0]["content"][0]["text"] == deltas(events)
    assert last["id"] == first["id"]
    assert "cost_usd" not in first["nearside"]
    assert last["nearside"]["cost_usd"] == 0.00002


async def test_parts_of_a_stream() -> None:
    """Each event names the message and the part that it belongs to."""
    events = await read_typed(await ask(World(), input=SIMPLE_PROMPT, stream=True))
    message_id = events[2]["item"]["id"]

    assert message_id.startswith("msg_")
    assert {each["item_id"] for each in events if "item_id" in each} == {message_id}
    assert {each["content_index"] for each in events if "content_index" in each} == {0}
    assert events[-2]["item"] == events[-1]["response"]["output"][0]
    assert events[-4]["text"] == events[-3]["part"]["text"] == deltas(events)


async def test_stream_is_the_plain_response() -> None:
    """The finished response of a stream is what a plain request gets, but for ids, times and the report."""
    plain = read_json(await ask(World(), input=SIMPLE_PROMPT))
    streamed = (await read_typed(await ask(World(), input=SIMPLE_PROMPT, stream=True)))[-1]["response"]

    assert set(plain) == set(streamed)
    assert {name for name in plain if plain[name] != streamed[name]} <= {"nearside", "id", "output"}


async def test_stream_that_is_replayed() -> None:
    """The same events, from the cache."""
    world = World()
    await ask(world, input=SIMPLE_PROMPT)
    await world.background.finish()
    reply = await ask(world, input=SIMPLE_PROMPT, stream=True)
    events = await read_typed(reply)

    assert isinstance(reply.body, str)
    assert list(dict.fromkeys(each["type"] for each in events)) == PLAIN_EVENTS
    assert events[-1]["response"]["usage"]["total_tokens"] == 15


async def test_stream_that_was_cut() -> None:
    """Ends with `response.incomplete`."""
    steps = native_events("Pa", "ris", usage={"prompt_tokens": 10, "completion_tokens": 2})
    world = World(edge=edge(lambda call: FakeUpstreamResponse.stream(*steps)))
    events = await read_typed(await ask(world, input=SIMPLE_PROMPT, stream=True, max_output_tokens=2))

    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert events[-2]["item"]["status"] == "incomplete"
    assert events[-1]["response"]["usage"]["output_tokens"] == 2


async def test_stream_that_breaks_off() -> None:
    """Ends with `response.failed`, the error and the text so far; no event claims that a part is done."""
    world = of_cloud(event(chunk({"content": "Par"})), UpstreamError("cut", code="stream_cut"))
    events = await read_typed(await ask(world, input=COMPLEX_PROMPT, stream=True))
    failed = events[-1]["response"]

    assert events[-1]["type"] == "response.failed"
    assert (failed["status"], failed["error"]["code"]) == ("failed", "stream_cut")
    assert failed["output"][0]["content"][0]["text"] == "Par"
    assert failed["output"][0]["status"] == "incomplete"
    assert not any(each["type"].endswith(".done") for each in events)
    assert world.telemetry.records[0][1] == 200


async def test_stream_that_nobody_could_answer_after_its_headers() -> None:
    """The events begin all the same, so that clients have a response to mark as failed."""
    world = of_cloud(0.05, UpstreamError("cut"), heartbeat_s=0.01, clock=RunningClock())
    events = await read_typed(await ask(world, input=COMPLEX_PROMPT, stream=True))

    assert [events[0]["type"], events[-1]["type"]] == ["response.created", "response.failed"]
    assert events[-1]["response"]["error"]["code"] == "upstream_error"
    assert deltas(events) == ""


async def test_stream_that_nobody_could_answer_before_its_headers() -> None:
    """A proper status."""
    world = of_cloud(UpstreamError("cut"))

    assert (await ask(world, input=COMPLEX_PROMPT, stream=True)).status == 502


async def test_stream_that_refuses() -> None:
    """The caller gets the refusal, not an empty text."""
    steps = [event(chunk({"role": "assistant", "refusal": "No."})), event(chunk({}, finish="stop")), DONE]
    events = await read_typed(await ask(of_cloud(*steps), input=COMPLEX_PROMPT, stream=True))

    assert events[-1]["response"]["output"][0]["content"] == [{"type": "refusal", "refusal": "No."}]


async def test_stream_with_reasoning() -> None:
    """What the model thinks is not its answer."""
    steps = [event(chunk({"role": "assistant", "reasoning_content": "hm"})), *openai_events("Paris.")]
    events = await read_typed(await ask(of_cloud(*steps), input=COMPLEX_PROMPT, stream=True))

    assert deltas(events) == "Paris."


def test_stream_of_nothing() -> None:
    """Has no response to speak of: no event is invented."""
    request = parse_responses({"input": "Hi"})

    assert ResponsesEvents(request, {"input": "Hi"}).encode([], True) == ""

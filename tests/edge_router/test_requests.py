"""What a caller may send, and how each mistake is named."""

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.errors import RequestRejected
from edge_router.requests import (
    MAX_DEPTH,
    ChatRequest,
    PromptRequest,
    parse_chat,
    parse_json_object,
    parse_prompt,
    with_header_controls,
)
from tests.edge_router.harness import chat_body


def rejection(body: dict[str, Any]) -> RequestRejected:
    with pytest.raises(RequestRejected) as caught:
        parse_chat(body)
    return caught.value


@pytest.mark.parametrize(
    ("field", "value", "param", "code"),
    [
        pytest.param("model", 5, "model", "invalid_type", id="model number"),
        pytest.param("model", None, "model", "invalid_type", id="model null"),
        pytest.param("model", "", "model", "empty_string", id="model empty"),
        pytest.param("model", "m" * 257, "model", "invalid_value", id="model too long"),
        pytest.param("messages", [], "messages", "empty_array", id="no messages"),
        pytest.param("messages", "hi", "messages", "invalid_type", id="messages text"),
        pytest.param("messages", ["hi"], "messages[0]", "invalid_type", id="message text"),
        pytest.param("messages", [{}], "messages[0].role", "missing_required_parameter", id="no role"),
        pytest.param("messages", [{"role": "boss"}], "messages[0].role", "invalid_value", id="unknown role"),
        pytest.param(
            "messages", [{"role": "user", "content": 5}], "messages[0].content", "invalid_type", id="content number"
        ),
        pytest.param(
            "messages",
            [{"role": "user", "content": "a"}, {"role": "user", "content": [{"text": "b"}]}],
            "messages[1].content[0].type",
            "missing_required_parameter",
            id="part without a type",
        ),
        pytest.param(
            "messages",
            [{"role": "user", "content": [{"type": "text", "text": 5}]}],
            "messages[0].content[0].text",
            "invalid_type",
            id="part with a number as text",
        ),
        pytest.param(
            "messages", [{"role": "user"}], "messages[0].content", "missing_required_parameter", id="no content"
        ),
        pytest.param("stream", "true", "stream", "invalid_type", id="stream text"),
        pytest.param("stream_options", [], "stream_options", "invalid_type", id="stream_options list"),
        pytest.param(
            "stream_options", {"include_usage": 1}, "stream_options.include_usage", "invalid_type", id="include_usage"
        ),
        pytest.param("max_tokens", 0, "max_tokens", "integer_below_min_value", id="max_tokens zero"),
        pytest.param("max_tokens", 10**7, "max_tokens", "integer_above_max_value", id="max_tokens huge"),
        pytest.param("max_tokens", True, "max_tokens", "invalid_type", id="max_tokens boolean"),
        pytest.param("max_tokens", "5", "max_tokens", "invalid_type", id="max_tokens text"),
        pytest.param("max_completion_tokens", -1, "max_completion_tokens", "integer_below_min_value", id="newer limit"),
        pytest.param("temperature", -0.1, "temperature", "integer_below_min_value", id="temperature low"),
        pytest.param("temperature", 2.1, "temperature", "integer_above_max_value", id="temperature high"),
        pytest.param("temperature", True, "temperature", "invalid_type", id="temperature boolean"),
        pytest.param("temperature", 10**400, "temperature", "invalid_type", id="temperature beyond floats"),
        pytest.param("top_p", 1.5, "top_p", "integer_above_max_value", id="top_p"),
        pytest.param("n", 0, "n", "integer_below_min_value", id="n zero"),
        pytest.param("n", 129, "n", "integer_above_max_value", id="n high"),
        pytest.param("stop", 5, "stop", "invalid_type", id="stop number"),
        pytest.param("stop", ["a"] * 5, "stop", "array_above_max_length", id="five stops"),
        pytest.param("stop", ["a", 5], "stop[1]", "invalid_type", id="stop with a number"),
        pytest.param("seed", 1.5, "seed", "invalid_type", id="seed fraction"),
        pytest.param("presence_penalty", 3, "presence_penalty", "integer_above_max_value", id="presence_penalty"),
        pytest.param("frequency_penalty", -3, "frequency_penalty", "integer_below_min_value", id="frequency_penalty"),
        pytest.param(
            "response_format", {}, "response_format.type", "missing_required_parameter", id="format without a type"
        ),
        pytest.param(
            "response_format",
            {"type": "json_schema"},
            "response_format.json_schema",
            "missing_required_parameter",
            id="format without its schema",
        ),
        pytest.param(
            "messages",
            [{"role": "user", "content": [{"type": "image_url"}]}],
            "messages[0].content[0].image_url",
            "missing_required_parameter",
            id="image without an address",
        ),
        pytest.param("response_format", {"type": "xml"}, "response_format.type", "invalid_value", id="format xml"),
        pytest.param("tools", {}, "tools", "invalid_type", id="tools object"),
        pytest.param("tools", ["f"], "tools[0]", "invalid_type", id="tool text"),
        pytest.param(
            "tools", [{"type": "function"}], "tools[0].function", "missing_required_parameter", id="tool of no function"
        ),
        pytest.param("tool_choice", 5, "tool_choice", "invalid_type", id="tool_choice"),
        pytest.param("tool_choice", "sometimes", "tool_choice", "invalid_value", id="unknown tool_choice"),
        pytest.param("user", 5, "user", "invalid_type", id="user"),
        pytest.param("metadata", "a", "metadata", "invalid_type", id="metadata"),
        pytest.param("use_cache", "yes", "use_cache", "invalid_type", id="use_cache"),
        pytest.param("max_latency_ms", 0, "max_latency_ms", "invalid_value", id="max_latency_ms"),
        pytest.param("optimize_prompt", 1, "optimize_prompt", "invalid_type", id="optimize_prompt"),
        pytest.param("cascade", "always", "cascade", "invalid_value", id="cascade"),
        pytest.param("residency", "EU!", "residency", "invalid_value", id="residency"),
    ],
)
def test_field_with_a_wrong_value(field: str, value: object, param: str, code: str) -> None:
    """A 400 names the parameter as OpenAI does, and never repeats what was sent."""
    error = rejection({**chat_body("a secret"), field: value})

    assert (error.status, error.param, error.code) == (400, param, code)
    assert param in error.message
    assert "secret" not in error.message


CALL = {"id": "1", "type": "function"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"messages": [{"role": "assistant", "tool_calls": [CALL]}]}, "messages[0].tool_calls[0].function"),
        ({"messages": [{"role": "tool", "content": "4"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "function", "content": "4"}]}, "messages[0].name"),
    ],
)
def test_what_another_field_asks_for(fields: dict[str, Any], param: str) -> None:
    error = rejection({**chat_body(), **fields})

    assert (error.status, error.param, error.code) == (400, param, "missing_required_parameter")


def test_body_without_messages() -> None:
    """The one required parameter is named."""
    error = rejection({"model": "auto"})

    assert (error.param, error.code) == ("messages", "missing_required_parameter")


def test_two_wrong_fields_of_which_one_name_begins_with_the_other() -> None:
    """The first wrong parameter is named, not the longer one."""
    error = rejection(chat_body(stream="yes", stream_options="no"))

    assert error.param == "stream"


def test_assistant_that_calls_tools_without_content() -> None:
    """The one place where content may be absent."""
    call = {"role": "assistant", "tool_calls": [{"id": "1", "type": "custom"}]}
    request = parse_chat({"messages": [{"role": "user", "content": "x"}, call]})

    assert request.messages[1].text == ""
    assert request.uses_tools


def test_unknown_fields() -> None:
    """They are ignored here, at every level; the body that is passed on still has them."""
    request = parse_chat(
        {"messages": [{"role": "user", "content": "x", "name": "Eve"}], "logit_bias": {}, "brand_new": [1]}
    )

    assert request.messages[0].content == "x"


def test_half_a_surrogate_pair() -> None:
    """Passes: clients that cut text by UTF-16 units send it."""
    body = parse_json_object('{"messages": [{"role": "user", "content": "a\\ud83d"}]}')

    assert parse_chat(body).last_user_text == "a\ud83d"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, None, id="neither"),
        pytest.param({"max_tokens": 5}, 5, id="the older name"),
        pytest.param({"max_tokens": 5, "max_completion_tokens": 7}, 7, id="the newer name wins"),
    ],
)
def test_output_limit(fields: dict[str, Any], expected: int | None) -> None:
    """OpenAI has two names for it."""
    assert parse_chat(chat_body(**fields)).output_limit_tokens == expected


def of_content(*parts: dict[str, Any], role: str = "user") -> ChatRequest:
    return parse_chat({"messages": [{"role": role, "content": list(parts)}]})


def test_content_in_parts() -> None:
    """The text parts are the text, joined by line breaks."""
    request = of_content({"type": "text", "text": "a"}, {"type": "refusal"}, {"type": "text", "text": "b"})

    assert request.messages[0].text == "a\nb"
    assert not request.has_images


def test_part_that_is_not_text() -> None:
    """It asks for a model that sees."""
    assert of_content({"type": "image_url", "image_url": {"url": "data:,"}}).has_images
    assert not parse_chat(chat_body()).has_images


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(chat_body(), False, id="none"),
        pytest.param(chat_body(tools=[]), False, id="empty list"),
        pytest.param(chat_body(tools=[{"type": "function", "function": {"name": "f"}}]), True, id="offered"),
        pytest.param({"messages": [{"role": "tool", "tool_call_id": "1", "content": "1"}]}, True, id="answered before"),
    ],
)
def test_use_of_tools(body: dict[str, Any], expected: bool) -> None:
    """Offered now or called before in the conversation."""
    assert parse_chat(body).uses_tools is expected


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        pytest.param(["user", "assistant", "user", "assistant"], "2", id="the last of the user's"),
        pytest.param(["system", "assistant"], "1", id="the last of all when there is none"),
    ],
)
def test_the_question_itself(roles: list[str], expected: str) -> None:
    """What complexity is judged by."""
    request = parse_chat({"messages": [{"role": role, "content": str(i)} for i, role in enumerate(roles)]})

    assert request.last_user_text == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param(None, False, id="no options"),
        pytest.param({}, False, id="empty options"),
        pytest.param({"include_usage": True}, True, id="asked for"),
    ],
)
def test_usage_in_streams(options: object, expected: bool) -> None:
    """Only who asks for it gets the usage chunk."""
    assert parse_chat(chat_body(stream=True, stream_options=options)).include_usage is expected


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param("", "invalid_json", id="nothing"),
        pytest.param("{", "invalid_json", id="cut"),
        pytest.param("{'a': 1}", "invalid_json", id="single quotes"),
        pytest.param('{"a": NaN}', "invalid_json", id="NaN"),
        pytest.param('{"a": -Infinity}', "invalid_json", id="infinity"),
        pytest.param('{"a": 1e999}', "invalid_json", id="a number beyond floats"),
        pytest.param('{"a": ' + "9" * 5000 + "}", "invalid_json", id="thousands of digits"),
        pytest.param("[]", "invalid_type", id="list"),
        pytest.param('"a"', "invalid_type", id="text"),
        pytest.param("null", "invalid_type", id="null"),
        pytest.param('{"a":' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}", "invalid_json", id="one level too deep"),
        pytest.param("[" * 100_000, "invalid_json", id="far too deep"),
        pytest.param("]" * 300 + "[" * 150, "invalid_json", id="closed before it was opened"),
    ],
)
def test_body_that_is_not_a_json_object(text: str, code: str) -> None:
    """A 400 without the text in it."""
    with pytest.raises(RequestRejected) as caught:
        parse_json_object(text)

    assert (caught.value.status, caught.value.code) == (400, code)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"a":' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "}", id="exactly deep enough"),
        pytest.param(json.dumps({"a": [[]] * 500}), id="many brackets side by side"),
        pytest.param(json.dumps({"a": '["' * 500 + "\\"}), id="brackets inside a string"),
    ],
)
def test_body_with_many_brackets(text: str) -> None:
    """Only depth counts, and only outside strings."""
    assert parse_json_object(text) == json.loads(text)


def test_parser_that_gives_up_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pyodide's stack is smaller than CPython's: its RecursionError is a 400 too."""

    def decode(text: str) -> object:
        raise RecursionError

    monkeypatch.setattr("edge_router.requests._decode", decode)

    with pytest.raises(RequestRejected, match="too deeply"):
        parse_json_object("{}")


def test_string_of_quotes_that_never_ends() -> None:
    """Looking for the depth takes time in proportion to the body: 20 kB are not worth a second."""
    text = "[" * (MAX_DEPTH + 1) + '"' + '\\"' * 10_000
    started_s = time.process_time()

    with pytest.raises(RequestRejected):
        parse_json_object(text)

    assert time.process_time() - started_s < 0.2


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({"nearside-use-cache": "true"}, {"use_cache": True}, id="true"),
        pytest.param({"nearside-use-cache": "0"}, {"use_cache": False}, id="0"),
        pytest.param({"nearside-cascade": "TRUE"}, {"cascade": True}, id="capitals"),
        pytest.param({"nearside-optimize-prompt": "maybe"}, {"optimize_prompt": "maybe"}, id="neither, to be refused"),
        pytest.param({"nearside-max-latency-ms": "250"}, {"max_latency_ms": 250.0}, id="a number"),
        pytest.param({"nearside-max-latency-ms": "soon"}, {"max_latency_ms": "soon"}, id="no number, to be refused"),
        pytest.param({"nearside-residency": "eu"}, {"residency": "eu"}, id="text"),
        pytest.param({"nearside-colo": "CDG", "accept": "*/*"}, {}, id="not a control"),
    ],
)
def test_controls_in_headers(headers: dict[str, str], expected: dict[str, Any]) -> None:
    """`nearside-<name>` is the field of that name; what can't be read is refused with it."""
    body = chat_body()

    assert with_header_controls(body, headers) == {**body, **expected}


def test_control_in_header_and_body() -> None:
    """The body wins."""
    assert with_header_controls({"use_cache": False}, {"nearside-use-cache": "true"}) == {"use_cache": False}


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "soon"])
def test_latency_header_that_is_no_duration(value: str) -> None:
    """Refused by the name of its field."""
    error = rejection(with_header_controls(chat_body(), {"nearside-max-latency-ms": value}))

    assert error.param == "max_latency_ms"


def test_prompt_as_a_chat() -> None:
    """One user message; the other fields are passed on, the stream is not."""
    body = {"prompt": "Hi", "temperature": 0, "stream": False, "extra": 1}

    assert parse_prompt(body).to_chat_body(body) == {
        "temperature": 0,
        "extra": 1,
        "messages": [{"role": "user", "content": "Hi"}],
    }


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        pytest.param({}, "prompt", "missing_required_parameter", id="no prompt"),
        pytest.param({"prompt": ""}, "prompt", "empty_string", id="empty prompt"),
        pytest.param({"prompt": ["a"]}, "prompt", "invalid_type", id="list"),
        pytest.param({"prompt": "a", "stream": True}, "stream", "invalid_value", id="a stream"),
    ],
)
def test_prompt_that_can_not_be_answered(body: dict[str, Any], param: str, code: str) -> None:
    """The same errors as for a chat."""
    with pytest.raises(RequestRejected) as caught:
        parse_prompt(body)

    assert (caught.value.param, caught.value.code) == (param, code)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.lists(
    st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]), JSON | st.just("user"), max_size=3), max_size=3
)


@settings(max_examples=100)
@given(
    fields=st.dictionaries(st.sampled_from([*ChatRequest.model_fields, *PromptRequest.model_fields]), JSON, max_size=4),
    messages=MESSAGES | JSON,
)
def test_any_json(fields: dict[str, Any], messages: Any) -> None:
    """Is a request or a 400, nothing else."""
    body = parse_json_object(json.dumps({"messages": messages, **fields}))

    for parse in (parse_chat, parse_prompt):
        with suppress(RequestRejected):
            parse(body)


@settings(max_examples=100)
@given(text=st.text() | st.text(alphabet='{}[]"\\,:0aN', max_size=60))
def test_any_text(text: str) -> None:
    """Is an object or a 400, nothing else."""
    with suppress(RequestRejected):
        assert isinstance(parse_json_object(text), dict)

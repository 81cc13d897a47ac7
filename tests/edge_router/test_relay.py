"""One upstream stream rewritten as an OpenAI stream, and the answer that is remembered of it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router import completions, sse
from edge_router.catalog import Shape
from edge_router.relay import MAX_CHOICES, StreamRelay
from tests.edge_router.harness import (
    DONE,
    USAGE,
    chunk,
    completion,
    event,
    finish_reasons,
    native_events,
    openai_events,
    streamed_text,
)


def relay(
    shape: Shape = "openai",
    *,
    include_usage: bool = False,
    limit_tokens: int = 100,
    kind: type[StreamRelay] = StreamRelay,
) -> StreamRelay:
    return kind(
        shape,
        completion_id="chatcmpl-1",
        created_s=5,
        model="m",
        limit_tokens=limit_tokens,
        include_usage=include_usage,
        input_tokens=lambda: 0,
    )


def run(of: StreamRelay, *pieces: bytes) -> list[dict[str, Any]]:
    """Every chunk that a caller gets of a stream that then ends."""
    texts = [text for piece in pieces for text in of.feed(piece)] + of.end()
    if not of.error:
        texts += of.closing()
    return [json.loads(text) for text in texts]


def test_openai_stream() -> None:
    """Is passed on as it came, byte for byte, the finish reason held back for the end."""
    stream = openai_events("Par", "is.", usage=USAGE)
    of = relay()
    sent = [text for piece in stream for text in of.feed(piece)]

    assert [event(text) for text in sent] == stream[:3]
    assert of.is_done
    assert [event(text) for text in of.closing()] == stream[3:4]


def test_native_stream() -> None:
    """Becomes an OpenAI stream: the role first, one chunk a text, a finish reason last."""
    chunks = run(relay("native"), *native_events("Par", "is.", usage=USAGE))

    assert [each["choices"][0]["delta"] for each in chunks] == [
        {"role": "assistant", "content": "Par"},
        {"content": "is."},
        {},
    ]
    assert finish_reasons(chunks) == ["stop"]
    assert {(each["id"], each["object"], each["created"], each["model"]) for each in chunks} == {
        ("chatcmpl-1", "chat.completion.chunk", 5, "m")
    }


@pytest.mark.parametrize(
    ("output_tokens", "expected"), [(99, "stop"), (100, "length"), (None, "stop")], ids=["below", "at", "unknown"]
)
def test_native_stream_at_its_limit(output_tokens: int | None, expected: str) -> None:
    """Native models do not say why they stopped: reaching the limit tells."""
    usage = {"prompt_tokens": 1, "completion_tokens": output_tokens}

    assert finish_reasons(run(relay("native"), *native_events("x", usage=usage))) == [expected]


def test_native_tool_call() -> None:
    """Becomes OpenAI's form, with an id and arguments as text."""
    calls = [{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": "{}", "id": "c2"}]
    chunks = run(relay("native"), event({"response": None, "tool_calls": calls}), DONE)

    assert chunks[0]["choices"][0]["delta"]["tool_calls"] == [
        {"index": 0, "id": "call_chatcmpl-10", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"index": 1, "id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    assert finish_reasons(chunks) == ["tool_calls"]


def test_native_model_that_answers_with_json() -> None:
    """An object instead of text is shown as its text."""
    of = relay("native")

    assert streamed_text(run(of, event({"response": {"a": 1}, "model": "other"}), DONE)) == '{"a":1}'
    assert of.completion()["model"] == "other"


def test_native_model_that_speaks_openai() -> None:
    """The newer dialect is understood whatever the catalog says."""
    assert streamed_text(run(relay("native"), *openai_events("Paris."))) == "Paris."


def test_long_native_stream() -> None:
    """All its pieces come in chunks of one form."""
    chunks = run(relay("native"), *native_events("Par", "is", " it", " is", "."))

    assert streamed_text(chunks) == "Paris it is."
    assert all(each.keys() == chunks[0].keys() for each in chunks)


def test_piece_that_can_not_be_read() -> None:
    """After pieces that could: the stream ends with an error, and nothing of that piece is sent."""
    of = relay()
    events = openai_events("Par", "is", "X")
    sent = [text for piece in events for text in of.feed(piece.replace(b'"X"', rb'"\q"'))]

    assert of.error is not None
    assert streamed_text([json.loads(text) for text in sent]) == "Paris"


@pytest.mark.parametrize("reason", [7, {"type": "stop"}, True])
def test_finish_reason_that_is_no_text(reason: Any) -> None:
    """The stream ends with an error: what it means nobody knows."""
    of = relay()
    run(of, event(chunk({"content": "x"})), event(chunk({}, finish=reason)), DONE)

    assert of.error is not None
    assert "finish reason" in of.error.message


def test_pieces_without_text() -> None:
    """Between others they change nothing."""
    of = relay()
    chunks = run(of, *openai_events("Par", "is", "", "."))

    assert streamed_text(chunks) == of.text() == "Paris."


@pytest.mark.parametrize(
    "first",
    [
        pytest.param({"content": "x"}, id="absent"),
        pytest.param({"role": None, "content": "x"}, id="null"),
        pytest.param({"role": "", "content": "x"}, id="empty"),
    ],
)
def test_first_chunk_without_the_role(first: dict[str, Any]) -> None:
    """It is added: clients build the message from it."""
    chunks = run(relay(), event(chunk(first)), event(chunk({"content": "y"}, finish="stop")), DONE)

    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "x"}
    assert "role" not in chunks[1]["choices"][0]["delta"]


def test_chunk_without_its_head() -> None:
    """Id, object, time and model are added."""
    chunks = run(relay(), event({"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}), DONE)

    assert {key: chunks[0][key] for key in ("id", "object", "created", "model")} == {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 5,
        "model": "m",
    }


@pytest.mark.parametrize("include_usage", [True, False])
@pytest.mark.parametrize("place", ["in its own chunk", "with the finish reason"])
def test_usage(include_usage: bool, place: str) -> None:
    """One chunk before the end when it was asked for, and nowhere else."""
    if place == "in its own chunk":
        stream = openai_events("x", usage=USAGE)
    else:
        stream = [event(chunk({"content": "x"}, finish="stop", usage=USAGE)), DONE]
    of = relay(include_usage=include_usage)
    chunks = run(of, *stream)

    assert [each["usage"] for each in chunks if each.get("usage")] == ([USAGE] if include_usage else [])
    assert of.usage() == (USAGE, False)
    assert (chunks[-1]["choices"] == []) is include_usage


WHOLE = [event(chunk({"content": "x"})), event(chunk({}, finish="stop"))]


def test_end_mark_missing_after_a_finish_reason() -> None:
    """The answer is whole."""
    of = relay()

    assert finish_reasons(run(of, *WHOLE)) == ["stop"]
    assert of.is_done
    assert of.error is None


def test_last_line_break_missing() -> None:
    """The last event counts."""
    of = relay()
    run(of, WHOLE[0], DONE.rstrip())

    assert of.is_done


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        pytest.param([], "stream_cut", id="nothing at all"),
        pytest.param([WHOLE[0]], "stream_cut", id="no finish reason and no end mark"),
        pytest.param([WHOLE[0], WHOLE[1][:20]], "upstream_error", id="cut in an event"),
        pytest.param([WHOLE[0], b"data: \xf0\x9f"], "stream_cut", id="cut in a character"),
        pytest.param([WHOLE[0], b"data: \xff\n\n", WHOLE[1], DONE], "upstream_error", id="not UTF-8"),
        pytest.param([WHOLE[1], event(chunk({"content": "y"}, index=1))], "stream_cut", id="one of two not finished"),
        pytest.param([DONE], "upstream_error", id="only the end mark"),
        pytest.param([event({"error": {"message": "x"}})], "upstream_error", id="an error event"),
        pytest.param([event("{")], "upstream_error", id="not JSON"),
        pytest.param([event("[" * 100_000)], "upstream_error", id="nested too deeply"),
        pytest.param([event("[]")], "upstream_error", id="a list"),
        pytest.param([event({"id": "x"})], "upstream_error", id="no choices"),
        pytest.param([event({"choices": ["x"]})], "upstream_error", id="a choice that is text"),
        pytest.param([event({"choices": [{"index": 0}]})], "upstream_error", id="no delta"),
        pytest.param([event(chunk({}, index=-1))], "upstream_error", id="index below zero"),
        pytest.param([event(chunk({}, index=MAX_CHOICES))], "upstream_error", id="index too high"),
        pytest.param([event(chunk({"content": ["x"]}, finish="stop")), DONE], "upstream_error", id="content as a list"),
    ],
)
def test_stream_that_is_not_whole(pieces: list[bytes], code: str) -> None:
    """The error says so; nothing is invented, and nothing is sent after it."""
    of = relay()
    run(of, *pieces)

    assert of.error is not None
    assert (of.error.status, of.error.code) == (502, code)
    assert of.feed(DONE) == []
    assert of.end() == []
    assert json.loads(of.error_chunk(of.error))["choices"][0]["finish_reason"] == "error"


def test_event_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error like any other."""
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 64)
    of = relay()

    assert of.feed(b"data: " + b"x" * 100) == []
    assert of.error is not None


def test_stream_with_a_byte_order_mark() -> None:
    """It is no part of the answer."""
    chunks = run(relay(), b"\xef\xbb\xbf" + WHOLE[0], WHOLE[1], DONE)

    assert streamed_text(chunks) == "x"


@pytest.mark.parametrize(
    "head",
    [
        pytest.param({"id": 7}, id="a number as its id"),
        pytest.param({"model": ["m"]}, id="a list as its model"),
        pytest.param({"created": "today"}, id="a word as its time"),
        pytest.param({"object": None}, id="no object"),
    ],
)
def test_chunk_with_an_odd_head(head: dict[str, Any]) -> None:
    """Ours stands in its place: whoever translates the chunk relies on the types."""
    chunks = run(relay(), event({**chunk({"content": "x"}, finish="stop"), **head}), DONE)

    assert [type(chunks[0][name]) for name in ("id", "object", "created", "model")] == [str, str, int, str]
    assert streamed_text(chunks) == "x"


def test_bytes_after_the_end() -> None:
    """Are passed over."""
    of = relay()
    run(of, *WHOLE, DONE)

    assert of.feed(WHOLE[0]) == []


def test_chunk_after_the_finish_reason() -> None:
    """The one that was held back goes first; the report still finds a last chunk."""
    chunks = run(relay(), *WHOLE, event(chunk({"content": "!"})), DONE)

    assert streamed_text(chunks) == "x!"
    assert finish_reasons(chunks) == ["stop"]
    assert chunks[-1]["choices"][0]["delta"] == {}


def piece(index: int, **function: Any) -> dict[str, Any]:
    return {"index": index, "function": function}


def test_tool_calls_in_pieces() -> None:
    """Are put together in the answer that is remembered."""
    of = relay()
    pieces = [
        [{**piece(0, name="f", arguments=""), "id": "a"}],
        [piece(0, arguments='{"x":')],
        [{**piece(1, name="g", arguments="{}"), "id": "b"}, piece(0, arguments="1}")],
    ]
    run(of, *(event(chunk({"tool_calls": calls})) for calls in pieces), event(chunk({}, finish="tool_calls")), DONE)

    message = of.completion()["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


@pytest.mark.parametrize("index", [-1, MAX_CHOICES, 10**12, "0", None])
def test_tool_call_with_an_impossible_index(index: Any) -> None:
    """Takes no memory and is not remembered."""
    of = relay()
    run(of, event(chunk({"tool_calls": [piece(index, name="f")]}, finish="stop")), DONE)

    assert "tool_calls" not in of.completion()["choices"][0]["message"]


def test_several_choices() -> None:
    """Each has its own text and its own finish reason."""
    of = relay()
    stream = [
        event(chunk({"content": "a"})),
        event(chunk({"content": "b"}, index=1)),
        event(chunk({}, finish="stop")),
        event(chunk({"content": "B"}, index=1)),
        event(chunk({}, finish="length", index=1)),
        DONE,
    ]
    chunks = run(of, *stream)
    roles = [choice["delta"].get("role") for each in chunks for choice in each["choices"]]
    remembered = of.completion()["choices"]

    assert roles == ["assistant", "assistant", None, None, None]
    assert (streamed_text(chunks), streamed_text(chunks, index=1)) == ("a", "bB")
    assert finish_reasons(chunks) == ["stop", "length"]
    assert [each["message"]["content"] for each in remembered] == ["a", "bB"]
    assert [each["finish_reason"] for each in remembered] == ["stop", "length"]


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        pytest.param({"role": "assistant", "content": ""}, False, id="role"),
        pytest.param({"content": "x"}, True, id="text"),
        pytest.param({"reasoning_content": "hm"}, True, id="reasoning"),
        pytest.param({"refusal": "no"}, True, id="refusal"),
        pytest.param({"function_call": {"name": "f"}}, True, id="function"),
        pytest.param({"tool_calls": [piece(0, name="f")]}, True, id="tool call"),
    ],
)
def test_first_content(delta: dict[str, Any], expected: bool) -> None:
    """What a reader would see; until then another model may still take over."""
    of = relay()
    of.feed(event(chunk(delta)))

    assert of.has_content is expected


@pytest.mark.parametrize("shape", ["openai", "native"])
def test_every_cut(shape: Shape) -> None:
    """Where the bytes are cut never matters."""
    stream = openai_events("Grü", "ße 👋", usage=USAGE) if shape == "openai" else native_events("Grü", "ße 👋")
    data = b"".join(stream)
    expected = run(relay(shape), data)

    for place in range(len(data)):
        assert run(relay(shape), data[:place], data[place:]) == expected
    assert run(relay(shape), *(data[i : i + 1] for i in range(len(data)))) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 200) | st.floats(0, 1) | st.sampled_from(["", "x", "stop"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "content", "tool_calls", "function", "name", "arguments", "index", "id", "usage"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@settings(max_examples=150)
@given(
    shape=st.sampled_from(["openai", "native"]),
    event_fields=st.dictionaries(
        st.sampled_from(["response", "usage", "model", "id", "choices", "tool_calls", "finish_reason"]), JSON
    ),
    delta=st.dictionaries(st.sampled_from(["role", "content", "tool_calls", "refusal"]), JSON),
    finish=JSON,
)
def test_any_json_from_a_model(shape: Shape, event_fields: dict[str, Any], delta: dict[str, Any], finish: Any) -> None:
    """Is relayed or is an error, nothing else: a model never crashes the relay."""
    of = relay(shape, include_usage=True)
    odd = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    run(of, event(event_fields), event(odd), DONE)

    assert of.is_done or of.error
    of.completion()


TEXTS = st.text(max_size=120) | st.text(alphabet=" \n\tab", max_size=120) | st.text(alphabet="ab", min_size=24)


@settings(max_examples=100)
@given(texts=st.lists(TEXTS, min_size=1, max_size=3), include_usage=st.booleans())
def test_replay_of_an_answer(texts: list[str], include_usage: bool) -> None:
    """A relay makes the same answer of it."""
    choices = [completions.choice(text, "stop", index=i) for i, text in enumerate(texts)]
    body = completion(choices=choices)
    stream = [event(text) for text in completions.replay(body, include_usage=include_usage)]
    of = relay()
    chunks = run(of, *stream, DONE)

    assert [streamed_text(chunks, index=i) for i in range(len(texts))] == texts
    assert [each["message"]["content"] or "" for each in of.completion()["choices"]] == texts


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(" " + "x" * 30, id="a space before a long word"),
        pytest.param("\n" + "東京都" * 20, id="a line break before a script without spaces"),
        pytest.param("x" * 30 + "\n\n" + "y" * 30 + " ", id="long words"),
        pytest.param(" " * 60, id="only spaces"),
        pytest.param("", id="nothing"),
    ],
)
def test_replay_of_white_space(text: str) -> None:
    """Every character comes, in pieces no longer than a model's own."""
    chunks = [json.loads(each) for each in completions.replay(completion(text), include_usage=False)]

    assert streamed_text(chunks) == text


def test_replay_of_tool_calls() -> None:
    """One chunk with all of them, numbered."""
    calls = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    body = completion(choices=[completions.choice(None, "tool_calls", tool_calls=calls)])
    of = relay()
    run(of, *(event(text) for text in completions.replay(body, include_usage=False)), DONE)

    assert of.completion()["choices"][0]["message"]["tool_calls"] == calls


class ThoroughRelay(StreamRelay):
    """Takes a second look at every chunk."""

    def _relay_event(self, data: str, sent: list[str]) -> None:
        self._usual = None
        super()._relay_event(data, sent)


ODD_CHUNKS = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.fixed_dictionaries(
                {
                    "delta": st.dictionaries(
                        st.sampled_from(["content", "role", "refusal"]), st.sampled_from(["", "é", 5])
                    )
                },
                optional={
                    "index": st.sampled_from([0, 1, True]),
                    "logprobs": st.sampled_from([None, {}, "x"]),
                    "finish_reason": st.sampled_from([None, "", "stop", "end"]),
                },
            ),
            max_size=2,
        )
    },
    optional={
        "id": st.sampled_from(["a", "b", ""]),
        "model": st.sampled_from(["m", 5]),
        "created": st.sampled_from([1, 2]),
        "object": st.sampled_from(["chat.completion.chunk", "x"]),
        "usage": st.sampled_from([None, USAGE]),
        "error": st.sampled_from([None, {}, {"message": "oops"}]),
    },
)


@given(st.lists(st.one_of(ODD_CHUNKS, st.sampled_from([chunk({"content": "x"}), chunk({"content": "y"})])), max_size=8))
def test_chunks_that_need_no_second_look(chunks: list[dict[str, Any]]) -> None:
    """Make the same stream and the same answer as if each were looked at."""
    quick, thorough = relay(), relay(kind=ThoroughRelay)
    for each in [*chunks, chunk({}, finish="stop")]:
        assert quick.feed(event(each)) == thorough.feed(event(each))
    assert (quick.end(), quick.deltas, quick.has_content) == (thorough.end(), thorough.deltas, thorough.has_content)
    assert (quick.error is None) == (thorough.error is None)
    assert quick.completion() == thorough.completion()


def test_native_pieces_with_a_new_head() -> None:
    """Later pieces carry what the model said of itself last."""
    events = [
        event({"response": text, **more})
        for text, more in [("a", {}), ("b", {}), ("c", {"id": "x"}), ("\u2028\ud800", {})]
    ]
    chunks = run(relay("native"), *events, DONE)

    assert [each["id"] for each in chunks] == ["chatcmpl-1", "chatcmpl-1", "x", "x", "x"]
    assert streamed_text(chunks) == "abc\u2028\ud800"

"""Workers AI's two dialects: what is sent, what comes back, what its errors mean."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.catalog import Model
from edge_router.errors import EdgeClosed, UpstreamBusy, UpstreamError, UpstreamTimeout
from edge_router.requests import parse_chat
from edge_router.workers_ai import DEFAULT_OUTPUT_TOKENS, build_inputs, parse_answer, parse_error
from tests.edge_router.harness import EDGE_LARGE, EDGE_SMALL, USAGE, chat_body, completion, native


def inputs(model: Model, **fields: Any) -> dict[str, Any]:
    body = chat_body("Hi", **fields)
    return build_inputs(model, parse_chat(body), body)


def parse(answer: object, model: Model = EDGE_SMALL) -> dict[str, Any]:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return parse_answer(model, text, completion_id="chatcmpl-1", created_s=5, limit_tokens=100)


def test_inputs_of_a_native_model() -> None:
    """A flat body with a limit always; roles and parts that it does not know are rewritten."""
    body = {
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "function", "name": "f", "content": "c"},
        ],
        "temperature": 0.5,
        "stop": ["x"],
        "user": "u",
    }

    assert build_inputs(EDGE_SMALL, parse_chat(body), body) == {
        "messages": [{"role": "system", "content": "a\nb"}, {"role": "tool", "content": "c"}],
        "max_tokens": DEFAULT_OUTPUT_TOKENS,
        "temperature": 0.5,
    }


def test_inputs_of_an_openai_model() -> None:
    """The parameters that it knows, as they came; no thinking before the answer."""
    assert inputs(EDGE_LARGE, max_tokens=7, stop=["x"], n=2, user="u", temperature=None) == {
        "messages": [{"role": "user", "content": "Hi"}],
        "max_completion_tokens": 7,
        "stop": ["x"],
        "n": 2,
        "chat_template_kwargs": {"enable_thinking": False},
    }


def test_inputs_of_a_model_that_does_not_think() -> None:
    """Nothing is said about thinking."""
    assert "chat_template_kwargs" not in inputs(Model("m", "edge", "edge-large", 1))


def test_inputs_of_streams() -> None:
    """Both dialects are asked for a stream, OpenAI's for usage too."""
    assert inputs(EDGE_SMALL, stream=True)["stream"] is True
    assert inputs(EDGE_LARGE, stream=True)["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("seed", [0, 1, -1, 9_999_999_999, 2**63])
def test_seed_of_a_native_model(seed: int) -> None:
    """Lies in the range that it takes; the same seed becomes the same one again."""
    sent = inputs(EDGE_SMALL, seed=seed)["seed"]

    assert 1 <= sent <= 9_999_999_999
    assert inputs(EDGE_SMALL, seed=seed)["seed"] == sent


def test_seeds_of_a_native_model() -> None:
    """Neighbours stay different."""
    assert len({inputs(EDGE_SMALL, seed=seed)["seed"] for seed in range(-5, 6)}) == 11


@pytest.mark.parametrize(("top_p", "expected"), [(0, 0.001), (0.5, 0.5), (1, 1)])
def test_nucleus_of_a_native_model(top_p: float, expected: float) -> None:
    """0 is out of its range: the least that it takes is sent instead."""
    assert inputs(EDGE_SMALL, top_p=top_p)["top_p"] == expected


def test_native_answer() -> None:
    """Becomes a completion."""
    assert parse(native("Paris.")) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 5,
        "model": "edge-small-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Paris.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    }


@pytest.mark.parametrize(
    ("answer", "content", "reason"),
    [
        pytest.param(native("x", usage={"completion_tokens": 100}), "x", "length", id="at the limit"),
        pytest.param(native("x", usage=None), "x", "stop", id="without usage"),
        pytest.param({"response": {"a": 1}}, '{"a":1}', "stop", id="an object as the answer"),
        pytest.param(
            {"response": None, "tool_calls": [{"name": "f", "arguments": {"a": 1}}]}, None, "tool_calls", id="tool call"
        ),
    ],
)
def test_finish_of_a_native_answer(answer: dict[str, Any], content: str | None, reason: str) -> None:
    """Native models do not say why they stopped."""
    (choice,) = parse(answer)["choices"]

    assert (choice["message"]["content"], choice["finish_reason"]) == (content, reason)


def test_native_tool_calls() -> None:
    """Get an id and arguments as text where they have none."""
    calls = [{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": "{}", "id": "c2"}, {"name": "h"}]
    found = parse({"response": "", "tool_calls": calls})["choices"][0]["message"]["tool_calls"]

    assert [call["id"] for call in found] == ["call_chatcmpl-10", "c2", "call_chatcmpl-12"]
    assert [call["function"]["arguments"] for call in found] == ['{"a":1}', "{}", "{}"]


def test_openai_answer() -> None:
    """Stays as it is; what is missing of its head is added."""
    assert parse(completion("x"), EDGE_LARGE) == completion("x")
    assert parse({"choices": [{"message": {"content": "x"}}]})["id"] == "chatcmpl-1"


UNREADABLE = [
    pytest.param("no json", id="not JSON"),
    pytest.param("[" * 100_000, id="nested too deeply"),
    pytest.param([], id="a list"),
    pytest.param({}, id="neither dialect"),
    pytest.param({"error": "x", "choices": []}, id="an error"),
    pytest.param({"choices": "x"}, id="choices that are text"),
    pytest.param({"choices": [{}]}, id="a choice without a message"),
    pytest.param({"choices": [{"message": {"content": 5}}]}, id="content that is a number"),
    pytest.param({"response": ""}, id="an empty answer"),
    pytest.param({"response": None, "tool_calls": []}, id="no answer at all"),
    pytest.param({"response": "", "tool_calls": ["f"]}, id="a tool call that is text"),
]


@pytest.mark.parametrize("answer", UNREADABLE)
def test_answer_that_can_not_be_read(answer: object) -> None:
    """The model failed; its text is not repeated."""
    with pytest.raises(UpstreamError) as caught:
        parse(answer)

    assert caught.value.status == 502


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "id", "content"]), inner),
    max_leaves=5,
)


@settings(max_examples=100)
@given(answer=st.dictionaries(st.sampled_from(["response", "tool_calls", "usage", "model", "choices", "error"]), JSON))
def test_any_json_answer(answer: dict[str, Any]) -> None:
    """Is a completion with choices or an UpstreamError, nothing else."""
    try:
        parsed = parse(answer)
    except UpstreamError:
        return

    assert parsed["choices"]


@pytest.mark.parametrize(
    ("status", "text", "expected", "http"),
    [
        pytest.param(429, "AiError: 3040: Capacity temporarily exceeded", UpstreamBusy, 429, id="out of capacity"),
        pytest.param(500, '{"errors":[{"code":3036}]}', EdgeClosed, 429, id="allowance used up"),
        pytest.param(429, "", UpstreamBusy, 429, id="429 alone"),
        pytest.param(500, "3007: timeout", UpstreamTimeout, 504, id="timeout"),
        pytest.param(408, "", UpstreamTimeout, 504, id="408 alone"),
        pytest.param(400, "5007: No such model", UpstreamError, 502, id="no such model"),
        pytest.param(500, "oops 123456", UpstreamError, 502, id="no code"),
    ],
)
def test_error_answers(status: int, text: str, expected: type[UpstreamError], http: int) -> None:
    """The internal code tells, wherever it stands; else the status."""
    error = parse_error(status, text)

    assert type(error) is expected
    assert error.status == http
    assert "oops" not in error.message

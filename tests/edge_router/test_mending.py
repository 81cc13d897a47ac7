"""Answers that are good but for their form: mended in place, and only what can't be is refused."""

from typing import Any

import pytest

from edge_router.errors import UpstreamError
from edge_router.mending import mend_choice, mend_chunk, mend_head

ID = "chatcmpl-0123456789abcdef01234567"
FUNCTION = {"name": "f", "arguments": "{}"}
CALL = {"id": "call_1", "type": "function", "function": FUNCTION}


def choice(**fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Hi"}
    return {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop", **fields}


def calling(**fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": None, "tool_calls": [{**CALL, **fields}]}
    return choice(message=message, finish_reason="tool_calls")


@pytest.mark.parametrize(
    "entry",
    [
        choice(),
        choice(logprobs={"content": []}),
        calling(),
        calling(type="custom", function=None, custom={"name": "f", "input": ""}),
    ],
    ids=["text", "logprobs", "call", "call of another kind"],
)
def test_right_choice(entry: dict[str, Any]) -> None:
    """It is not touched."""
    assert not mend_choice(entry, 0, ID)


@pytest.mark.parametrize(
    ("entry", "mended"),
    [
        pytest.param(choice(message={"role": "user", "content": "Hi"}), choice(), id="role"),
        pytest.param(
            choice(message={"content": "Hi"}), choice(message={"content": "Hi", "role": "assistant"}), id="none"
        ),
        pytest.param(choice(logprobs="x"), choice(), id="logprobs"),
        pytest.param(choice(finish_reason=None), choice(), id="no finish reason"),
        pytest.param(choice(finish_reason="eos"), choice(), id="another word for stop"),
        pytest.param(choice(finish_reason="max_tokens"), choice(finish_reason="length"), id="another word for length"),
        pytest.param({**calling(), "finish_reason": "tool_use"}, calling(), id="another word for calls"),
        pytest.param({**calling(), "finish_reason": None}, calling(), id="calls without a finish reason"),
        pytest.param(calling(type=None), calling(), id="type of a call"),
        pytest.param(calling(id=None), calling(id="call_0123456789abcdef0123456700"), id="id of a call"),
        pytest.param(calling(function={"name": "f", "arguments": {}}), calling(), id="arguments"),
        pytest.param(calling(function={"name": "f"}), calling(), id="no arguments"),
    ],
)
def test_wrong_choice(entry: dict[str, Any], mended: dict[str, Any]) -> None:
    """What was meant is plain."""
    assert mend_choice(entry, 0, ID)
    assert entry == mended


def test_choice_without_an_index() -> None:
    """Its place tells."""
    entry = choice()
    del entry["index"]

    assert mend_choice(entry, 3, ID)
    assert entry["index"] == 3


@pytest.mark.parametrize(
    "entry",
    [choice(finish_reason=5), calling(function=None), calling(function={"arguments": "{}"})],
    ids=["finish reason", "no function", "function without a name"],
)
def test_choice_that_is_beyond_mending(entry: dict[str, Any]) -> None:
    """Nobody can tell what was meant."""
    with pytest.raises(UpstreamError):
        mend_choice(entry, 0, ID)


@pytest.mark.parametrize(
    ("head", "mended"),
    [
        pytest.param({"object": "chat.completion", "service_tier": "flex"}, None, id="right"),
        pytest.param({"object": "x"}, {"object": "chat.completion"}, id="object"),
        pytest.param(
            {"object": "chat.completion", "service_tier": "on_demand"}, {"object": "chat.completion"}, id="tier"
        ),
        pytest.param({"object": "chat.completion", "service_tier": 5}, {"object": "chat.completion"}, id="tier number"),
        pytest.param({"object": "chat.completion", "system_fingerprint": 5}, {"object": "chat.completion"}, id="print"),
    ],
)
def test_head(head: dict[str, Any], mended: dict[str, Any] | None) -> None:
    """What is wrong and not needed is left out."""
    before = dict(head)

    assert mend_head(head, "chat.completion") is (mended is not None)
    assert head == (mended or before)


@pytest.mark.parametrize(
    ("delta", "finish", "mended", "mended_finish"),
    [
        pytest.param({"content": "Hi"}, None, {"content": "Hi"}, None, id="right"),
        pytest.param({"role": "bot"}, None, {"role": "assistant"}, None, id="role"),
        pytest.param({}, "eos", {}, "stop", id="finish reason"),
        pytest.param({"tool_calls": [{"id": "1"}]}, None, {"tool_calls": [{"id": "1", "index": 0}]}, None, id="index"),
        pytest.param(
            {"tool_calls": [{"index": 1, "type": 5}]}, None, {"tool_calls": [{"index": 1, "type": "function"}]}, None,
            id="type",
        ),
        pytest.param({"tool_calls": "x"}, 5, {"tool_calls": "x"}, 5, id="left to the relay"),
        pytest.param({"tool_calls": ["x"]}, "", {"tool_calls": ["x"]}, "", id="left to the relay, too"),
    ],
)  # fmt: skip
def test_chunk(delta: dict[str, Any], finish: Any, mended: dict[str, Any], mended_finish: Any) -> None:
    """As with plain answers; what the relay checks by itself is not looked at."""
    entry = {"index": 0, "delta": delta, "finish_reason": finish}
    is_right = (delta, finish) == (mended, mended_finish)

    assert mend_chunk(entry, delta) is not is_right
    assert (delta, entry["finish_reason"]) == (mended, mended_finish)


def test_chunk_that_is_beyond_mending() -> None:
    """A function call that is text."""
    with pytest.raises(UpstreamError):
        mend_chunk({"index": 0}, {"function_call": "f"})

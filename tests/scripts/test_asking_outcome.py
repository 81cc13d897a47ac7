"""How scripts/ask reads an answer."""

import json
from typing import Any

import pytest

from scripts.asking.outcome import Outcome, StreamReading

DONE = b"data: [DONE]\n\n"


def event(**chunk: Any) -> bytes:
    return f"data: {json.dumps(chunk)}\n\n".encode()


def delta(content: str | None = None, finish_reason: str | None = None, **more: Any) -> bytes:
    fields = {} if content is None else {"content": content}
    return event(choices=[{"index": 0, "delta": fields, "finish_reason": finish_reason}], **more)


def read_stream(*parts: bytes) -> Outcome:
    """Each part arrives 0.1 s after the one before."""
    outcome = Outcome(status=200)
    reading = StreamReading(outcome)
    for number, part in enumerate(parts, start=1):
        reading.feed(part, elapsed_s=number / 10)
    reading.end()
    return outcome


def test_whole_stream() -> None:
    """TTFT is the arrival of the first content, not of the first chunk; the last report wins."""
    outcome = read_stream(
        delta("", nearside={"served_by": "edge-model"}),
        delta("Hel"),
        delta("lo"),
        delta(finish_reason="stop"),
        event(
            choices=[], usage={"prompt_tokens": 3, "completion_tokens": 2}, nearside={"cost_usd": 0.5, "tier": "small"}
        ),
        DONE,
    )

    assert outcome.error is None
    assert (outcome.text, outcome.ttft_s, outcome.finish_reason) == ("Hello", 0.2, "stop")
    assert (outcome.input_tokens, outcome.output_tokens, outcome.cost_usd) == (3, 2, 0.5)
    assert outcome.nearside == {"served_by": "edge-model", "cost_usd": 0.5, "tier": "small"}


def test_bytes_cut_anywhere() -> None:
    """The network may cut inside an event and inside a character."""
    whole = delta("é!") + delta(finish_reason="stop") + DONE

    outcome = read_stream(*(whole[i : i + 1] for i in range(len(whole))))

    assert (outcome.text, outcome.error) == ("é!", None)


def test_content_that_is_only_a_tool_call() -> None:
    """A tool call is content too."""
    call = event(choices=[{"index": 0, "delta": {"tool_calls": [{"index": 0}]}, "finish_reason": None}])

    outcome = read_stream(call, delta(finish_reason="tool_calls"), DONE)

    assert (outcome.ttft_s, outcome.error) == (0.1, None)


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        pytest.param([delta("a"), delta(finish_reason="stop")], "stream_cut", id="no DONE"),
        pytest.param([], "stream_cut", id="nothing"),
        pytest.param([delta("a"), DONE], "no_finish_reason", id="no finish reason"),
        pytest.param([delta("a"), delta(finish_reason="error"), DONE], "finish_reason_error", id="finish reason error"),
        pytest.param(
            [delta("a"), delta(finish_reason="error", error={"code": "upstream_stalled"}), DONE],
            "upstream_stalled",
            id="error event",
        ),
        pytest.param([event(error={"message": "?"}), DONE], "stream_error", id="error without a code"),
        pytest.param([b"data: {oops\n\n", delta(finish_reason="stop"), DONE], "unreadable_answer", id="not JSON"),
    ],
)
def test_broken_stream(parts: list[bytes], code: str) -> None:
    """A stream is whole only with a finish reason and [DONE], and without an error."""
    assert read_stream(*parts).error == code


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        pytest.param(429, '{"error": {"code": "rate_limited", "type": "requests"}}', "rate_limited", id="code"),
        pytest.param(400, '{"error": {"code": null, "type": "some_type"}}', "some_type", id="type"),
        pytest.param(502, "<html>", "status_502", id="not ours"),
        pytest.param(200, "<html>", "unreadable_answer", id="200 that is no completion"),
        pytest.param(
            200,
            '{"choices": [{"message": {"content": "x"}, "finish_reason": "error"}]}',
            "finish_reason_error",
            id="failed choice",
        ),
    ],
)
def test_failed_plain_answer(status: int, body: str, code: str) -> None:
    """An error is named by the gateway's code, else by what is known."""
    outcome = Outcome(status=status)

    outcome.note_plain(body.encode())

    assert outcome.error == code


def test_plain_answer() -> None:
    """A plain answer has no TTFT: nothing is invented."""
    outcome = Outcome(status=200)

    outcome.note_plain(
        b'{"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], '
        b'"usage": {"prompt_tokens": 1, "completion_tokens": 1}, "nearside": {"cost_avoided_usd": 0.25}}'
    )

    assert (outcome.error, outcome.text, outcome.ttft_s, outcome.cost_avoided_usd) == (None, "Hi", None, 0.25)

"""The stream law: before the first event with data a status, after it one error event and `[DONE]`."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_fallback import relay as relay_module
from cloud_fallback import sse
from cloud_fallback.calls import Endpoint
from cloud_fallback.errors import GatewayError, UpstreamError, UpstreamRateLimited
from cloud_fallback.relay import StreamRelay
from tests.cloud_fallback.harness import DONE, assert_lawful_failure, chunk, events

WHOLE = b": hi\n\n" + chunk("Grüße", usage=None) + chunk("👋") + DONE


def relay(*parts: bytes, is_ended: bool = True, endpoint: Endpoint = Endpoint.CHAT) -> bytes:
    stream = StreamRelay(endpoint, model="gpt-4o")
    out = b"".join(stream.feed(part) for part in parts)
    return out + stream.end() if is_ended else out


@given(st.lists(st.integers(0, len(WHOLE)), max_size=8))
def test_whole_stream_is_unchanged(cuts: list[int]) -> None:
    """A good stream passes byte for byte, wherever the network cuts it."""
    edges = [0, *sorted(cuts), len(WHOLE)]

    assert relay(*(WHOLE[a:b] for a, b in pairwise(edges))) == WHOLE


@given(st.integers(len(b": hi\n\n") + len(chunk("Grüße", usage=None)), len(WHOLE) - len(DONE)))
def test_cut_anywhere(end: int) -> None:
    """A stream cut at any byte, also inside a character, ends with one readable error event."""
    assert_lawful_failure(relay(WHOLE[:end]))


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b"data: {not json}\n\n", id="not json"),
        pytest.param(chunk("x")[:-5] + b"\n\n", id="truncated json"),
        pytest.param(b'data: {"a": NaN}\n\n', id="NaN"),
        pytest.param(b"data: \xff\n\n", id="not utf-8"),
        pytest.param(b"data: []\n\n", id="no object"),
        pytest.param(b"data:\n\n", id="empty data"),
        pytest.param(b"<html><body>502</body></html>\n\n", id="html"),
        pytest.param(b'event: error\ndata: {"message": "secret"}\n\n', id="error event by name"),
        pytest.param(b'data: {"error": {"message": "secret"}}\n\n', id="error object"),
        pytest.param(b'data: {"error": "secret"}\n\n', id="error string"),
    ],
)
def test_bad_event(bad: bytes) -> None:
    """An event nobody can read, or an upstream's error, ends the stream; nothing behind it is sent."""
    body = relay(chunk() + bad + chunk("late") + DONE)

    assert_lawful_failure(body)
    assert len(events(body)) == 3
    assert b"secret" not in body


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b": hi\n\n", id="comments only"),
        pytest.param(DONE, id="done only"),
        pytest.param(b'data: {"error": {"message": "secret"}}\n\n', id="error object"),
        pytest.param(b'data: {"foo": 1}\n\n', id="no choices"),
        pytest.param(b"<html></html>\n\n", id="html"),
        pytest.param(b"data: {", id="cut"),
    ],
)
def test_bad_start(bad: bytes) -> None:
    """Before the first good event a failure is an exception: a status can still be set."""
    with pytest.raises(UpstreamError) as caught:
        relay(bad)

    assert caught.value.status == 502
    assert "secret" not in caught.value.message


def test_rate_limit_as_first_event() -> None:
    """An upstream's error event that says 429 is a 429."""
    with pytest.raises(UpstreamRateLimited):
        relay(b'data: {"error": {"code": 429, "message": "slow down"}}\n\n')


def test_duplicated_done() -> None:
    """What follows the first `[DONE]` is dropped, in the same chunk and in a later one."""
    assert relay(chunk() + DONE + DONE, DONE, chunk()) == chunk() + DONE


def test_done_without_blank_line() -> None:
    """A last `[DONE]` whose blank line is missing still ends the stream well."""
    assert relay(chunk(), b"data: [DONE]") == chunk() + DONE


def test_event_is_held_until_whole() -> None:
    """Half an event does not leave: an error event behind it could not be read."""
    stream = StreamRelay(Endpoint.CHAT, model="gpt-4o")

    assert stream.feed(chunk() + chunk("b")[:30]) == chunk()
    assert stream.feed(chunk("b")[30:]) == chunk("b")


def test_half_an_emoji() -> None:
    """Providers cut an emoji's escapes in two events; that is no failure."""
    half = b'data: {"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}\n\n'

    assert relay(half, DONE) == half + DONE


def test_failure_is_said_once() -> None:
    """After the end nothing more is said."""
    stream = StreamRelay(Endpoint.CHAT, model="gpt-4o")
    stream.feed(chunk())

    assert_lawful_failure(chunk() + stream.fail("stalled"), code="upstream_timeout")
    assert stream.fail("cut") + stream.end() + stream.feed(chunk()) == b""
    assert stream.failure == "stalled"


def test_completions_error_event() -> None:
    """A stream of /v1/completions fails in its own shape; ids that are no strings are not repeated."""
    start = b'data: {"id": 7, "created": null, "choices": [{"index": 0, "text": "a"}]}\n\n'
    error = events(relay(start, endpoint=Endpoint.COMPLETIONS))[1]

    assert error["object"] == "text_completion"
    assert error["choices"] == [{"index": 0, "text": "", "finish_reason": "error"}]
    assert (error["id"], error["model"]) == ("", "gpt-4o")
    assert error["created"] > 0


@pytest.mark.parametrize("flood", [b": x\n\n" * 50, b"data: " + b"x" * 200], ids=["comments", "one event"])
def test_flood_before_the_start(flood: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for the first event is bounded."""
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    monkeypatch.setattr(relay_module, "MAX_EVENT_BYTES", 100)

    with pytest.raises(GatewayError):
        relay(flood, is_ended=False)


def test_many_tiny_chunks() -> None:
    """10,000 events are 10,000 events."""
    parts = [chunk(str(n)) for n in range(10_000)]

    body = relay(*parts, DONE)

    assert body == b"".join(parts) + DONE


def test_huge_event() -> None:
    """One event of a megabyte passes as any other."""
    huge = chunk("ü" * 500_000)
    pieces = [huge[at : at + 65_536] for at in range(0, len(huge), 65_536)]

    assert json.loads(relay(*pieces, DONE)[6 : len(huge)])["choices"][0]["delta"]["content"][0] == "ü"


def finished(index: int = 0) -> bytes:
    """The event that ends one choice."""
    return chunk(choices=[{"index": index, "delta": {}, "finish_reason": "stop"}])


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(chunk(choices=[], usage={"total_tokens": 3}), id="usage"),
        pytest.param(b": bye\n\n", id="comment"),
    ],
)
def test_finished_without_done(end: bytes) -> None:
    """Once every choice has its finish reason the answer is whole: a missing `[DONE]` is added, and no error."""
    assert relay(chunk(), finished(), end) == chunk() + finished() + end + DONE


def test_finished_without_last_blank_line() -> None:
    """The last event may lack its blank line as well."""
    assert relay(chunk() + finished().rstrip()) == chunk() + finished() + DONE


@pytest.mark.parametrize("reason", ["cut", "stalled", "no_done"])
def test_finished_then_broken(reason: str) -> None:
    """How the connection ends after the last finish reason does not matter."""
    stream = StreamRelay(Endpoint.CHAT, model="gpt-4o")
    stream.feed(chunk() + finished())

    assert stream.fail(reason) == DONE
    assert (stream.is_done, stream.failure) == (True, None)


@pytest.mark.parametrize(
    ("parts", "choices"),
    [
        pytest.param([chunk(), finished(1)], 1, id="the other choice has not finished"),
        pytest.param([chunk(), finished(0)], 2, id="the other choice has not begun"),
        pytest.param([chunk()], 1, id="none has finished"),
        pytest.param([chunk(choices=[]), chunk(choices=[])], 1, id="none has begun"),
        pytest.param([chunk(), finished(), b"data: {"], 1, id="cut within what follows"),
    ],
)
def test_unfinished_without_done(parts: list[bytes], choices: int) -> None:
    """While a choice is open an end is a failure."""
    stream = StreamRelay(Endpoint.CHAT, model="gpt-4o", choices=choices)
    body = b"".join(stream.feed(part) for part in parts) + stream.end()

    if parts[-1] == b"data: {":
        assert body.endswith(DONE)
        assert stream.failure is None
    else:
        assert_lawful_failure(body)


def test_usage_is_kept() -> None:
    """What the upstream counted is known at the end."""
    stream = StreamRelay(Endpoint.CHAT, model="gpt-4o")
    stream.feed(chunk(usage=None) + chunk(choices=[], usage={"prompt_tokens": 3}) + DONE)

    assert stream.usage == {"prompt_tokens": 3}


def test_odd_choices_are_passed_on() -> None:
    """What is none is the caller's to judge, and no choice that would have to end."""
    odd = chunk(choices=["x", {"index": "1"}])
    finished = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])

    assert relay(chunk() + odd + finished + DONE) == chunk() + odd + finished + DONE

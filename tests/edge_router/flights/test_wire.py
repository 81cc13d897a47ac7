"""What a shared call's object tells its callers, written and read."""

import pytest

from edge_router.errors import FlightLost, UpstreamError
from edge_router.flights.wire import BROKEN, KEEP, MAX_HEAD_BYTES, WHOLE, FlightReading, Head, looks_whole

STREAM = {"content-type": "text/event-stream; charset=utf-8"}
PLAIN = {"content-type": "application/json"}
HEAD = Head(200, STREAM)


@pytest.mark.parametrize("size", [1, 7, 1000], ids="pieces of {}".format)
def test_reading_in_pieces(size: int) -> None:
    """Head, bytes and marks are told apart however the pieces fall."""
    sent = HEAD.encode() + "data: é\n\n".encode() + KEEP + b"data: [DONE]\n\n" + WHOLE
    reading = FlightReading(keeps=False)
    body = b"".join(reading.feed(sent[at : at + size]) for at in range(0, len(sent), size))
    reading.end()

    assert reading.head == HEAD
    assert body == "data: é\n\ndata: [DONE]\n\n".encode()
    assert reading.keeps


def test_reader_who_does_not_keep() -> None:
    """Without the mark the storing stays with another caller."""
    reading = FlightReading(keeps=False)
    reading.feed(HEAD.encode() + WHOLE)

    assert not reading.keeps


def test_upstream_that_broke_off() -> None:
    """Is the upstream's fault: another one may answer, the same one alone would not."""
    reading = FlightReading(keeps=True)
    reading.feed(HEAD.encode() + b"data: a\n\n" + BROKEN)

    with pytest.raises(UpstreamError) as caught:
        reading.end()
    assert not isinstance(caught.value, FlightLost)


@pytest.mark.parametrize("sent", [b"", HEAD.encode(), HEAD.encode() + b"data: a\n\n"], ids=["nothing", "head", "half"])
def test_object_that_was_lost(sent: bytes) -> None:
    """An end without a mark says nothing of the upstream."""
    reading = FlightReading(keeps=True)
    reading.feed(sent)

    with pytest.raises(FlightLost):
        reading.end()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"\x00 not what was stored {\n", id="no JSON"),
        pytest.param(b"[]\n", id="no object"),
        pytest.param(b'{"status": 200}\n', id="fields missing"),
        pytest.param(b'{"status": "200", "headers": {}, "failure": null}\n', id="status is text"),
        pytest.param(b'{"status": 200, "headers": [], "failure": null}\n', id="headers are a list"),
        pytest.param(b"x" * (MAX_HEAD_BYTES + 1), id="no end"),
    ],
)
def test_head_that_cannot_be_read(line: bytes) -> None:
    """The flight counts as lost."""
    with pytest.raises(FlightLost):
        FlightReading(keeps=True).feed(line)


@pytest.mark.parametrize(
    ("status", "headers", "tail", "expected"),
    [
        pytest.param(200, STREAM, b'{"choices":[{}]}\n\ndata: [DONE]\n\n', True, id="stream"),
        pytest.param(200, STREAM, b'{"finish_reason":"stop"}\n\n', False, id="stream without its end"),
        pytest.param(200, STREAM, b"data: [DONE]\n\n", False, id="stream of nothing"),
        pytest.param(200, STREAM, b'data: {"error":{}}\n\ndata: [DONE]\n\n', False, id="stream that told of an error"),
        pytest.param(
            200, STREAM, rb'{"choices":[{"content":"\"error\":"}]} data: [DONE]', True, id="text about an error"
        ),
        pytest.param(200, PLAIN, b'{"choices":[{}]}\n', True, id="plain"),
        pytest.param(200, PLAIN, b'{"response":"Paris."}', True, id="plain, native"),
        pytest.param(200, PLAIN, b'{"choices":[]}', False, id="plain, empty"),
        pytest.param(200, PLAIN, b"", False, id="nothing"),
        pytest.param(200, PLAIN, b'{"choices":[', False, id="plain, cut"),
        pytest.param(500, PLAIN, b'{"error":{}}', False, id="failure"),
    ],
)
def test_answer_for_later_callers(status: int, headers: dict[str, str], tail: bytes, expected: bool) -> None:
    """Only what looks whole is given to those who come after the end."""
    assert looks_whole(Head(status, headers), tail) is expected

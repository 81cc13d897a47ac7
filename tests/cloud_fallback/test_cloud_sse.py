"""Events are found wherever the network cuts the bytes, and no byte is changed."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_fallback import sse
from cloud_fallback.sse import Event, EventScanner, EventTooLarge
from edge_router.sse import Decoder

LINES = st.sampled_from(
    ["", "", "", "data: a", "data:b", "data", 'data: {"c": "ü👋"}', ": note", "id: 1", "event: error", "x"]
)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


def scan(parts: list[bytes]) -> tuple[list[Event], bytes]:
    scanner = EventScanner()
    found = [event for part in parts for event in scanner.feed(part)]
    return found, scanner.tail


@given(st.lists(st.tuples(LINES, ENDS), max_size=12), st.data())
def test_any_split(lines: list[tuple[str, str]], data: st.DataObject) -> None:
    """Whatever the split, the data is what the standard's decoder sees, and all bytes are there in order."""
    stream = "".join(line + end for line, end in lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    edges = [0, *cuts, len(stream)]
    parts = [stream[a:b] for a, b in pairwise(edges)]

    found, tail = scan(parts)

    assert b"".join(event.raw for event in found) + tail == stream
    assert [event.data.decode() for event in found if event.data is not None] == Decoder().feed(stream)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
def test_every_split_of_one_stream(end: str) -> None:
    """Each line end works when the stream comes in one piece, byte by byte, or cut in two anywhere."""
    stream = f": hi{end}{end}data: ü{end}data: 👋{end}{end}data: [DONE]{end}{end}".encode()
    expected = [None, "ü\n👋".encode(), b"[DONE]"]
    splits = [[stream], [bytes([byte]) for byte in stream]]
    splits += [[stream[:at], stream[at:]] for at in range(len(stream))]

    for parts in splits:
        found, tail = scan(parts)
        assert [event.data for event in found] == expected
        assert b"".join(event.raw for event in found) + tail == stream


def test_byte_order_mark() -> None:
    """A byte order mark at the very start is not part of the first line."""
    found, _ = scan([b"\xef\xbb\xbfdata: 1\n\n"])

    assert found == [Event(b"\xef\xbb\xbfdata: 1\n\n", b"1")]


def test_unknown_field_is_malformed() -> None:
    """A line that is no field of the standard is not passed over: it is an HTML page or half an event."""
    found, _ = scan([b"<html>\n\n", b"id: 1\nretry: 5\ndata: 1\n\n"])

    assert [event.is_malformed for event in found] == [True, False]


def test_event_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that does not end is not kept in memory for ever."""
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)

    with pytest.raises(EventTooLarge):
        scan([b"data: " + b"x" * 100])


def test_flush() -> None:
    """What has no blank line yet is read when the stream ends."""
    scanner = EventScanner()
    empty = scanner.flush()
    scanner.feed(b"data: " + json.dumps("x").encode())

    last = scanner.flush()

    assert empty is None
    assert last is not None
    assert last.data == b'"x"'

"""Server-sent events: what the decoder makes of bytes, however they are cut."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router import sse
from edge_router.sse import DONE, DONE_EVENT, KEEP_ALIVE, BadStream, Decoder, encode_event

STREAMS = [
    pytest.param("data: a\n\ndata: b\n\n", ["a", "b"], id="line feeds"),
    pytest.param("data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"], id="carriage return and line feed"),
    pytest.param("data: a\r\rdata: b\r\r", ["a", "b"], id="carriage returns"),
    pytest.param("data: a\r\n\ndata: b\n\r\ndata: c\r\r\n", ["a", "b", "c"], id="mixed line ends"),
    pytest.param("data: Grüße 👋🏽\n\ndata: 東京\n\n", ["Grüße 👋🏽", "東京"], id="multi-byte characters"),
    pytest.param("data: a\ndata: b\n\n", ["a\nb"], id="several data lines are one event"),
    pytest.param(": hello\n\ndata: a\n: ping\n\n" + KEEP_ALIVE, ["a"], id="comments are passed over"),
    pytest.param("data:a\n\ndata:  b\n\n", ["a", " b"], id="one space after the colon is not part of it"),
    pytest.param("data\n\n", [""], id="data without a colon"),
    pytest.param("data\ndata\n\n", ["\n"], id="two empty data lines"),
    pytest.param("event: x\nid: 7\nretry: 5\ndata: a\n\n", ["a"], id="other fields are passed over"),
    pytest.param("database: a\ndat: b\n\n", [], id="fields that only look like data"),
    pytest.param("\n\n\ndata: a\n\n\n\n", ["a"], id="blank lines without data are no events"),
    pytest.param("data: a\n\n" + DONE_EVENT, ["a", DONE], id="the end mark is an event"),
    pytest.param("data: a", [], id="not ended"),
]


@pytest.mark.parametrize(("stream", "expected"), STREAMS)
def test_every_cut_of_a_stream(stream: str, expected: list[str]) -> None:
    """The events are the same at once, byte by byte, and cut in two anywhere."""
    data = stream.encode()
    splits = [[data], [data[i : i + 1] for i in range(len(data))], *([data[:i], data[i:]] for i in range(len(data)))]

    for pieces in splits:
        decoder = Decoder()
        assert [event for piece in pieces for event in decoder.feed(piece)] == expected, pieces


@settings(max_examples=100)
@given(
    parts=st.lists(
        st.sampled_from(["data: ", "data", ":", " ", "\r", "\n", "\r\n", "ü", "👋", "x", "\n\n"]), max_size=20
    ),
    cuts=st.lists(st.integers(0, 80), max_size=6),
)
def test_any_stream_cut_anywhere(parts: list[str], cuts: list[int]) -> None:
    """Where the bytes are cut never matters, the rest that flush returns included."""
    data = "".join(parts).encode()
    whole, cut = Decoder(), Decoder()
    places = [0, *sorted(min(place, len(data)) for place in cuts), len(data)]

    at_once = whole.feed(data) + whole.flush()
    in_pieces = [event for start, end in pairwise(places) for event in cut.feed(data[start:end])]

    assert in_pieces + cut.flush() == at_once


@settings(max_examples=100)
@given(texts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n")), max_size=5))
def test_encoded_events_read_back(texts: list[str]) -> None:
    """Text without line breaks survives the way out and in."""
    stream = "".join(map(encode_event, texts)).encode()

    assert Decoder().feed(stream) == texts


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        pytest.param(b"data: a", ["a"], id="in the middle of a line"),
        pytest.param(b"data: a\n", ["a"], id="after a line feed"),
        pytest.param(b"data: a\r", ["a"], id="after a carriage return"),
        pytest.param(b"data: a\r\n", ["a"], id="after both"),
        pytest.param(b"data: a\ndata: b", ["a\nb"], id="in the second line of an event"),
        pytest.param(b"data: a\n\n", [], id="after a whole event"),
        pytest.param(b": ping", [], id="in a comment"),
        pytest.param(b"", [], id="nothing was sent"),
    ],
)
def test_stream_that_stops_before_the_blank_line(stream: bytes, expected: list[str]) -> None:
    """flush returns what was left, once."""
    decoder = Decoder()
    whole = decoder.feed(stream)

    rest = decoder.flush()

    assert (rest if not whole else []) == expected
    assert decoder.flush() == []


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"data: a\xffb\n\n", id="a byte that is in no character"),
        pytest.param(b"data: \xf0\x9f\n\n", id="half a character"),
        pytest.param(b"data: \xed\xa0\xbd\n\n", id="half a surrogate pair"),
    ],
)
def test_bytes_that_are_not_utf_8(data: bytes) -> None:
    """Refused: a replaced character would be passed on as if the model had said it."""
    with pytest.raises(BadStream, match="UTF-8"):
        Decoder().feed(data)


def test_stream_that_stops_inside_a_character() -> None:
    """Refused at the end, as it would have been in the middle."""
    decoder = Decoder()
    decoder.feed(b"data: \xf0\x9f")

    with pytest.raises(BadStream, match="UTF-8"):
        decoder.flush()


def test_bytes_that_are_not_utf_8_in_a_field_that_nobody_reads() -> None:
    """Are passed over with it."""
    assert Decoder().feed(b": \xff\nevent: \xff\ndata: a\n\n") == ["a"]


def test_byte_order_mark_at_the_start() -> None:
    """It is not part of the first line: HTML decodes an event stream with "UTF-8 decode", which drops it."""
    data = "\ufeffdata: a\n\ndata: \ufeffb\n\n".encode()

    for place in range(len(data)):
        decoder = Decoder()
        assert decoder.feed(data[:place]) + decoder.feed(data[place:]) == ["a", "\ufeffb"]


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b"data: " + b"x" * 100], id="a line without an end"),
        pytest.param([b"data: ", *[b"x" * 10] * 10], id="a line in pieces"),
        pytest.param([b"data: " + b"x" * 20 + b"\n"] * 5, id="many lines"),
        pytest.param([b"data:\n"] * 50, id="many empty lines"),
        pytest.param([b"data\n"] * 50, id="many lines without a colon"),
    ],
)
def test_event_that_never_ends(pieces: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not buffered beyond the limit."""
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 64)
    decoder = Decoder()

    with pytest.raises(BadStream, match="64 bytes"):
        list(map(decoder.feed, pieces))


def test_large_chunk_of_small_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is on one event, not on what arrives at once."""
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 64)

    assert len(Decoder().feed(b"data: 0123456789\n\n" * 50)) == 50

"""Reading an input file line by line, and what is wrong with its lines."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.batches.lines import (
    CHUNK_LINES,
    MAX_LINE_BYTES,
    MAX_LINES,
    Chunk,
    InputCheck,
    Line,
    LineError,
    LineReader,
)

CHAT = "/v1/chat/completions"


def lines_of(*pieces: bytes) -> list[Line]:
    reader = LineReader()
    lines = [line for piece in pieces for line in reader.feed(piece)]
    return lines + list(reader.close())


def request(custom_id: str = "a", **changes: Any) -> bytes:
    fields = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"messages": []}, **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode() + b"\n"


def checked(data: bytes, endpoint: str = CHAT) -> tuple[list[LineError], list[Chunk]]:
    check = InputCheck(endpoint)
    found = [check.take(line) for line in lines_of(data)] + [check.close()]
    return check.errors, [chunk for chunk in found if chunk is not None]


@given(
    st.lists(st.binary(max_size=12), max_size=12),
    st.sampled_from([b"\n", b"\r\n"]),
    st.lists(st.integers(0, 200), max_size=10),
    st.booleans(),
)
def test_pieces_do_not_matter(texts: list[bytes], ending: bytes, cuts: Sequence[int], has_mark: bool) -> None:
    """Any way of cutting a file into pieces gives the same lines: with a byte-order mark, with either line break,
    with bytes that are no UTF-8, with no line break at the end.
    """
    data = (b"\xef\xbb\xbf" if has_mark else b"") + ending.join(texts)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})

    pieces = [data[start:end] for start, end in pairwise(places)]

    assert lines_of(*pieces) == lines_of(data)


@given(st.lists(st.binary(max_size=12).map(lambda text: text.replace(b"\n", b"")), max_size=12))
def test_no_line_is_lost(texts: list[bytes]) -> None:
    """Every line with text in it comes, in order, under its number; its bytes stand where it says."""
    data = b"\n".join(texts)
    expected = [(number, text.strip()) for number, text in enumerate(texts, 1) if text.strip()]

    lines = lines_of(data)

    if not data.startswith(b"\xef\xbb\xbf"):
        assert [(line.number, line.text) for line in lines] == expected
    assert all(data[line.offset : line.end].strip().endswith(line.text or b"") for line in lines)


def test_byte_order_mark_and_carriage_returns() -> None:
    """What Windows writes is read as what others write."""
    lines = lines_of(b'\xef\xbb\xbf{"a":1}\r\n\r\n{"a":2}')

    assert [(line.number, line.text) for line in lines] == [(1, b'{"a":1}'), (3, b'{"a":2}')]


def test_endless_line_is_not_kept() -> None:
    """A line beyond the limit has no text, and the lines after it are read."""
    long = [b"x" * 1024] * (MAX_LINE_BYTES // 1024 + 1)

    lines = lines_of(*long, b"\n", b"short")

    assert [line.text for line in lines] == [None, b"short"]


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        pytest.param(b"{broken\n", "invalid_json_line", None, id="broken JSON"),
        pytest.param(b"\xff\xfe\n", "invalid_json_line", None, id="no UTF-8"),
        pytest.param(b"[1]\n", "invalid_json_line", None, id="no object"),
        pytest.param(request(custom_id=None), "missing_required_parameter", "custom_id", id="no custom_id"),  # type: ignore[arg-type]
        pytest.param(request(custom_id=7), "invalid_type", "custom_id", id="custom_id a number"),  # type: ignore[arg-type]
        pytest.param(request(custom_id=""), "invalid_custom_id", "custom_id", id="custom_id empty"),
        pytest.param(request(body="x"), "invalid_type", "body", id="body no object"),
        pytest.param(request(method="GET"), "invalid_method", "method", id="another method"),
        pytest.param(request(url="/v1/embeddings"), "url_mismatch", "url", id="another endpoint"),
        pytest.param(request("first"), "duplicate_custom_id", "custom_id", id="custom_id again"),
    ],
)
def test_line_errors(line: bytes, code: str, param: str | None) -> None:
    """A line that can't be taken is told with its number; the others are checked all the same."""
    errors, _ = checked(request("first") + b"\n" + line + request("last"))

    assert [(error.code, error.line, error.param) for error in errors] == [(code, 3, param)]


def test_empty_file() -> None:
    """A file without a request is an error of the whole file."""
    errors, chunks = checked(b" \n\n")

    assert [(error.code, error.line) for error in errors] == [("empty_file", None)]
    assert chunks == []


def test_too_many_lines() -> None:
    """One request more than OpenAI takes is an error of the whole file."""
    errors, _ = checked(b"".join(request(str(number)) for number in range(MAX_LINES + 1)))

    assert [(error.code, error.line) for error in errors] == [("too_many_tasks", None)]


def test_chunks_cover_the_file() -> None:
    """The lines of all chunks are the lines of the file, and each chunk's bytes hold just its lines."""
    data = b"\n".join(request(str(number)) for number in range(CHUNK_LINES * 2 + 3))  # with blank lines between

    _, chunks = checked(data)

    assert [(chunk.number, chunk.first, chunk.lines) for chunk in chunks] == [
        (0, 0, CHUNK_LINES),
        (1, CHUNK_LINES, CHUNK_LINES),
        (2, 2 * CHUNK_LINES, 3),
    ]
    parts = [lines_of(data[chunk.offset : chunk.offset + chunk.bytes]) for chunk in chunks]
    assert [json.loads(line.text or b"")["custom_id"] for part in parts for line in part] == [
        str(number) for number in range(CHUNK_LINES * 2 + 3)
    ]

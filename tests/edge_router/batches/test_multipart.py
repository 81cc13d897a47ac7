"""Reading a form while it arrives."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.batches.multipart import FormReader, PartBegins, form_around, read_boundary
from edge_router.errors import RequestRejected

BOUNDARY = b"b0und"


def form(*parts: tuple[str, bytes]) -> bytes:
    head = b'\r\nContent-Disposition: form-data; name="%s"; filename="f.jsonl"\r\n\r\n'
    body = b"".join(b"--" + BOUNDARY + head % name.encode() + data + b"\r\n" for name, data in parts)
    return body + b"--" + BOUNDARY + b"--\r\n"


def read(pieces: Sequence[bytes]) -> tuple[list[tuple[str, bytes]], bool]:
    """The parts, and whether the form was complete."""
    reader, parts = FormReader(BOUNDARY), []
    for piece in pieces:
        for event in reader.feed(piece):
            if isinstance(event, PartBegins):
                parts.append((event.name, b""))
            else:
                parts[-1] = (parts[-1][0], parts[-1][1] + event.data)
    return parts, reader.is_complete


@given(
    st.lists(st.sampled_from([b"", b"x", b"\r\n", b"\r\n--", b"--b0un", b"\n", b"{}\r"]), max_size=6).map(b"".join),
    st.integers(1, 40),
)
def test_pieces_do_not_matter(data: bytes, size: int) -> None:
    """Any cutting of the form gives the same parts, even where a text looks almost like the boundary."""
    whole = form(("purpose", b"batch"), ("file", data))

    parts = read([whole[start : start + size] for start in range(0, len(whole), size)])

    assert parts == ([("purpose", b"batch"), ("file", data)], True)


def test_what_follows_the_form() -> None:
    """It is not read, and nothing of it is held."""
    reader = FormReader(BOUNDARY)
    events = list(reader.feed(form(("file", b"data"))))

    more = [event for _ in range(100) for event in reader.feed(b"x" * 1000)]

    assert (len(events), more) == (2, [])
    assert all(len(held) < 100 for held in vars(reader).values() if isinstance(held, bytes))


def test_form_of_our_own() -> None:
    """What we put around a file for a provider is read as what it is."""
    before, after = form_around(BOUNDARY.decode(), "in.jsonl")

    assert read([before, b"{}\n", after]) == ([("purpose", b"batch"), ("file", b"{}\n")], True)


def test_part_without_a_name() -> None:
    with pytest.raises(RequestRejected, match="multipart"):
        read([form(("file", b"")).replace(b' name="file";', b"")])


@pytest.mark.parametrize("lost", range(1, 12))
def test_broken_off(lost: int) -> None:
    """A form that ends before its last boundary is not complete."""
    whole = form(("file", b"data"))

    assert read([whole[: -lost - 2]])[1] is False


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"--b0und rubbish\r\n\r\n", id="after the boundary"),
        pytest.param(b"--b0und\r\nContent-Type: text/plain\r\n\r\nx", id="no name"),
        pytest.param(b"--b0und\r\n" + b"x" * 9000, id="endless headers"),
    ],
)
def test_no_form(body: bytes) -> None:
    """What is no form is refused."""
    with pytest.raises(RequestRejected):
        read([body])


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "multipart/form-data", "multipart/mixed; boundary=x"]
)
def test_no_boundary(content_type: str | None) -> None:
    """Only a form with a boundary can be read."""
    with pytest.raises(RequestRejected) as refused:
        read_boundary(content_type)

    assert refused.value.status == 415


def test_boundary_in_quotes() -> None:
    """Both ways of writing it are known."""
    assert read_boundary('multipart/form-data; boundary="a b"') == b"a b"
    assert read_boundary("Multipart/Form-Data; charset=x; boundary=ab") == b"ab"

"""`multipart/form-data` read as it arrives, so that an upload need not fit into memory. Source: RFC 7578, RFC 2046."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import RequestRejected

MAX_HEADER_BYTES = 8 * 1024  # of one part
_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,70})"|([^;,\s"]{1,70}))', re.IGNORECASE)
_PARAMETER = re.compile(r';\s*(name|filename)="((?:[^"\\]|\\.)*)"', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PartBegins:
    """A field of the form. filename: None when it is no file."""

    name: str
    filename: str | None


@dataclass(frozen=True, slots=True)
class PartData:
    """The next bytes of the field that began last."""

    data: bytes


def read_boundary(content_type: str | None) -> bytes:
    """What separates the parts. Raises RequestRejected when it is no form."""
    kind, _, parameters = (content_type or "").partition(";")
    found = _BOUNDARY.search(parameters) if kind.strip().lower() == "multipart/form-data" else None
    if found is None:
        message = "Send the file as multipart/form-data with a boundary."
        raise RequestRejected(message, code="unsupported_media_type", status=415)
    return (found.group(1) or found.group(2)).encode()


class FormReader:
    """Takes bytes in pieces of any size. Holds no more than a piece and a part's headers."""

    def __init__(self, boundary: bytes) -> None:
        self._separator = b"\r\n--" + boundary
        self._rest = b"\r\n"  # the first separator may stand at the very start
        self._where = "preamble"  # then: separator, headers, data, … end

    @property
    def is_complete(self) -> bool:
        """Whether the last separator has been seen."""
        return self._where == "end"

    def feed(self, piece: bytes) -> Iterator[PartBegins | PartData]:
        """What these bytes complete; nothing once the form is. Raises RequestRejected on a form that is none."""
        if self.is_complete:
            return
        self._rest += piece
        while self._where != "end":
            where, rest = self._where, self._rest
            if where in ("preamble", "data"):
                yield from self._read_data()
            elif where == "separator":
                self._read_separator()
            else:
                yield from self._read_headers()
            if (where, rest) == (self._where, self._rest):
                return

    def _read_data(self) -> Iterator[PartData]:
        found = self._rest.find(self._separator)
        # What may be the beginning of a separator waits for more.
        end = found if found >= 0 else max(0, len(self._rest) - len(self._separator) + 1)
        if self._where == "data" and end:
            yield PartData(self._rest[:end])
        if found >= 0:
            self._rest, self._where = self._rest[found + len(self._separator) :], "separator"
        else:
            self._rest = self._rest[end:]

    def _read_separator(self) -> None:
        if self._rest.startswith(b"--"):
            self._rest, self._where = b"", "end"
            return
        line, found, rest = self._rest.partition(b"\r\n")
        if found and not line.strip(b" \t"):
            self._rest, self._where = b"\r\n" + rest, "headers"
        elif found or len(line) > MAX_HEADER_BYTES:
            raise _broken()

    def _read_headers(self) -> Iterator[PartBegins]:
        end = self._rest.find(b"\r\n\r\n")
        if end > MAX_HEADER_BYTES or (end < 0 and len(self._rest) > MAX_HEADER_BYTES):
            raise _broken()
        if end >= 0:
            headers, self._rest = self._rest[:end], self._rest[end + 4 :]
            self._where = "data"
            yield _part_of(headers)


def _part_of(headers: bytes) -> PartBegins:
    for line in headers.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition" and value.strip().lower().startswith("form-data"):
            parameters = {key.lower(): re.sub(r"\\(.)", r"\1", text) for key, text in _PARAMETER.findall(value)}
            if "name" in parameters:
                return PartBegins(parameters["name"], parameters.get("filename"))
    raise _broken()


def _broken() -> RequestRejected:
    return RequestRejected("The body is not valid multipart/form-data.", code="invalid_multipart")


def form_around(boundary: str, filename: str) -> tuple[bytes, bytes]:
    """What stands before and after the contents in an upload of a file for a batch. filename: without quotes."""
    before = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    )
    return before.encode(), f"\r\n--{boundary}--\r\n".encode()

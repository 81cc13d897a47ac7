"""Server-sent events: an incremental decoder and an encoder.

Rules: WHATWG HTML, section 9.2.6 "Interpreting an event stream". Only the `data` field is kept, because
neither OpenAI nor Workers AI uses another; comments (heartbeats) and other fields are passed over.
"""

DONE = "[DONE]"
DONE_EVENT = "data: [DONE]\n\n"
KEEP_ALIVE = ": keep-alive\n\n"

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAX_EVENT_BYTES = 8 * 1024 * 1024


class BadStream(ValueError):
    """An event is larger than MAX_EVENT_BYTES, which no model sends, or is not UTF-8."""


def encode_event(data: str) -> str:
    """`data` without line breaks, as JSON is, as one event."""
    return f"data: {data}\n\n"


class Decoder:
    """Bytes in, the data of each complete event out; state is what has no line end yet.

    Cut anywhere, also inside a multi-byte character or between CR and LF, the result is the same.
    Stricter than the standard in one point: bytes that are not UTF-8 are refused instead of replaced, because a
    replaced character would be passed on as if the model had said it.
    """

    __slots__ = ("_data", "_is_first", "_rest", "_size", "_skip_lf")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []
        self._size = 0
        self._skip_lf = False
        self._is_first = True

    def feed(self, chunk: bytes) -> list[str]:
        """Data of the events that this chunk completes, in order. Raises BadStream."""
        if self._skip_lf and chunk:
            self._skip_lf = False
            if chunk[0] == 0x0A:
                chunk = chunk[1:]
        buffer = self._rest + chunk if self._rest else chunk
        if b"\r" in buffer:
            self._skip_lf = buffer.endswith(b"\r")
            buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = buffer.rfind(b"\n") + 1
        self._rest = buffer[end:]
        if len(self._rest) + self._size > MAX_EVENT_BYTES:
            raise BadStream(f"an event is larger than {MAX_EVENT_BYTES} bytes")
        if not end:
            return []
        if self._is_first:
            self._is_first = False
            buffer = buffer.removeprefix(BYTE_ORDER_MARK)
            end = buffer.rfind(b"\n") + 1

        events: list[str] = []
        data = self._data
        for line in buffer[: end - 1].split(b"\n"):
            if not line:
                if data:
                    events.append("\n".join(data))
                    data.clear()
                    self._size = 0
            elif line.startswith(b"data:"):
                start = 6 if line[5:6] == b" " else 5
                self._size += len(line)
                try:
                    data.append(line[start:].decode())
                except UnicodeDecodeError as exc:
                    raise BadStream("an event is not UTF-8") from exc
            elif line == b"data":
                self._size += len(line)
                data.append("")
        return events

    def flush(self) -> list[str]:
        """What is left when the stream ends: data whose closing blank line never came.

        The standard drops it; some providers leave the last line break out, so it is returned and
        the caller decides whether it is whole.
        """
        rest = self.feed(b"\n\n") if self._rest or self._data else []
        self._rest = b""
        self._data.clear()
        return rest

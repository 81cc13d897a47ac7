"""An OpenAI-compatible model that answers with the last message, or with whatever bytes a test sets.

It is what proves that text arrives unharmed, and what plays an upstream that sends garbage with status 200.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HEAD = {"id": "chatcmpl-echo", "created": 1_700_000_000, "model": "echo"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


@dataclass(slots=True)
class Echo:
    """received: the parsed bodies, oldest first. answer: sent instead of the echo when set, as plain body or stream.

    status: of every answer.
    """

    url: str = ""
    received: list[dict[str, Any]] = field(default_factory=list)
    answer: bytes | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def reset(self) -> None:
        self.received.clear()
        self.answer, self.status, self.headers = None, 200, {}


@contextmanager
def running_echo() -> Iterator[Echo]:
    echo = Echo()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(echo))
    server.daemon_threads = True
    echo.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield echo
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def completion(message: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A chat completion with one choice; `changes` replace its fields."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "logprobs": None, "finish_reason": "stop"}
    return {**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE, **changes}


def chunk(delta: Mapping[str, Any], finish_reason: str | None = None, **changes: Any) -> dict[str, Any]:
    """One chunk of a stream; `changes` replace its fields."""
    choice = {"index": 0, "delta": dict(delta), "finish_reason": finish_reason}
    return {**HEAD, "object": "chat.completion.chunk", "choices": [choice], **changes}


def event_stream(*chunks: object) -> bytes:
    """The chunks as server-sent events, `[DONE]` last."""
    return b"".join(f"data: {json.dumps(each)}\n\n".encode() for each in chunks) + b"data: [DONE]\n\n"


def _handler(echo: Echo) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(b"{}", "application/json")

        def do_POST(self) -> None:
            body = json.loads(self._body())
            echo.received.append(body)
            is_stream = body.get("stream") is True and echo.status == 200
            text = body["messages"][-1]["content"]
            if echo.answer is not None:
                answer = echo.answer
            elif is_stream:
                deltas = [chunk({"content": piece}) for piece in text]
                answer = event_stream(chunk({"role": "assistant", "content": ""}), *deltas, chunk({}, "stop"))
            else:
                answer = json.dumps(completion({"content": text}), ensure_ascii=True).encode()
            self._send(answer, "text/event-stream" if is_stream else "application/json")

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers["content-length"]))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _send(self, body: bytes, content_type: str) -> None:
            self.send_response(echo.status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            for name, value in echo.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Not a word: pytest has the assertion."""

    return Handler

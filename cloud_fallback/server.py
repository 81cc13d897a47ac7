"""uvicorn's HTTP protocol with bounds on a request's head, which uvicorn leaves to whatever stands in front."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
HEAD_TIMEOUT_S = 15.0

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """Scope: connection."""

    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _is_in_head = True

    def data_received(self, data: bytes) -> None:
        if self._is_in_head:
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._on_slow_head)
            self._head_bytes += min(len(data), MAX_HEAD_BYTES + 1)
        super().data_received(data)
        if self._is_in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(_TOO_LARGE, "headers_too_large", f"The headers must have at most {MAX_HEAD_BYTES} bytes.")

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_in_head = True
        self._head_bytes = 0
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _on_slow_head(self) -> None:
        self._refuse(_TOO_SLOW, "request_timeout", f"The headers did not arrive within {HEAD_TIMEOUT_S:g} s.")

    def _refuse(self, head: bytes, code: str, message: str) -> None:
        if self.transport.is_closing():
            return
        body = b'{"error":{"message":"%s","type":"invalid_request_error","param":null,"code":"%s"}}' % (
            message.encode(),
            code.encode(),
        )
        self.transport.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

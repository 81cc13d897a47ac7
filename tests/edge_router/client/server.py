"""Answers as a gateway sends them, for httpx.MockTransport."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx

REPORT = {"request_id": "req_1", "colo": "CDG", "served_by": "cloud", "cost_usd": 0.002}
HEADERS = {"nearside-colo": "CDG", "nearside-served-by": "cloud", "x-request-id": "req_1"}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def events(*texts: str, finish_reason: str = "stop") -> bytes:
    """A whole stream with a heartbeat in it; usage and the report ride on the last chunk."""
    chunks: list[dict[str, Any]] = [_chunk({"content": text}) for text in texts]
    last = {**_chunk({}, finish_reason), "usage": USAGE, "nearside": REPORT}
    lines = [": keep-alive\n\n", *(f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n" for chunk in [*chunks, last])]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()


def content(text: str) -> bytes:
    return f"data: {json.dumps(_chunk({'content': text}))}\n\n".encode()


def failing_event(code: str, type_: str = "upstream_error") -> bytes:
    chunk = {**_chunk({}, "error"), "error": {"message": "It broke.", "type": type_, "param": None, "code": code}}
    return f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()


def streamed(*pieces: bytes | Exception) -> httpx.Response:
    headers = {**HEADERS, "content-type": "text/event-stream"}
    return httpx.Response(200, headers=headers, stream=Pieces(*pieces))


def plain(text: str) -> httpx.Response:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    body = {"id": "chatcmpl-1", "model": "m", "choices": [choice], "usage": USAGE, "nearside": REPORT}
    return httpx.Response(200, headers=HEADERS, json=body)


def refused(status: int, code: str, type_: str = "upstream_error", **headers: str) -> httpx.Response:
    error = {"message": "No.", "type": type_, "param": None, "code": code}
    return httpx.Response(status, headers={**HEADERS, **headers}, json={"error": error, "nearside": REPORT})


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in exactly these pieces, for both clients. An exception among them is raised in its turn."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = pieces
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        self.is_closed = True

    async def aclose(self) -> None:
        self.is_closed = True


def _chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}

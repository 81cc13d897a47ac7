"""A provider as cheap as Python makes it: whole answers at once, streams at a fixed pace. Run as a process of its own.

python -m scripts.benchmarks.quick_upstream '{"gap_ms": 100, "tokens": 100, "ttft_ms": 0, "embed_ms": 20}'

With "paced_if": "TEXT", streams are paced only where the request's body holds TEXT, and else as fast as they go.
With "linger_ms", a stream's `[DONE]` comes a gap after the last token, and its end so much later.
Prints one JSON line {"url"}; ends with its standard input. GET /calls tells how many calls there were.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import uvloop

from scripts.local.worker_spec import ROOT

ANSWER = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1,
        "model": "bench",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris. " * 40}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 80, "total_tokens": 92},
    }
).encode()


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1, "model": "bench"}
    return b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n"


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


TOKEN = _framed(_chunk({"content": " token"}))
LAST = _framed(_chunk({}, "stop")) + _framed(b"data: [DONE]\n\n")
END = b"0\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Pace:
    ttft_ms: float = 0.0
    gap_ms: float = 100.0
    tokens: int = 100
    embed_ms: float = 20.0
    paced_if: str = ""
    linger_ms: float = 0.0


class Counter:
    calls = 0


class QuickUpstream(asyncio.Protocol):
    """One connection, one request at a time; only as much HTTP as clients send."""

    def __init__(self, pace: Pace, counter: Counter) -> None:
        self._pace = pace
        self._counter = counter
        self._buffer = b""
        self._transport: asyncio.Transport
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        if len(self._buffer) < end + 4 + length:
            return
        body = self._buffer[end + 4 : end + 4 + length]
        self._buffer = self._buffer[end + 4 + length :]
        self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get /calls"):
            self._plain(json.dumps({"calls": self._counter.calls}).encode())
        elif not head.startswith(b"post"):
            self._plain(b"" if head.startswith(b"head") else b"{}")
        elif b"/embeddings" in head[:100]:
            self._counter.calls += 1
            self._task = asyncio.ensure_future(self._embeddings(json.loads(body)))
        elif b'"stream": true' in body or b'"stream":true' in body:
            self._counter.calls += 1
            self._task = asyncio.ensure_future(self._stream(is_paced=self._pace.paced_if.encode() in body))
        else:
            self._counter.calls += 1
            self._plain(ANSWER)

    def _plain(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)

    async def _embeddings(self, body: dict[str, object]) -> None:
        await asyncio.sleep(self._pace.embed_ms / 1000)
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = [{"object": "embedding", "index": i, "embedding": [0.5] * 64} for i in range(len(texts))]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        self._plain(json.dumps({"object": "list", "data": data, "model": "bench", "usage": usage}).encode())

    async def _stream(self, *, is_paced: bool) -> None:
        loop = asyncio.get_running_loop()
        ttft_ms, gap_ms = (self._pace.ttft_ms, self._pace.gap_ms) if is_paced else (0.0, 0.0)
        at_s = loop.time() + ttft_ms / 1000
        self._transport.write(STREAM_HEAD)
        for _ in range(self._pace.tokens):
            await asyncio.sleep(max(0.0, at_s - loop.time()))
            self._transport.write(TOKEN)
            at_s += gap_ms / 1000
        if self._pace.linger_ms:
            await asyncio.sleep(max(0.0, at_s - loop.time()))
            self._transport.write(LAST)
            await asyncio.sleep(self._pace.linger_ms / 1000)
            self._transport.write(END)
        else:
            self._transport.write(LAST + END)


@contextmanager
def quick_upstream(pace: dict[str, Any]) -> Iterator[str]:
    """Its URL. pace: of `Pace`. It runs on the cores that this process is on."""
    command = [sys.executable, "-m", "scripts.benchmarks.quick_upstream", json.dumps(pace)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.communicate()


async def _serve(pace: Pace) -> None:
    loop = asyncio.get_running_loop()
    counter = Counter()
    server = await loop.create_server(lambda: QuickUpstream(pace, counter), "127.0.0.1", 0, backlog=4096)
    print(json.dumps({"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    uvloop.run(_serve(Pace(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()

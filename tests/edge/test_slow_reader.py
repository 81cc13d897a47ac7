"""A caller who reads slowly, on workerd alone: the model is read no further than a bound, and nothing is lost."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from scripts.benchmarks.workerd import running_servers, stage
from scripts.benchmarks.workerd_cases import STREAMS, stream_servers

PIECE = "x" * 64 * 1024
PIECES = 600
SOCKET_BYTES = 64 * 1024
# What the kernel itself may keep between three processes, and our own bound; far less than the whole answer.
BOUND_BYTES = 20 * 1024 * 1024


class Torrent:
    """An upstream that sends as fast as it is read. sent_bytes: handed to the kernel so far."""

    def __init__(self) -> None:
        self.sent_bytes = 0
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def __enter__(self) -> "Torrent":
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._end.wait()
        server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"POST"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            return
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for number in range(PIECES + 1):
            finish = "stop" if number == PIECES else None
            delta = {} if finish else {"role": "assistant", "content": PIECE}
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            writer.write(f"data: {json.dumps(chunk)}\n\n".encode())
            await writer.drain()
            self.sent_bytes += len(PIECE)
        writer.write(b"data: [DONE]\n\n")
        writer.close()


@pytest.fixture
def torrent() -> Iterator[Torrent]:
    with Torrent() as running:
        yield running


def until_it_rests(torrent: Torrent) -> int:
    """How much was sent when nothing more has been for a while."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        before = torrent.sent_bytes
        time.sleep(1.5)
        if before and torrent.sent_bytes == before:
            break
    return torrent.sent_bytes


@pytest.mark.workerd
def test_caller_who_reads_slowly(torrent: Torrent) -> None:
    """Stops the upstream; when the caller goes on, the whole answer comes."""
    stage()
    body = json.dumps({"model": "cloud", "stream": True, "messages": [{"role": "user", "content": "Pour."}]}).encode()
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
        + f"content-length: {len(body)}\r\n\r\n".encode()
        + body
    )
    with running_servers(stream_servers(torrent.url)) as servers, socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        caller.settimeout(60)
        port = int(servers[STREAMS].url.rpartition(":")[2])
        caller.connect(("127.0.0.1", port))
        caller.sendall(request)
        received = [caller.recv(4096)]

        assert received[0].startswith(b"HTTP/1.1 200")
        assert until_it_rests(torrent) < BOUND_BYTES

        while data := caller.recv(1024 * 1024):
            received.append(data)
        answer = b"".join(received)
        assert b'"error"' not in answer[-4096:]
        assert b"data: [DONE]\n\n" in answer[-64:]  # the end of the chunked body follows
        assert len(answer) > PIECES * len(PIECE)

"""Load by bare asyncio protocols: a client that costs little enough to share one core with the upstream."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

MakeRequest = Callable[[], bytes]
"""One whole HTTP/1.1 request; called for each, so that each can be signed anew."""

END_OF_CHUNKS = b"0\r\n\r\n"
TOKEN = b'" token"'


@dataclass(slots=True)
class Burst:
    """What one burst of plain calls saw. failed: answers other than 200, and connections that broke."""

    latencies_s: list[float] = field(default_factory=list)
    failed: int = 0


@dataclass(slots=True)
class StreamTimes:
    """One stream as its caller saw it. gaps_s: between arrivals that held tokens."""

    ttft_s: float = 0.0
    total_s: float = 0.0
    tokens: int = 0
    gaps_s: list[float] = field(default_factory=list)
    is_whole: bool = False


async def burst(url: str, make_request: MakeRequest, *, connections: int, seconds: float) -> Burst:
    """Each connection asks again as soon as it was answered."""
    seen = Burst()
    until_s = time.perf_counter() + seconds
    address = urlsplit(url)
    ended: list[asyncio.Future[None]] = []
    for _ in range(connections):
        done = asyncio.get_running_loop().create_future()
        ended.append(done)

        def make(done: "asyncio.Future[None]" = done) -> _Caller:
            return _Caller(make_request, seen, until_s, done)

        await asyncio.get_running_loop().create_connection(make, address.hostname or "", address.port or 0)
    await asyncio.gather(*ended)
    return seen


async def streams(url: str, make_request: MakeRequest, *, count: int, spread_s: float) -> list[StreamTimes]:
    """`count` streams at a time, begun evenly over spread_s."""
    address = urlsplit(url)
    loop = asyncio.get_running_loop()
    began_s = loop.time()

    async def one(number: int) -> StreamTimes:
        await asyncio.sleep(max(0.0, began_s + spread_s * number / count - loop.time()))
        done: asyncio.Future[StreamTimes] = loop.create_future()
        await loop.create_connection(lambda: _Listener(make_request(), done), address.hostname or "", address.port or 0)
        return await done

    return await asyncio.gather(*(one(number) for number in range(count)))


class _Caller(asyncio.Protocol):
    def __init__(self, make_request: MakeRequest, seen: Burst, until_s: float, done: "asyncio.Future[None]") -> None:
        self._make_request = make_request
        self._seen = seen
        self._until_s = until_s
        self._done = done
        self._buffer = b""
        self._began_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._seen.failed += 1
            self._done.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not _is_complete(self._buffer):
            return
        self._seen.latencies_s.append(time.perf_counter() - self._began_s)
        self._seen.failed += self._buffer[9:12] != b"200"
        self._buffer = b""
        if time.perf_counter() < self._until_s:
            self._ask()
        else:
            self._done.set_result(None)
            self._transport.close()

    def _ask(self) -> None:
        request = self._make_request()
        self._began_s = time.perf_counter()
        self._transport.write(request)


class _Listener(asyncio.Protocol):
    def __init__(self, request: bytes, done: "asyncio.Future[StreamTimes]") -> None:
        self._request = request
        self._done = done
        self._times = StreamTimes()
        self._last_s: float | None = None
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._began_s = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now_s = time.perf_counter()
        tokens = data.count(TOKEN)
        if tokens:
            if self._last_s is None:
                self._times.ttft_s = now_s - self._began_s
            else:
                self._times.gaps_s.append(now_s - self._last_s)
            self._last_s = now_s
            self._times.tokens += tokens
        self._tail = (self._tail + data)[-64:]
        if self._tail.endswith(END_OF_CHUNKS):
            self._times.total_s = now_s - self._began_s
            self._times.is_whole = b"data: [DONE]" in self._tail
            self._done.set_result(self._times)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(self._times)


def _is_complete(answer: bytes) -> bool:
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    _, found, rest = answer[:end].lower().partition(b"content-length:")
    if not found:
        return answer.endswith(END_OF_CHUNKS)
    return len(answer) >= end + 4 + int(rest.split(b"\r\n")[0])

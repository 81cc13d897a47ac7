"""Region gates: transparent but for the distance and the faults they are told to add."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.local.emulator_client import NEVER_S, SILENT_KINDS, Emulator, started, two_regions

CHUNK = 'data: {"choices":[{"index":0,"delta":{"content":"é%d"},"finish_reason":null}]}\n\n'


class Fallback:
    """A stand-in for cloud_fallback that notes what reaches it and who leaves early."""

    def __init__(self) -> None:
        self.seen: list[web.Request] = []
        self.left = asyncio.Event()
        self.gate = asyncio.Event()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/stream", self.stream)
        app.router.add_post("/held", self.held)
        app.router.add_get("/gzip", self.gzip)
        app.router.add_get("/cut", self.cut)
        app.router.add_get("/plain", self.plain)
        app.router.add_route("*", "/{path:.*}", self.echo)
        return app

    async def echo(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        body = {"path": request.raw_path, "method": request.method, "body": await request.text()}
        headers = {"X-Kept": "yes", "Keep-Alive": "timeout=5"}
        response = web.json_response(body, status=418, headers=headers)
        response.headers.extend([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        return response

    async def plain(self, request: web.Request) -> web.Response:
        return web.Response(text='{"a": "b"}', content_type="application/json")

    async def gzip(self, request: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(b"hello"), headers={"Content-Encoding": "gzip"})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = await self._begun(request)
        for i in range(6):
            await response.write((CHUNK % i).encode())
        await response.write(b": keep-alive\n\ndata: [DONE]\n\n")
        return response

    async def held(self, request: web.Request) -> web.StreamResponse:
        """One chunk, then nothing until the gate opens or the caller leaves."""
        try:
            response = await self._begun(request)
            await response.write((CHUNK % 0).encode())
            await self.gate.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise
        await response.write((CHUNK % 1).encode())
        return response

    async def cut(self, request: web.Request) -> web.StreamResponse:
        response = await self._begun(request)
        await response.write(b"partial")
        assert request.transport is not None
        request.transport.abort()
        return response

    async def _begun(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        return response


@pytest.fixture
async def fallback() -> Fallback:
    return Fallback()


@pytest.fixture
async def emulator(fallback: Fallback) -> AsyncIterator[Emulator]:
    runner = web.AppRunner(fallback.app(), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with started(two_regions(f"http://127.0.0.1:{runner.addresses[0][1]}/")) as emulator:
        yield emulator
    await runner.cleanup()


async def test_requests_pass_unchanged(emulator: Emulator, fallback: Fallback) -> None:
    """Method, path as encoded, query, body and end-to-end headers; hop-by-hop headers stop at the gate."""
    received = await emulator.send(
        "wnam", "/a%2Fb?q=%20x", {"n": 1}, method="PUT", X_Own="1", TE="trailers", Connection="X-Hop", X_Hop="1"
    )

    headers = fallback.seen[0].headers
    assert received.json() == {"path": "/a%2Fb?q=%20x", "method": "PUT", "body": '{"n": 1}'}
    assert headers["X-Own"] == "1"
    assert not {"TE", "X-Hop"} & set(headers)


async def test_responses_pass_unchanged(emulator: Emulator) -> None:
    """Status, headers and each cookie."""
    async with emulator.session.get(emulator.url("weur", "/x")) as response:
        assert response.status == 418
        assert response.headers["X-Kept"] == "yes"
        assert "Keep-Alive" not in response.headers
        assert response.headers.getall("Set-Cookie") == ["a=1", "b=2"]


async def test_compressed_bytes_are_not_touched(emulator: Emulator) -> None:
    url = emulator.url("wnam", "/gzip")
    async with aiohttp.ClientSession(auto_decompress=False) as session, session.get(url) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await response.read()) == b"hello"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_head_has_no_body(emulator: Emulator, method: str) -> None:
    received = await emulator.send("wnam", "/x", method=method)

    assert received.status == 418
    assert bool(received.body) is (method == "GET")


async def test_chunks_pass_as_they_come(emulator: Emulator, fallback: Fallback) -> None:
    """The first is here while the second is not yet made."""
    async with emulator.session.post(emulator.url("wnam", "/held")) as response:
        first = await response.content.readany()
        fallback.gate.set()
        rest = await response.content.read()

    assert (first.decode(), rest.decode()) == (CHUNK % 0, CHUNK % 1)


async def test_a_caller_that_leaves_ends_the_call_behind(emulator: Emulator, fallback: Fallback) -> None:
    """At once, and counted for its region."""
    async with emulator.session.post(emulator.url("weur", "/held")) as response:
        await response.content.readany()
        response.close()
    async with asyncio.timeout(10):
        await fallback.left.wait()

    await emulator.cancelled("cloud:weur", 1)
    assert (await emulator.counters())["cloud"] == {"wnam": 0, "weur": 1}


async def test_a_broken_answer_stays_broken(emulator: Emulator) -> None:
    received = await emulator.send("wnam", "/cut", method="GET")

    assert received.is_cut
    assert (await emulator.counters())["cancelled"]["cloud:wnam"] == 0


async def test_a_target_that_is_down_is_a_dropped_connection() -> None:
    async with started(two_regions("http://127.0.0.1:9")) as emulator:
        received = await emulator.send("wnam", "/stream")

    assert (received.status, received.is_cut) == (0, True)


async def test_distance_is_per_region(emulator: Emulator) -> None:
    async def took_s(region: str) -> float:
        started_s = time.perf_counter()
        await emulator.send(region, "/stream")
        return time.perf_counter() - started_s

    await emulator.latency("cloud:weur", rtt_ms=1500)

    assert await took_s("weur") >= 1.5
    assert await took_s("wnam") < 1.5


async def test_probes_are_neither_counted_nor_use_up_a_count(emulator: Emulator) -> None:
    """A fault without a count hits them, so that a region that is down looks down."""
    await emulator.fault("cloud", "503", count=1)
    probe = await emulator.send("wnam", "/health", method="GET")
    call = await emulator.send("wnam", "/stream")
    await emulator.fault("cloud", "refuse")
    down = await emulator.send("wnam", "/health", method="GET")

    assert (probe.status, call.status, down.status) == (418, 503, 0)
    assert (await emulator.counters())["cloud"]["wnam"] == 1


STREAM_EFFECTS: dict[str, Any] = {
    "error": lambda r: r.status == 500,
    "capacity": lambda r: r.status == 503 and "error" in r.json(),
    "429-retry-after": lambda r: r.status == 429 and r.headers["Retry-After"] == "1",
    "html-error": lambda r: r.status == 502,
    "refuse": lambda r: r.is_cut and r.status == 0,
    "timeout": lambda r: r.is_stalled and r.status == 0,
    "cut": lambda r: r.is_cut and r.text == "é0é1é2",
    "stall": lambda r: r.is_stalled and r.text == "é0é1é2",
    "truncated": lambda r: not r.is_cut and not r.body.endswith(b"\n"),
    "malformed": lambda r: "<<<not json" in r.data[0] and r.data[-1] == "[DONE]",
    "no-done": lambda r: r.text == "é0é1é2é3é4é5" and "[DONE]" not in r.data,
    "double-done": lambda r: r.data[-2:] == ["[DONE]"] * 2 and b": keep-alive" in r.body,
    "wrong-content-type": lambda r: r.headers["Content-Type"].startswith("text/plain"),
    "empty-body": lambda r: r.status == 200 and r.body == b"",
    "cut-utf8": lambda r: r.is_cut and r.body.endswith(b"\xc3"),
    "huge-chunk": lambda r: len(r.contents[0]) == 2**20,
    "timeout-first-token": lambda r: r.is_stalled and r.status == 200,
}


@pytest.mark.parametrize("kind", STREAM_EFFECTS)
@pytest.mark.parametrize("target", ["cloud", "cloud:wnam"])
async def test_fault_of_a_stream(emulator: Emulator, kind: str, target: str) -> None:
    """On every region or on one; another region stays healthy."""
    await emulator.fault(target, kind)
    emulator.patience_s = NEVER_S if kind in SILENT_KINDS else emulator.patience_s
    struck = await emulator.send("wnam", "/stream")
    other = await emulator.send("weur", "/stream")

    assert STREAM_EFFECTS[kind](struck), struck
    assert bool(STREAM_EFFECTS[kind](other)) is (target == "cloud")


async def test_an_answer_that_is_an_error_is_left_alone(emulator: Emulator) -> None:
    """Faults of the body are for answers that would have been good."""
    await emulator.fault("cloud", "truncated")
    received = await emulator.send("wnam", "/x", method="GET")

    assert received.status == 418
    assert received.json()["method"] == "GET"


async def test_fault_of_a_plain_body(emulator: Emulator) -> None:
    await emulator.fault("cloud", "truncated")
    received = await emulator.send("wnam", "/plain", method="GET")

    assert (received.status, received.body) == (200, b'{"a":')

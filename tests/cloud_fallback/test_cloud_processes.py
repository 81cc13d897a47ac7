"""The service as it runs: its own process, real sockets, signals."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_fallback import server
from cloud_fallback.server import MAX_HEAD_BYTES
from scripts.local.fallback_process import FallbackProcess, running_fallback
from tests.cloud_fallback.harness import events

ROOT = Path(__file__).parents[2]
GAP_MS, TOKENS = 150, 30
BODY = {"model": "gpt-4o", "messages": []}


@pytest.fixture(scope="module")
def upstream_url() -> Iterator[str]:
    """Streams last about 4.5 s."""
    pace = json.dumps({"gap_ms": GAP_MS, "tokens": TOKENS})
    command = [sys.executable, "-m", "scripts.benchmarks.quick_upstream", pace]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"] + "/v1"
        process.communicate()


@pytest.fixture(scope="module")
def service(upstream_url: str) -> Iterator[FallbackProcess]:
    with running_fallback(upstream_url) as running:
        yield running


@contextlib.asynccontextmanager
async def open_stream(url: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """The parts of a stream; its first one has arrived."""
    async with (
        httpx.AsyncClient(trust_env=False, timeout=30) as client,
        client.stream("POST", f"{url}/v1/chat/completions", json={**BODY, "stream": True}) as response,
    ):
        assert response.status_code == 200
        yield response.aiter_raw()


async def wait_until(check: Any, within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not await check():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def status_of(running: FallbackProcess, path: str) -> int | None:
    try:
        return (await asyncio.to_thread(running.get, path))[0]
    except OSError:
        return None


@pytest.mark.parametrize(("drain_s", "is_whole"), [("20", True), ("0.2", False)], ids=["in time", "too long"])
async def test_drain(drain_s: str, is_whole: bool, upstream_url: str) -> None:
    """SIGTERM: `/ready` says no while calls are still taken, then no more are; an open stream ends by itself, or with
    exactly one error event when its time is over; then the process is gone."""
    with running_fallback(upstream_url, env={"CLOUD_NOTICE_S": "1.5", "CLOUD_DRAIN_S": drain_s}) as running:
        async with open_stream(running.url) as parts, httpx.AsyncClient(trust_env=False) as client:
            body = await anext(parts)
            running.begin_to_end()
            await wait_until(lambda: is_status(running, "/ready", 503))
            late = await client.post(f"{running.url}/v1/chat/completions", json=BODY)
            assert (late.status_code, late.headers["connection"]) == (200, "close")
            await wait_until(lambda: is_status(running, "/health", None))
            async for part in parts:
                body += part
        await asyncio.to_thread(running.process.wait, 10)

    said = events(body)
    errors = [event for event in said if "error" in event]
    assert said.count("[DONE]") == 1
    assert said[-1] == "[DONE]"
    if is_whole:
        assert (len(said), errors) == (TOKENS + 2, [])
    else:
        assert len(said) < TOKENS
        assert [event["error"]["code"] for event in errors] == ["shutting_down"]
        assert errors == [said[-2]]


async def is_status(running: FallbackProcess, path: str, status: int | None) -> bool:
    return await status_of(running, path) == status


async def test_plain_call_that_takes_too_long(upstream_url: str, tmp_path: Path) -> None:
    """At the end of its time a call that has no answer yet gets 503, which the edge takes to another region."""

    arrived = asyncio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(never, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}/v1"
    env = {"CLOUD_DRAIN_S": "0.2", "CLOUD_WARM_CONNECTIONS": "0"}
    starting = running_fallback(url, env=env)
    running = await asyncio.to_thread(starting.__enter__)
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            asking = asyncio.create_task(client.post(f"{running.url}/v1/chat/completions", json=BODY))
            await asyncio.wait_for(arrived.wait(), 20)
            running.begin_to_end()
            answer = await asking
        await asyncio.to_thread(running.process.wait, 10)
    finally:
        await asyncio.to_thread(starting.__exit__, None, None, None)
        silent.close()

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")


async def test_workers(upstream_url: str, tmp_path: Path) -> None:
    """Two workers share one port, and `/metrics` of either tells of both; SIGTERM ends all, and no file stays."""
    with running_fallback(upstream_url, workers=2, env={"TMPDIR": str(tmp_path)}) as running:
        async with httpx.AsyncClient(trust_env=False, headers={"connection": "close"}) as client:
            answers = [await client.post(f"{running.url}/v1/chat/completions", json=BODY) for _ in range(20)]
            metrics = (await client.get(f"{running.url}/metrics")).text
        running.begin_to_end()
        await asyncio.to_thread(running.process.wait, 15)

    assert {answer.status_code for answer in answers} == {200}
    assert 'nearside_cloud_requests_total{endpoint="/v1/chat/completions",status="200"} 20.0' in metrics
    assert 'nearside_cloud_attempts_total{model="gpt-4o",outcome="ok",upstream="default"} 20.0' in metrics
    assert os.listdir(tmp_path) == []


def test_no_keys_no_start() -> None:
    """Without keys the process says one line and does not start, with several workers as well."""
    env = {name: value for name, value in os.environ.items() if name != "FALLBACK_KEYS"}
    env["CLOUD_UPSTREAM_URL"] = "http://127.0.0.1:9/v1"
    for workers in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "cloud_fallback", "--port", "0", "--workers", workers],
            cwd=ROOT, env=env, capture_output=True, text=True, timeout=30,
        )  # fmt: skip

        assert done.returncode != 0
        assert done.stderr.startswith("cloud_fallback: FALLBACK_KEYS: must be set")
        assert done.stderr.count("\n") == 1


def raw(url: str, request: bytes, *, end: bool = False) -> bytes:
    """What comes back on a connection of its own."""
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(request)
        answer = b""
        with contextlib.suppress(OSError):
            while part := connection.recv(65_536):
                answer += part
    return answer


def test_headers_are_bounded(service: FallbackProcess) -> None:
    """A head that does not end is refused in our error form; a large one that does is read."""
    endless = raw(service.url, b"GET /health HTTP/1.1\r\nhost: x\r\n" + b"a: " + b"b" * (MAX_HEAD_BYTES + 10_000))
    large = raw(
        service.url,
        b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\na: " + b"b" * (MAX_HEAD_BYTES // 2) + b"\r\n\r\n",
    )

    assert endless.startswith(b"HTTP/1.1 431 ")
    assert json.loads(endless.partition(b"\r\n\r\n")[2])["error"]["code"] == "headers_too_large"
    assert large.startswith(b"HTTP/1.1 200 ")


async def test_slow_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that comes too slowly ends the connection; one request after the other on a connection does not."""
    import uvicorn

    from tests.cloud_fallback.harness import FakeUpstream
    from tests.cloud_fallback.harness import service as app_of

    monkeypatch.setattr(server, "HEAD_TIMEOUT_S", 0.1)
    config = uvicorn.Config(app_of(FakeUpstream(), warm_connections=0), http=server.BoundedProtocol, log_config=None)
    running = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(running.serve([listener]))
        await wait_until(lambda: asyncio.sleep(0, running.started))
        port = listener.getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
            await asyncio.sleep(0.15)
        writer.write(b"GET /health HTT")
        refused = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        running.should_exit = True
        await serving

    assert refused.startswith(b"HTTP/1.1 408 ")


async def test_second_signal_ends_at_once(upstream_url: str) -> None:
    """Who sends SIGTERM twice does not want to wait for the notice."""
    with running_fallback(upstream_url, env={"CLOUD_NOTICE_S": "60"}) as running:
        started_s = time.monotonic()
        running.begin_to_end()
        await wait_until(lambda: is_status(running, "/ready", 503))
        running.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(running.process.wait, 10)

    assert time.monotonic() - started_s < 10

"""One run over real sockets: uvicorn in front, a paced upstream behind, a caller who hangs up."""

import asyncio
import json
import socket

import httpx
import pytest
import uvicorn

from cloud_fallback.app import create_app
from cloud_fallback.settings import Settings
from cloud_fallback.transport import AiohttpTransport
from tests.cloud_fallback.harness import DONE, chunk


class PacedUpstream:
    """Sends one event, then waits until the other side closes; model `gpt-4o-mini` gets all at once."""

    def __init__(self) -> None:
        self.hung_up = asyncio.Event()
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
                writer.write(b"transfer-encoding: chunked\r\n\r\n" + framed(chunk()))
                if body["model"] == "gpt-4o":
                    await reader.read()
                    break
                writer.write(framed(DONE) + framed(b""))
        except asyncio.IncompleteReadError:
            pass
        finally:
            self.hung_up.set()
            writer.close()


def framed(part: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(part), part)


async def post(port: int, model: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"model": model, "stream": True}).encode()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n")
    writer.write(b"content-length: %d\r\n\r\n%s" % (len(body), body))
    return reader, writer


async def test_disconnect_and_reuse() -> None:
    """A finished stream leaves its connection to the next; hanging up closes the upstream."""
    upstream = PacedUpstream()
    behind = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream_port = behind.sockets[0].getsockname()[1]
    app = create_app(
        Settings(upstream_url=f"http://127.0.0.1:{upstream_port}/v1", fallback_auth="open", warm_connections=0)
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        serving = asyncio.create_task(server.serve([listener]))
        port = listener.getsockname()[1]
        while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0.01)

        for _ in range(3):
            reader, writer = await post(port, "gpt-4o-mini")
            whole = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
            writer.close()
            assert DONE in whole
        assert upstream.connections == 1

        upstream.hung_up.clear()
        reader, writer = await post(port, "gpt-4o")
        await asyncio.wait_for(reader.readuntil(chunk()), 5)
        writer.transport.abort()
        await asyncio.wait_for(upstream.hung_up.wait(), 10)

        server.should_exit = True
        await serving
    behind.close()
    await behind.wait_closed()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that takes a call and answers nothing."""
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def test_connections_that_fail() -> None:
    """Are told as httpx tells them, so that the rest knows what may be tried again."""
    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = AiohttpTransport(connect_timeout_s=5, keepalive_s=5, trust_env=False)
    async with httpx.AsyncClient(transport=transport) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"http://127.0.0.1:{port}/")
        server.close()
        await server.wait_closed()
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://127.0.0.1:{port}/")


async def test_pool_that_was_never_used() -> None:
    """Has nothing to close."""
    await AiohttpTransport(connect_timeout_s=5, keepalive_s=5, trust_env=False).aclose()

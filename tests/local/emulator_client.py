"""How the tests talk to a running emulator: requests, and a stream taken apart as far as it came."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from scripts.local.emulator import EmulatorConfig, Ports, RegionConfig, running

Json = dict[str, Any]
NEVER_S = 0.3  # how long silence is watched before it counts as "never answers"
SILENT_KINDS = frozenset({"timeout", "slow", "stall", "timeout-first-token"})
PATIENCE_S = 20.0  # for answers that must come, the model's loading included


@dataclass
class Received:
    """What reached the caller. is_cut: the connection ended before the response did."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_cut: bool = False
    is_stalled: bool = False

    @property
    def data(self) -> list[str]:
        lines = self.body.decode(errors="replace").splitlines()
        return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]

    @property
    def chunks(self) -> list[Json]:
        return [json.loads(data) for data in self.data if data != "[DONE]"]

    @property
    def deltas(self) -> list[Json]:
        return [choice["delta"] for chunk in self.chunks for choice in chunk["choices"]]

    @property
    def contents(self) -> list[str]:
        return [delta["content"] for delta in self.deltas if delta.get("content")]

    @property
    def text(self) -> str:
        return "".join(self.contents)

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Emulator:
    ports: Ports
    session: aiohttp.ClientSession
    patience_s: float = PATIENCE_S

    def url(self, service: str, path: str) -> str:
        port = self.ports.regions.get(service) or getattr(self.ports, service)
        return f"http://127.0.0.1:{port}{path}"

    async def send(
        self, service: str, path: str, body: Any = None, *, method: str = "POST", **headers: str
    ) -> Received:
        """The response as far as it came before `patience_s` of silence."""
        received = Received()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        timeout = aiohttp.ClientTimeout(sock_read=self.patience_s)
        request = self.session.request(
            method,
            self.url(service, path),
            data=None if body is None else json.dumps(body),
            headers=names,
            timeout=timeout,
        )
        try:
            async with request as response:
                received.status = response.status
                received.headers = dict(response.headers)
                async for part in response.content.iter_any():
                    received.body += part
        except TimeoutError:
            received.is_stalled = True
        except aiohttp.ClientError:
            received.is_cut = True
        return received

    async def chat(self, model: str = "sim-small", /, **body: Any) -> Received:
        messages = [{"role": "user", "content": "Tell me about volcanoes in Iceland"}]
        return await self.send("provider", "/v1/chat/completions", {"model": model, "messages": messages, **body})

    async def ai(self, model: str, **inputs: Any) -> Received:
        return await self.send("ai", "/ai/run", {"model": model, "inputs": inputs, "options": {}})

    async def vectorize(self, op: str, *args: Any) -> Received:
        return await self.send("ai", f"/vectorize/{op}", {"args": args})

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        received = await self.send("control", path, body, method=method)
        assert received.status == 200, received.body
        return received.json()

    async def fault(self, target: str, kind: str, **options: Any) -> None:
        await self.control("POST", "/faults", {"target": target, "kind": kind, **options})

    async def latency(self, target: str, **parts: float) -> None:
        await self.control("POST", "/latency", {"target": target, **parts})

    async def cancelled(self, target: str, count: int) -> None:
        """Returns once so many callers of the target are known to have left early; fails after ten seconds."""
        async with asyncio.timeout(10):
            while (await self.counters())["cancelled"][target] < count:  # noqa: ASYNC110  # another process may count
                await asyncio.sleep(0.01)

    async def counters(self) -> Any:
        return await self.control("GET", "/counters")


@asynccontextmanager
async def started(config: EmulatorConfig) -> AsyncIterator[Emulator]:
    async with running(config) as ports, aiohttp.ClientSession() as session:
        yield Emulator(ports, session)


def two_regions(target_url: str) -> EmulatorConfig:
    return EmulatorConfig(regions={"wnam": RegionConfig(target=target_url), "weur": RegionConfig(target=target_url)})

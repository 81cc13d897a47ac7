"""What Nearside calls, on loopback: Workers AI, Vectorize, a model provider and the cloud's regions.

python -m scripts.local.emulator --control-port 8788 --config '{"regions": {"wnam": {"target": "http://127.0.0.1:9001"}}}'

Prints one line of JSON with the ports when it is ready; ends on SIGTERM or SIGINT. See README.md.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scripts.local.ai_upstream import AiUpstream
from scripts.local.conditions import Conditions
from scripts.local.control import control_app
from scripts.local.minilm import Embedder
from scripts.local.provider import provider_app
from scripts.local.regions import region_app
from scripts.local.vectorize import VectorizeIndex
from scripts.local.workers_ai import workers_ai_app

HOST = "127.0.0.1"
SHUTDOWN_TIMEOUT_S = 0.5


class RegionConfig(BaseModel):
    """target: base URL of the cloud fallback behind the gate. port: 0 takes a free one."""

    model_config = ConfigDict(extra="forbid")
    target: str
    rtt_ms: float = Field(default=0.0, ge=0)
    port: int = 0


class EmulatorConfig(BaseModel):
    """What --config holds. Ports of 0 take a free one; seed decides which calls a fault's rate strikes.

    preload_embedder: the first text is not to take longer than the others.
    """

    model_config = ConfigDict(extra="forbid")
    regions: dict[str, RegionConfig] = {}
    ai_upstream: str | None = None
    provider_key: str | None = None
    ai_port: int = 0
    provider_port: int = 0
    seed: int = 0
    preload_embedder: bool = False


@dataclass(frozen=True, slots=True)
class Ports:
    control: int
    ai: int
    provider: int
    regions: dict[str, int]


@asynccontextmanager
async def running(
    config: EmulatorConfig, *, control_port: int = 0, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Ports]:
    """The emulator's ports, all answering."""
    conditions = Conditions({name: region.rtt_ms / 1000 for name, region in config.regions.items()}, seed=config.seed)
    embedder, index = Embedder(), VectorizeIndex()
    if config.preload_embedder:
        embedder.preload()
    upstream = _ai_upstream(config, environment or {})
    runners: list[web.AppRunner] = []

    async def serve(app: web.Application, port: int) -> int:
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, HOST, port).start()
        bound: int = runner.addresses[0][1]
        return bound

    try:
        yield Ports(
            control=await serve(control_app(conditions, index), control_port),
            ai=await serve(workers_ai_app(conditions, embedder, index, upstream=upstream), config.ai_port),
            provider=await serve(provider_app(conditions, embedder, key=config.provider_key), config.provider_port),
            regions={
                name: await serve(region_app(name, region.target, conditions), region.port)
                for name, region in config.regions.items()
            },
        )
    finally:
        await asyncio.gather(*(runner.cleanup() for runner in runners))
        embedder.close()


def _ai_upstream(config: EmulatorConfig, environment: Mapping[str, str]) -> AiUpstream | None:
    url = config.ai_upstream or environment.get("NEARSIDE_AI_UPSTREAM")
    if not url:
        return None
    return AiUpstream(
        url,
        key=environment.get("NEARSIDE_AI_UPSTREAM_KEY") or None,
        model=environment.get("NEARSIDE_AI_UPSTREAM_MODEL") or None,
    )


async def _serve_until_signal(config: EmulatorConfig, control_port: int) -> None:
    stop = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    async with running(config, control_port=control_port, environment=os.environ) as ports:
        print(json.dumps(asdict(ports)), flush=True)
        await stop.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.local.emulator", description=__doc__.split("\n")[0])
    parser.add_argument("--control-port", type=int, default=8788, help="0 takes a free port")
    parser.add_argument("--config", default="{}", help="JSON: regions, ai_upstream, provider_key, ai_port, …")
    arguments = parser.parse_args()
    try:
        config = EmulatorConfig.model_validate_json(arguments.config)
    except ValidationError as exc:
        parser.error(f"--config: {exc}")
    asyncio.run(_serve_until_signal(config, arguments.control_port))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Every gateway and floor that is compared: how it is started and asked, all before one simulated upstream."""

import contextlib
import json
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from scripts.benchmarks.load import Request
from scripts.benchmarks.peers import install
from scripts.benchmarks.processes import age_s, family, on_cores, started_on
from scripts.benchmarks.workerd import NODE, BenchError, running_servers
from scripts.benchmarks.workerd_cases import CHAT, FORWARDER, KEY, PINNED, SDK_HELLO, gateway_servers
from scripts.local.fallback_process import running_fallback
from scripts.local.ports import free_port
from scripts.local.worker_spec import ROOT

PATH = "/v1/chat/completions"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
MESSAGES = json.loads(CHAT)["messages"]
ROUTED = "nearside-routed"
PACED = "Paced, please. "
"""A question that begins so is streamed at the upstream's pace, any other as fast as it can be."""

CATALOG = """
[[models]]
id = "*"
tier = "cloud-fast"
context_window_tokens = 128000
input_usd_per_million = 0.15
output_usd_per_million = 0.60
"""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What everything that is measured stands in. folder: for configurations and logs."""

    upstream_url: str
    folder: Path
    measured_cores: set[int]


@dataclass(frozen=True, slots=True)
class Ask:
    """How a gateway is asked a question."""

    model: str
    headers: dict[str, str] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    path: str = PATH

    def plain(self) -> Request:
        return self._request(MESSAGES)

    def stream(self, *, paced: bool) -> Request:
        system, user = MESSAGES
        text = (PACED if paced else "") + user["content"]
        return self._request([system, {**user, "content": text}], stream=True)

    def _request(self, messages: list[dict[str, str]], **more: Any) -> Request:
        body = {"model": self.model, "messages": messages, "max_tokens": 160, **self.fields, **more}
        headers = {"content-type": "application/json", **self.headers}
        return Request(self.path, json.dumps(body, separators=(",", ":")), headers)


@dataclass(frozen=True, slots=True)
class Running:
    """A started gateway. pids: its main processes, of which it is known how old they are."""

    url: str
    pids: tuple[int, ...]

    def processes(self) -> list[int]:
        return [each for pid in self.pids for each in family(pid)]

    def age_s(self) -> float:
        return max(age_s(pid) for pid in self.pids)


@dataclass(frozen=True, slots=True)
class Gateway:
    """plain, hit: None when it has no such thing; why_no_hit says why. forwards: it has streams to pass on."""

    name: str
    says: str
    version: str
    start: Callable[[Surroundings], AbstractContextManager[Running]]
    plain: Ask | None = None
    hit: Ask | None = None
    why_no_hit: str = ""
    forwards: bool = True


def all_gateways() -> list[Gateway]:
    """In the order of the tables: the floors, ours, the peers."""
    workerd, ours = f"workerd {_npm_version('workerd')}", "this tree"
    signed_in = {"authorization": f"Bearer {KEY}"}
    fresh = Ask(PINNED, signed_in, {"use_cache": False})
    chosen = Ask("cloud", signed_in, {"use_cache": False})
    stored = Ask(PINNED, signed_in)
    any_model = Ask("bench")
    master_key = f"sk-{secrets.token_hex(32)}"
    litellm = Ask("bench", {"authorization": f"Bearer {master_key}"})
    tensorzero = Ask("tensorzero::model_name::bench", path="/openai/v1/chat/completions")
    floor = "a floor: it has no cache"
    compiled_out = "its cache middleware is not in the published build"
    return [
        Gateway("javascript-hello", "JavaScript hello", workerd, _worker("javascript-hello"), any_model,
                why_no_hit=floor, forwards=False),
        Gateway(SDK_HELLO, "Python hello", workerd, _worker(SDK_HELLO), any_model, why_no_hit=floor, forwards=False),
        Gateway("javascript-forwarder", "JavaScript forwarder", workerd, _worker("javascript-forwarder"), any_model,
                why_no_hit=floor),
        Gateway(FORWARDER, "Python forwarder", workerd, _worker(FORWARDER), any_model, why_no_hit=floor),
        Gateway("nearside", "**Nearside**, the Worker", ours, _worker("nearside"), fresh, stored),
        Gateway(ROUTED, "**Nearside**, the Worker, which chooses the model", ours, _worker("nearside"), chosen,
                why_no_hit="as above: a hit asks no model", forwards=False),
        Gateway("nearside-kv", "**Nearside**, hits from Workers KV alone", ours, _worker("nearside-kv"), None, stored,
                forwards=False),
        Gateway("cloud-fallback", "**Nearside**, cloud_fallback alone", ours, _fallback, any_model,
                why_no_hit="the Worker before it has the cache"),
        Gateway("nearside-chain", "**Nearside**, the Worker with cloud_fallback behind it", ours, _chain, fresh,
                why_no_hit="as without cloud_fallback: a hit never reaches it"),
        Gateway("litellm", "LiteLLM proxy", f"litellm {install.LITELLM}",
                partial(_litellm, master_key=master_key, cache=False), litellm, why_no_hit="the next row"),
        Gateway("litellm-cache", "LiteLLM proxy, local cache on", f"litellm {install.LITELLM}",
                partial(_litellm, master_key=master_key, cache=True), None, litellm, forwards=False),
        Gateway("portkey-node", "Portkey gateway, Node", f"@portkey-ai/gateway {install.PORTKEY}", _portkey_node,
                any_model, why_no_hit=compiled_out),
        Gateway("portkey-workerd", "Portkey gateway, workerd", f"@portkey-ai/gateway {install.PORTKEY}",
                _portkey_workerd, any_model, why_no_hit=compiled_out),
        Gateway("tensorzero", "TensorZero, embedded gateway", f"tensorzero {install.TENSORZERO}", _tensorzero,
                tensorzero, why_no_hit="it keeps its cache in ClickHouse or Valkey"),
    ]  # fmt: skip


def asked(gateway: Gateway, ask: Ask, upstream_url: str) -> Ask:
    """Portkey is told its upstream with each request."""
    if not gateway.name.startswith("portkey"):
        return ask
    host = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"{upstream_url}/v1",
        "authorization": "Bearer none",
    }
    return Ask(ask.model, {**ask.headers, **host}, ask.fields, ask.path)


def first_answer(running: Running, request: Request) -> None:
    """Returns with the first good answer. Raises BenchError when there is none in time."""
    until_s = time.monotonic() + START_TIMEOUT_S
    said = "nothing"
    while time.monotonic() < until_s:
        try:
            answer = httpx.post(
                running.url + request.path,
                content=request.body,
                headers=dict(request.headers),
                timeout=60,
                trust_env=False,
            )
        except httpx.TransportError as exc:
            said = repr(exc)
        else:
            if answer.status_code == 200:
                return
            said = f"{answer.status_code} {answer.text[:300]}"
        if not running.processes():
            raise BenchError(f"it ended before it answered; the last thing seen was {said}")
        time.sleep(0.02)
    raise BenchError(f"no answer within {START_TIMEOUT_S:g} s; the last thing seen was {said}")


def _worker(name: str) -> Callable[[Surroundings], AbstractContextManager[Running]]:
    return partial(_started_worker, name=name)


@contextlib.contextmanager
def _started_worker(around: Surroundings, *, name: str, chain_url: str = "", keys: str = "") -> Iterator[Running]:
    spec = gateway_servers(around.upstream_url, chain_url, keys)[name]
    with started_on(around.measured_cores, running_servers(spec)) as servers:
        yield Running(servers[name].url, (servers[name].pid,))


@contextlib.contextmanager
def _fallback(around: Surroundings, *, keys: str = "") -> Iterator[Running]:
    catalog = around.folder / "models.toml"
    catalog.write_text(CATALOG)
    auth = {"FALLBACK_AUTH": "keys", "FALLBACK_KEYS": keys} if keys else {}
    env = {"CLOUD_MODELS_FILE": str(catalog), **auth}
    log = around.folder / "fallback.log"
    service_of = running_fallback(f"{around.upstream_url}/v1", env=env, log=log)
    with started_on(around.measured_cores, service_of) as service:
        yield Running(service.url, (service.process.pid,))


@contextlib.contextmanager
def _chain(around: Surroundings) -> Iterator[Running]:
    keys = f"bench:{secrets.token_hex(32)}"
    with (
        _fallback(around, keys=keys) as behind,
        _started_worker(around, name="nearside-chain", chain_url=behind.url, keys=keys) as worker,
    ):
        yield Running(worker.url, (*worker.pids, *behind.pids))


@contextlib.contextmanager
def _litellm(around: Surroundings, *, master_key: str, cache: bool) -> Iterator[Running]:
    """One worker, as there is one core; no database."""
    config = around.folder / f"litellm-{cache}.yaml"
    template = (install.HERE / "litellm.yaml").read_text() + (
        (install.HERE / "litellm_cache.yaml").read_text() if cache else ""
    )
    config.write_text(template.replace("UPSTREAM", around.upstream_url))
    port = free_port()
    environment = {
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": master_key,
        "LITELLM_TELEMETRY": "False",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    options = ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    command = [str(install.litellm()), "--config", str(config), *options]
    with _process(command, around, "litellm", environment) as process:
        yield Running(f"http://127.0.0.1:{port}", (process.pid,))


@contextlib.contextmanager
def _portkey_node(around: Surroundings) -> Iterator[Running]:
    port = free_port()
    command = [str(NODE), str(install.portkey()), f"--port={port}", "--headless"]
    with _process(command, around, "portkey", {"NODE_ENV": "production"}) as process:
        yield Running(f"http://127.0.0.1:{port}", (process.pid,))


@contextlib.contextmanager
def _portkey_workerd(around: Surroundings) -> Iterator[Running]:
    module = install.portkey_worker()
    name = "portkey"
    own: dict[str, Any] = {
        "name": name,
        "modulesRoot": str(module.parent),
        "modules": [{"type": "ESModule", "path": module.name, "file": str(module)}],
        "options": {"compatibilityFlags": ["nodejs_compat"]},
        "services": {},
        "seed": {},
    }
    spec = {"compatibilityDate": "2026-11-16", "servers": [own]}
    with started_on(around.measured_cores, running_servers(spec)) as servers:
        yield Running(servers[name].url, (servers[name].pid,))


@contextlib.contextmanager
def _tensorzero(around: Surroundings) -> Iterator[Running]:
    config = around.folder / "tensorzero.toml"
    config.write_text((install.HERE / "tensorzero.toml").read_text().replace("UPSTREAM", around.upstream_url))
    command = [str(install.tensorzero()), str(install.HERE / "tensorzero_gateway.py"), str(config)]
    with _process(command, around, "tensorzero", {}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:  # its log comes the same way
            if line.startswith(b'{"url"'):
                yield Running(json.loads(line)["url"], (process.pid,))
                return
        raise BenchError(f"TensorZero did not start: {_tail(around.folder / 'tensorzero.log')}")


@contextlib.contextmanager
def _process(
    command: Sequence[str], around: Surroundings, name: str, environment: dict[str, str], *, stdout: int | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    with (around.folder / f"{name}.log").open("ab") as log, on_cores(around.measured_cores):
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=log if stdout is None else stdout,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-600:] if log.exists() else "no log"


def _npm_version(name: str) -> str:
    return str(json.loads((ROOT / "node_modules" / name / "package.json").read_text())["version"])


@contextlib.contextmanager
def surroundings(upstream_url: str, measured_cores: set[int]) -> Iterator[Surroundings]:
    with tempfile.TemporaryDirectory(prefix="nearside-bench-") as name:
        yield Surroundings(upstream_url, Path(name), measured_cores)

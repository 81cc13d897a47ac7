"""CPU of the Worker's imports inside workerd, module by module: what it adds to the start of a bare Python Worker."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import httpx

from scripts.benchmarks.figures import cell, figure
from scripts.benchmarks.processes import started_on, thread_cpu_s
from scripts.benchmarks.workerd import BenchError, Server, running_servers
from scripts.benchmarks.workerd_cases import import_server

Raw = dict[str, Any]
GOAL_MS = 300
SHOWN, SHOWN_PACKAGES = 30, 15
EMPTY, EMPTY_REQUESTS = "sys", 30


def measure_imports(measured_cores: set[int], *, repeats: int) -> Raw:
    """One round starts two Workers anew: one imports all at once, the other module after module, a request each.

    A module is imported when all that it needs is there already, so the CPU is its own.
    """
    with started_on(measured_cores, running_servers(import_server())) as servers:
        order: list[str] = _get(servers["imports"], "order").json()
    whole, modules = [], dict[str, list[float]]()
    for _ in range(repeats):
        with started_on(measured_cores, running_servers(import_server())) as servers:
            whole.append(_import_ms(servers["imports"], ["entry"])["entry"])
        with started_on(measured_cores, running_servers(import_server())) as servers:
            for name, cpu_ms in _import_ms(servers["imports"], order).items():
                modules.setdefault(name, []).append(cpu_ms)
    return {"whole_ms": whole, "modules": modules}


def _import_ms(server: Server, names: list[str]) -> dict[str, float]:
    """Without what a request costs that imports nothing."""
    for _ in range(EMPTY_REQUESTS):
        _request_ms(server, EMPTY)
    empty_ms = median([_request_ms(server, EMPTY) for _ in range(EMPTY_REQUESTS)])
    return {name: _request_ms(server, name) - empty_ms for name in names}


def _request_ms(server: Server, name: str) -> float:
    before_s = thread_cpu_s(server.pid)
    _get(server, f"import/{name}")
    return 1000 * (thread_cpu_s(server.pid) - before_s)


def _get(server: Server, path: str) -> httpx.Response:
    answer = httpx.get(f"{server.url}/{path}", timeout=120, trust_env=False)
    if answer.status_code != 200:
        raise BenchError(f"{path}: {answer.status_code} {answer.text[:300]}")
    return answer


def import_tables(raw: Raw) -> str:
    """Markdown. Pure."""
    modules = {name: figure(rounds) for name, rounds in raw["modules"].items()}
    whole = figure(raw["whole_ms"])
    dearest = sorted(modules, key=lambda name: -modules[name].median)
    lines = [
        "CPU of workerd in milliseconds for what our Worker imports beyond a bare Python Worker, sources"
        " compiled: all at once in one fresh isolate, and module by module in another, each when all that it needs is"
        " there. Production does this once, at the deployment, for the snapshot.",
        "",
        f"**All at once: {cell(whole, 0)} ms**; the goal is at most {GOAL_MS}:"
        f" {'held' if whole.median <= GOAL_MS else '**missed**'}. Sum of the {len(modules)} modules:"
        f" {sum(each.median for each in modules.values()):,.0f} ms. The compiling of sources is within. Modules are"
        " imported at the start all the same, rare ones too: a snapshot carries them, and a later import is paid by"
        " some caller.",
        "",
        "| package | modules | CPU ms |",
        "| --- | ---: | ---: |",
        *(
            f"| `{name}` | {count} | {cpu_ms:.1f} |"
            for name, (count, cpu_ms) in by_package(raw["modules"])[:SHOWN_PACKAGES]
        ),
        "",
        f"The {min(SHOWN, len(dearest))} dearest modules, without what they import:",
        "",
        "| module | CPU ms |",
        "| --- | ---: |",
        *(f"| `{name}` | {cell(modules[name], 1)} |" for name in dearest[:SHOWN]),
    ]
    return "\n".join(lines)


def by_package(modules: Mapping[str, Sequence[float]]) -> list[tuple[str, tuple[int, float]]]:
    """(top package, (modules, CPU ms)), the dearest first. modules: CPU ms of each round. Pure."""
    found: dict[str, tuple[int, float]] = {}
    for name, rounds in modules.items():
        top = name.partition(".")[0]
        count, sum_ms = found.get(top, (0, 0.0))
        found[top] = count + 1, sum_ms + median(rounds)
    return sorted(found.items(), key=lambda item: -item[1][1])

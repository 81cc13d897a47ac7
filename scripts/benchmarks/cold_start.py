"""Cold start: from each gateway's start to its first answer, what our Worker's imports cost, the size of the upload."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from scripts.benchmarks.comparison import PACE, Track
from scripts.benchmarks.figures import cell, figure
from scripts.benchmarks.gateways import Gateway, Surroundings, all_gateways, asked, first_answer, surroundings
from scripts.benchmarks.imports import import_tables, measure_imports
from scripts.benchmarks.peers.install import InstallError
from scripts.benchmarks.processes import cpu_s, split_cores
from scripts.benchmarks.quick_upstream import quick_upstream
from scripts.benchmarks.workerd import NODE, BenchError, stage
from scripts.benchmarks.workerd_cases import FORWARDER, SDK_HELLO
from scripts.local.worker_spec import ROOT

Raw = dict[str, Any]
SAME_START = ("nearside-kv", "nearside-chain", "litellm-cache", FORWARDER, "javascript-forwarder")
"""Started as another row is, with little changed."""
QUICK = (SDK_HELLO, "nearside")


def measure_cold_start(*, repeats: int, is_quick: bool, track: Track) -> Raw:
    measured, load = split_cores()
    stage()
    gateways = [gateway for gateway in all_gateways() if is_started(gateway, is_quick)]
    rows: dict[str, Raw] = {
        each.name: {"says": each.says, "version": each.version, "starts": [], "missing": None} for each in gateways
    }
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, load)
    try:
        with quick_upstream(PACE) as url, surroundings(url, measured) as around:
            for gateway in track([gateway for _ in range(repeats) for gateway in gateways], "cold starts"):
                row = rows[gateway.name]
                if row["missing"] is None:
                    _start_once(gateway, around, row)
        imports = measure_imports(measured, repeats=repeats)
    finally:
        os.sched_setaffinity(0, before)
    return {"rows": rows, "bundle": bundle_sizes(), "imports": imports}


def is_started(gateway: Gateway, is_quick: bool) -> bool:
    return gateway.name in QUICK if is_quick else gateway.name not in SAME_START


def _start_once(gateway: Gateway, around: Surroundings, row: Raw) -> None:
    ask = gateway.plain or gateway.hit
    assert ask is not None
    try:
        with gateway.start(around) as running:
            first_answer(running, asked(gateway, ask, around.upstream_url).plain())
            cpu = sum(cpu_s(pid) for pid in running.processes())
            row["starts"].append({"seconds": running.age_s(), "cpu_s": cpu})
    except (InstallError, BenchError, OSError, RuntimeError) as exc:
        row["missing"] = str(exc)[:300]


def bundle_sizes() -> Raw:
    """KiB of the upload as wrangler tells it; it is not sent anywhere."""
    wrangler = ROOT / "node_modules" / "wrangler" / "bin" / "wrangler.js"
    with tempfile.TemporaryDirectory(prefix="nearside-bundle-") as folder:
        command = [str(NODE), str(wrangler), "deploy", "--dry-run", "--outdir", folder]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "WRANGLER_SEND_METRICS": "false", "CI": "1"},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    return parse_bundle(done.stdout)


def parse_bundle(output: str) -> Raw:
    """Raises BenchError."""
    found = re.search(r"Total Upload: ([\d.]+) KiB / gzip: ([\d.]+) KiB", output)
    if found is None:
        raise BenchError(f"wrangler told no size: {output[-300:]}")
    return {"kib": float(found.group(1)), "gzip_kib": float(found.group(2))}


def cold_start_tables(raw: Raw) -> str:
    """Markdown. Pure."""
    lines = ["| | version | launch to first answer s | CPU s until then |", "| --- | --- | ---: | ---: |"]
    lines += _lines(list(raw["rows"].values()))
    bundle = raw["bundle"]
    size = bundle["gzip_kib"] / 1024
    return "\n".join(
        [
            *lines,
            "",
            "No snapshot is used here: each workerd starts CPython and imports everything, which in production is done"
            " once, at the deployment. What our Worker adds is the difference between its row and Python hello's.",
            "",
            f"Bundle: {bundle['kib']:,.0f} KiB, {bundle['gzip_kib']:,.0f} KiB gzipped; the goal is under 2.5 MiB:"
            f" {'held' if size < 2.5 else '**missed**'} ({size:.2f} MiB).",
            "",
            "## What our Worker imports",
            "",
            import_tables(raw["imports"]),
        ]
    )


def _lines(rows: Sequence[Raw]) -> Iterator[str]:
    for row in rows:
        if row["missing"] or not row["starts"]:
            yield f"| {row['says']} | {row['version']} | – ({row['missing']}) | – |"
            continue
        seconds, cpu = (figure([start[key] for start in row["starts"]]) for key in ("seconds", "cpu_s"))
        yield f"| {row['says']} | {row['version']} | {cell(seconds, 2)} | {cell(cpu, 2)} |"

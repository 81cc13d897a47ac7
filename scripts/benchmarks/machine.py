"""Where and with what was measured: the facts that every published figure carries."""

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

from scripts.local.worker_spec import ROOT

PACKAGES = ("workerd", "miniflare", "pyodide", "autocannon")


def machine_facts() -> dict[str, Any]:
    """The load average tells whether the machine was busy with something else at the start."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu_model(),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "versions": {"python": platform.python_version(), **{name: _npm_version(name) for name in PACKAGES}},
    }


def _npm_version(name: str) -> str:
    try:
        return str(json.loads((ROOT / "node_modules" / name / "package.json").read_text())["version"])
    except OSError:
        return "unknown"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()

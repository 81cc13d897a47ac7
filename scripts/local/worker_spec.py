"""What the test harness is told to run: the production wrangler.toml with bindings overridden, and the local front."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_router.catalog import DEFAULT_MODELS, Model

ROOT = Path(__file__).resolve().parents[2]
FRONT = "local-front"

# These read our own Pyodide bundle. They belong here and never into wrangler.toml.
DEVELOPMENT_FLAGS = ("python_workers_development", "experimental")

# Any model name that starts with sim- reaches the simulated provider, which takes faults from it.
SIMULATED_FAULTS = Model("sim-*", "cloud", "cloud-fast", 128_000, 0.15, 0.60, ("tools", "json", "vision"))

BATCH_MODEL = "gpt-4o-mini"  # whose batches go whole to the simulated provider

# What `request.cf` holds when a request does not emulate a place.
DEFAULT_CF = {
    "colo": "DFW",
    "country": "US",
    "continent": "NA",
    "latitude": "32.78",
    "longitude": "-96.80",
    "clientTcpRtt": 0,
    "clientAcceptEncoding": "",
    "httpProtocol": "HTTP/1.1",
}

# Durable Objects that a request waits for, and what stands before them in scripts/local/bindings.js.
_FAULTY_OBJECTS = {"SingleFlight": "FaultyFlight", "Ledger": "FaultyLedger"}

# Overridden by a Worker that stands in for the service (scripts/local/bindings.js).
_STAND_INS = {"ai": "WorkersAI", "vectorize": "Vectorize"}


def local_worker(variables: Mapping[str, Any], overrides: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """(wrangler configuration of the Worker, names of its KV namespaces). overrides: of whole sections."""
    config = {**tomllib.loads((ROOT / "wrangler.toml").read_text()), **overrides}
    config["compatibility_flags"] = [*config["compatibility_flags"], *DEVELOPMENT_FLAGS]
    services = config.setdefault("services", [])
    for section, entrypoint in _STAND_INS.items():
        for binding in _as_list(config.pop(section, None)):
            services.append({"binding": binding["binding"], "service": FRONT, "entrypoint": entrypoint})
    namespaces = [entry["binding"] for entry in config.pop("kv_namespaces", [])]
    for name in namespaces:
        props = {"namespace": name}
        services.append({"binding": name, "service": FRONT, "entrypoint": "FaultyKV", "props": props})
    objects = config["durable_objects"]["bindings"]
    config["durable_objects"] = {"bindings": [_with_faults(each) for each in objects]}
    config["vars"] = {**config.get("vars", {}), **variables}
    return config, namespaces


def _with_faults(binding: dict[str, Any]) -> dict[str, Any]:
    """The class stays in the Worker; what it is reached by is a Durable Object that puts faults before it."""
    faulty = _FAULTY_OBJECTS.get(binding["class_name"])
    return {**binding, "class_name": faulty, "script_name": FRONT} if faulty else binding


def front_worker(namespaces: list[str], *, ai_url: str, control_url: str, worker_name: str) -> dict[str, Any]:
    """wrangler configuration of the front, which owns the real KV namespaces and reaches the Durable Objects."""
    return {
        "name": FRONT,
        "main": "scripts/local/bindings.js",
        "compatibility_date": "2026-11-16",
        "kv_namespaces": [{"binding": name} for name in namespaces],
        "durable_objects": {
            "bindings": [
                *({"name": faulty.upper(), "class_name": faulty} for faulty in _FAULTY_OBJECTS.values()),
                {"name": "REAL_FLIGHTS", "class_name": "SingleFlight", "script_name": worker_name},
                {"name": "REAL_LEDGER", "class_name": "Ledger", "script_name": worker_name},
            ]
        },
        "migrations": [{"tag": "v1", "new_sqlite_classes": [*_FAULTY_OBJECTS.values()]}],
        "services": [{"binding": "NEARSIDE", "service": worker_name}],
        "vars": {"AI_URL": ai_url, "CONTROL_URL": control_url, "DEFAULT_CF": json.dumps(DEFAULT_CF)},
    }


def local_variables(regions: list[dict[str, Any]], *, provider_url: str, auth: str) -> dict[str, Any]:
    """Variables that differ from production's."""
    provider = {"id": "simulated", "url": f"{provider_url}/v1", "models": [BATCH_MODEL], "price_factor": 0.5}
    return {
        "AUTH": auth,
        "RATE_LIMIT": "off",
        "CLOUD_REGIONS": regions,
        "CATALOG": [asdict(model) for model in (*DEFAULT_MODELS, SIMULATED_FAULTS)],
        "BATCH_UPSTREAMS": [provider],
        "BATCH_UPSTREAM_KEYS": "simulated=any",
        "BATCH_POLL_S": 0.2,
    }


def harness_spec(
    *,
    port: int,
    variables: Mapping[str, Any],
    ai_url: str,
    control_url: str,
    keys: Mapping[str, str],
    config: Mapping[str, Any],
    state: Path,
    reload: bool,
) -> dict[str, Any]:
    """The file that scripts/local/harness.mjs reads.

    keys: entries of the KV namespace KEYS. config: sections of wrangler.toml to replace. state: folder of what Workers
    store. reload: whether a change of the Worker's code restarts it, and the crons run at their times.
    """
    worker, namespaces = local_worker(variables, config)
    front = front_worker(namespaces, ai_url=ai_url, control_url=control_url, worker_name=worker["name"])
    return {
        "root": str(ROOT),
        "port": port,
        "state": str(state),
        "workers": [{"config": front}, {"config": worker}],
        "watch": [str(ROOT / "src"), str(ROOT / "edge_router")] if reload else [],
        "cron": {"worker": worker["name"], "on_time": worker["triggers"]["crons"] if reload else []},
        "seed": {"worker": FRONT, "entries": {"KEYS": dict(keys)}},
    }


def _as_list(section: Any) -> list[dict[str, Any]]:
    if section is None:
        return []
    return section if isinstance(section, list) else [section]

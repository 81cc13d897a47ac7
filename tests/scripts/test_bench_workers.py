"""What scripts/bench gives a Worker to run with."""

import tomllib
from typing import Any

from scripts.benchmarks.workerd_cases import growth_server
from scripts.local.worker_spec import ROOT


def names_of(section: Any) -> set[str]:
    """Every binding below a section of wrangler.toml, which calls it `binding` or `name`."""
    entries = section if isinstance(section, list) else [section]
    return {entry.get("binding") or entry["name"] for entry in entries}


def test_every_binding_of_production_is_there() -> None:
    """One that is missing makes the Worker answer 500 only when it is composed, far from here."""
    config = tomllib.loads((ROOT / "wrangler.toml").read_text())
    sections = [config[name] for name in ("assets", "kv_namespaces", "ai", "vectorize", "r2_buckets", "ratelimits")]
    sections += [config["durable_objects"]["bindings"], config["queues"]["producers"]]
    sections.append(config["analytics_engine_datasets"])
    (worker,) = growth_server("http://upstream", {})["servers"]

    given = {*worker["services"], *worker["options"]["bindings"]}
    for kind in ("kvNamespaces", "durableObjects", "analyticsEngineDatasets", "r2Buckets", "queueProducers"):
        given |= set(worker["options"][kind])

    assert {name for section in sections for name in names_of(section)} <= given

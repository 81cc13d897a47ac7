"""The plots of docs/simulation.md, without dates, so that the same figures give the same files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from scripts.simulation.failures import DOWN_FOR_S, DOWN_FROM_S, DOWN_REGION
from scripts.simulation.runner import LOAD_STEP_S
from scripts.simulation.scenario import REGIONS, Scenario
from scripts.simulation.source_table import Row
from scripts.simulation.theory import lifetime_hit_rate
from scripts.simulation.trace import zipf_shares
from scripts.simulation.world import World

mpl.use("svg")
mpl.rcParams.update({"svg.hashsalt": "nearside", "figure.figsize": (8, 4.5), "axes.grid": True, "grid.alpha": 0.3})

from matplotlib import pyplot as plt  # noqa: E402 (the backend is chosen first)

Results = Mapping[tuple[float, str], dict[str, Any]]
CACHE_TIERS = ("memory", "kv", "stale", "semantic", "collapsed")


def latency(path: Path, results: Results, rates: Sequence[float], names: Sequence[str]) -> None:
    figure, axes = plt.subplots(1, 2, sharex=True)
    for axis, part, title in zip(axes, ("ttft_s", "total_s"), ("time to first token", "whole answer"), strict=True):
        for name in names:
            axis.plot(rates, [results[rate, name][part]["p95"] for rate in rates], marker="o", label=name)
        axis.set(xscale="log", xlabel="requests/s", ylabel="p95, s", title=title, ylim=(0, None))
    axes[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, path)


def hit_rate(path: Path, results: Results, rates: Sequence[float], scenario: Scenario) -> None:
    figure, axis = plt.subplots()
    tiers = np.array([[results[rate, "all"]["share"][tier] for rate in rates] for tier in CACHE_TIERS])
    axis.stackplot(rates, tiers, labels=CACHE_TIERS, alpha=0.8)
    axis.plot(rates, [one_tenant(rate, scenario) for rate in rates], "k--", label="closed form: one tenant, one store")
    axis.set(xscale="log", xlabel="requests/s", ylabel="share of requests", ylim=(0, 0.8))
    axis.legend(fontsize=8, loc="lower right")
    _save(figure, path)


def one_tenant(rate: float, scenario: Scenario) -> float:
    """Hit rate if all of the traffic were one tenant's."""
    traffic = scenario.traffic
    wordings = np.outer(zipf_shares(traffic.questions, traffic.zipf_exponent), traffic.wording_shares).ravel()
    rates = rate * traffic.repeated_share * wordings / wordings.sum()
    return traffic.repeated_share * lifetime_hit_rate(rates, scenario.caches.ttl_s, scenario.caches.swr_s)


def world_map(path: Path, scenario: Scenario) -> None:
    """Each metro by its median round trip to its nearest location."""
    world = World(scenario.network)
    places = np.array([metro.place for metro in world.metros])
    people = np.array([metro.people_online for metro in world.metros])
    rtt_ms = (world.way_s(world.km.min(axis=1)) + scenario.network.last_mile_s) * 1000
    figure, axis = plt.subplots(figsize=(9, 4.5))
    dots = axis.scatter(places[:, 1], places[:, 0], s=2 + people / 4e5, c=rtt_ms, cmap="viridis_r", alpha=0.8, vmax=40)
    axis.scatter(world.places[:, 1], world.places[:, 0], marker="+", s=12, c="grey", linewidths=0.5, label="location")
    regions = [(region.longitude, region.latitude) for region in REGIONS]
    longitudes, latitudes = zip(*regions, strict=True)
    axis.scatter(longitudes, latitudes, marker="*", s=120, c="crimson", label="cloud region")
    axis.set(xlim=(-180, 180), ylim=(-60, 75), xlabel="longitude", ylabel="latitude")
    axis.legend(fontsize=8, loc="lower left")
    figure.colorbar(dots, label="median round trip, ms")
    _save(figure, path)


def region_load(path: Path, cases: Mapping[str, dict[str, Any]], names: Sequence[str]) -> None:
    figure, axes = plt.subplots(1, len(names), sharey=True)
    for axis, name in zip(axes, names, strict=True):
        for region_id, calls in cases[name]["load"].items():
            axis.plot(np.arange(len(calls)) * LOAD_STEP_S, calls, label=region_id)
        axis.axvspan(DOWN_FROM_S, DOWN_FROM_S + DOWN_FOR_S, color="grey", alpha=0.2, label=f"{DOWN_REGION} down")
        axis.set(xlabel="s", title=name)
        axis.title.set_fontsize(9)
    axes[0].set_ylabel("calls/s")
    axes[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, path)


def sources(path: Path, rows: Sequence[Row]) -> None:
    figure, axis = plt.subplots()
    at = np.arange(len(rows))
    axis.barh(at - 0.27, [row.claim.seconds for row in rows], 0.27, label="the sources", color="black")
    axis.barh(at, [row.alone_s for row in rows], 0.27, label="model: alone")
    axis.barh(at + 0.27, [row.together_s for row in rows], 0.27, label="model: with the rows above")
    axis.set(xlabel="p95, s", yticks=at, yticklabels=[row.claim.name for row in rows])
    axis.invert_yaxis()
    axis.legend()
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})
    plt.close(figure)

"""Runs the model at a rate of requests: how much of the traffic is simulated, for how long, with how many slots.

Slices. Above the rate of one tenant the traffic is more tenants, and a slice of them is simulated: one tenant of k,
with 1/k of the slots. Tenants share no cache entry, so the caches of a slice are exact; what the others hold of an
isolate's memory is left out of its size. Queues wait longer in a slice than in the whole (k times the slots at the same
load wait less: Erlang C), so their part of the latency is an upper bound. Where a location's part of the slice is less
than an isolate's traffic, isolates learn of the regions more slowly than in the whole, and hedge and break less.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Final

import numpy as np

from scripts.simulation.model import Simulation
from scripts.simulation.outcome import Capacity, Outcome
from scripts.simulation.scenario import STRATEGIES, Scenario
from scripts.simulation.trace import make_trace, tenant_count
from scripts.simulation.world import CONTINENTS, World

RATES: Final = (10, 100, 1_000, 10_000, 100_000)
REQUESTS: Final = 10_000  # measured ones: 100 beyond the p99
QUICK_REQUESTS: Final = 3_000
LONGEST_S: Final = 3600.0
LOAD_STEP_S: Final = 5.0
PILOT_SHARE: Final = 0.3  # of the measured time
PILOT_WARM_UP_S: Final = 30.0  # until the slots are as busy as they will be


@dataclass(frozen=True, slots=True)
class Cell:
    """One run. requests: to measure, about."""

    name: str
    scenario: Scenario
    requests_per_s: float
    requests: int = REQUESTS
    seed: int = 1


def run(cell: Cell, progress: Callable[[int], None] = lambda _: None) -> Outcome:
    """A pilot without queues says how many slots keep the scenario's share of them busy; then the run itself."""
    return run_with(cell, capacity(cell), progress)


def summary_of(cell: Cell) -> dict[str, Any]:
    """As `run`, for another process to tell; with the parts of the world, and the regions' load over time."""
    outcome = run(cell)
    return {**outcome.summary(), "by_continent": by_continent(outcome, cell), "load": load(outcome, cell)}


def by_continent(outcome: Outcome, cell: Cell) -> dict[str, dict[str, float]]:
    """Of the callers there: requests, and percentiles of the first token in seconds."""
    metros = World(cell.scenario.network).metros
    continents = np.array([metro.continent for metro in metros])[outcome.trace.metro[outcome.measured]]
    found = {}
    for code, name in CONTINENTS.items():
        times = outcome.ttft_s[continents == code]
        p50, p95, p99 = outcome.percentiles_s(times)
        found[name] = {"requests": len(times), "p50": round(p50, 4), "p95": round(p95, 4), "p99": round(p99, 4)}
    return found


def load(outcome: Outcome, cell: Cell) -> dict[str, list[float]]:
    """Calls per second that each region got, of the whole traffic, by steps of LOAD_STEP_S in the measured window."""
    times: dict[str, list[float]] = {}
    for at_s, region_id in outcome.tally.call_log:
        times.setdefault(region_id, []).append(at_s - cell.scenario.warm_up_s)
    end_s = float(outcome.trace.at_s[-1]) - cell.scenario.warm_up_s
    edges = np.arange(0.0, end_s, LOAD_STEP_S)
    return {
        region_id: (np.histogram(at, edges)[0] / LOAD_STEP_S / outcome.slice_share).round(2).tolist()
        for region_id, at in sorted(times.items())
    }


def capacity(cell: Cell) -> Capacity:
    """Slots for the cell's traffic in steady state; failures are not planned for."""
    scenario = cell.scenario
    healthy = replace(
        scenario,
        warm_up_s=min(scenario.warm_up_s, PILOT_WARM_UP_S),
        cloud=replace(scenario.cloud, down_region=""),
        edge=replace(scenario.edge, lost_share=0.0),
    )
    pilot = run_with(replace(cell, scenario=healthy, requests=ceil(cell.requests * PILOT_SHARE)), Capacity())
    return Capacity(
        {name: _slots(erlangs, scenario.edge.busy_share) for name, erlangs in pilot.edge_erlangs.items()},
        {name: _slots(erlangs, scenario.cloud.busy_share) for name, erlangs in pilot.cloud_erlangs.items()},
    )


def run_with(cell: Cell, capacity: Capacity, progress: Callable[[int], None] = lambda _: None) -> Outcome:
    scenario = cell.scenario
    slice_share = 1 / tenant_count(scenario.traffic, cell.requests_per_s)
    sliced_per_s = cell.requests_per_s * slice_share
    measured_s = min(LONGEST_S, cell.requests / sliced_per_s)
    world = World(scenario.network)
    trace = make_trace(
        scenario, world, requests_per_s=sliced_per_s, duration_s=scenario.warm_up_s + measured_s, seed=cell.seed
    )
    simulation = Simulation(
        scenario,
        world,
        trace,
        requests_per_s=cell.requests_per_s,
        slice_share=slice_share,
        capacity=capacity,
        seed=cell.seed,
    )
    return simulation.run(progress)


def ablation(scenario: Scenario) -> dict[str, Scenario]:
    """Everything, everything but one, and nothing: one cloud region and its best model for all."""
    variants = {"all": scenario}
    variants |= {f"without {name}": scenario.without(name) for name in STRATEGIES if name in scenario.strategies}
    return {**variants, "none": scenario.only()}


def _slots(erlangs: float, busy_share: float) -> float:
    return ceil(erlangs / busy_share) + 1

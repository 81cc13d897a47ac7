"""Runs in which something fails: a region goes down, Workers AI loses slots or refuses what is beyond a limit."""

from dataclasses import replace
from typing import Final

from scripts.simulation.scenario import Scenario

RATE: Final = 500.0  # not sliced: what isolates know of the regions is what these runs are about
REQUESTS: Final = 40_000  # 80 s
DOWN_REGION: Final = "weur"
DOWN_FROM_S: Final = 20.0
DOWN_FOR_S: Final = 40.0


def failure_cases(scenario: Scenario) -> dict[str, Scenario]:
    """By name; every one with all strategies that the name does not take away."""
    scenario = replace(scenario, traffic=replace(scenario.traffic, requests_per_s_of_tenant=RATE))
    refusing = _down(scenario, "refuse")
    silent = _down(scenario, "silent")
    alone = replace(scenario.cloud, single_region=DOWN_REGION)
    return {
        "nothing fails": scenario,
        f"{DOWN_REGION} refuses": refusing,
        f"{DOWN_REGION} refuses, without breakers": refusing.without("breakers"),
        f"{DOWN_REGION} is silent": silent,
        f"{DOWN_REGION} is silent, without hedging": silent.without("hedging"),
        f"{DOWN_REGION} is silent, without breakers": silent.without("breakers"),
        f"{DOWN_REGION} is silent, without both": silent.without("breakers", "hedging"),
        f"{DOWN_REGION} refuses, and is the only region": _down(replace(scenario, cloud=alone), "refuse").without(
            "regions"
        ),
        "Workers AI loses half its slots": replace(scenario, edge=replace(scenario.edge, lost_share=0.5)),
        "Workers AI loses 90 % of its slots": replace(scenario, edge=replace(scenario.edge, lost_share=0.9)),
        "Workers AI at the default limit, 300 a minute": replace(
            scenario, edge=replace(scenario.edge, requests_per_minute=300.0)
        ),
    }


def _down(scenario: Scenario, kind: str) -> Scenario:
    cloud = replace(
        scenario.cloud, down_region=DOWN_REGION, down_from_s=DOWN_FROM_S, down_for_s=DOWN_FOR_S, down_kind=kind
    )
    return replace(scenario, cloud=cloud)

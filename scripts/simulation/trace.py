"""Who asks what, when and from where: Poisson arrivals of Zipf questions, drawn before the model runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from scripts.simulation.scenario import Scenario, Traffic
from scripts.simulation.world import Floats, Ints, World, lognormal

NEVER_AGAIN: Final = -1


@dataclass(frozen=True, slots=True)
class Trace:
    """Of each request, in order of time. wording: NEVER_AGAIN where nobody else asks it. level: in [0, 1], how hard."""

    at_s: Floats
    metro: Ints
    colo: Ints
    network_s: Floats
    question: Ints
    wording: Ints
    level: Floats
    input_tokens: Ints
    output_tokens: Ints

    def __len__(self) -> int:
        return len(self.at_s)


def zipf_shares(count: int, exponent: float) -> Floats:
    """Popularity of ranks 1 to count; adds up to 1."""
    weights = np.arange(1, count + 1, dtype=float) ** -exponent
    shares: Floats = weights / weights.sum()
    return shares


def make_trace(scenario: Scenario, world: World, *, requests_per_s: float, duration_s: float, seed: int) -> Trace:
    """The same arguments give the same trace, whatever strategies are on."""
    rng = np.random.default_rng(seed)
    traffic = scenario.traffic
    count = int(rng.poisson(requests_per_s * duration_s))
    callers = world.callers(count, rng)
    is_new = rng.random(count) < traffic.new_connection_share
    tenants = tenant_count(traffic, requests_per_s)
    question = rng.choice(traffic.questions, count, p=zipf_shares(traffic.questions, traffic.zipf_exponent))
    question = question + traffic.questions * rng.integers(0, tenants, count)
    shares = np.array(traffic.wording_shares)
    wording = question * len(shares) + rng.choice(len(shares), count, p=shares / shares.sum())
    is_repeated = rng.random(count) < traffic.repeated_share
    lengths = lognormal(rng, traffic.output_tokens, traffic.output_sigma, count)
    return Trace(
        at_s=np.sort(rng.uniform(0.0, duration_s, count)),
        metro=callers.metro,
        colo=callers.colo,
        network_s=callers.rtt_s * np.where(is_new, 3.0, 1.0),
        question=np.where(is_repeated, question, NEVER_AGAIN),
        wording=np.where(is_repeated, wording, NEVER_AGAIN),
        level=rng.random(count),
        input_tokens=np.maximum(5, lognormal(rng, traffic.input_tokens, 0.7, count)).astype(np.int64),
        output_tokens=np.clip(lengths, 1, traffic.max_output_tokens).astype(np.int64),
    )


def tenant_count(traffic: Traffic, requests_per_s: float) -> int:
    return max(1, round(requests_per_s / traffic.requests_per_s_of_tenant))


def rates(traffic: Traffic, requests_per_s: float) -> tuple[Callable[[int], float], Callable[[int], float]]:
    """How often one wording, and one question, is asked per second, everywhere together."""
    tenants = tenant_count(traffic, requests_per_s)
    shares = zipf_shares(traffic.questions, traffic.zipf_exponent) * requests_per_s * traffic.repeated_share / tenants
    wordings = np.array(traffic.wording_shares) / sum(traffic.wording_shares)

    def of_question(question: int) -> float:
        return float(shares[question % traffic.questions])

    def of_wording(wording: int) -> float:
        return of_question(wording // len(wordings)) * float(wordings[wording % len(wordings)])

    return of_wording, of_question

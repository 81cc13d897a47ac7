"""scripts/simulate: the model against closed forms, and what must hold whatever it assumes."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simpy

from edge_router.memory_cache import MemoryCache
from scripts.simulation.__main__ import main
from scripts.simulation.model import Simulation
from scripts.simulation.outcome import BROKEN, CLOUD, EDGE, HITS, REFUSED, TIERS, Capacity
from scripts.simulation.runner import Cell, run, run_with
from scripts.simulation.scenario import Scenario, ScenarioError, read_scenario
from scripts.simulation.slots import Slots, Steps
from scripts.simulation.source_table import SourceTable
from scripts.simulation.stores import Aged, Kv
from scripts.simulation.theory import che_hit_rate, erlang_c, lifetime_hit_rate, mean_wait_s, quantile_of_misses
from scripts.simulation.trace import make_trace, zipf_shares
from scripts.simulation.validate import through_model, validation_trace
from scripts.simulation.world import World

SHORT = Scenario(warm_up_s=20.0)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (4, 0.8), (20, 0.9)])
def test_queue_against_erlang_c(servers: int, load: float) -> None:
    """The mean wait for a slot is that of M/M/c, within 10 %."""
    service_s, calls = 1.0, 60_000
    random_ = random.Random(7)
    env = simpy.Environment()
    slots = Slots(env, servers)
    waits_s: list[float] = []

    def call() -> Steps:
        arrived_s = env.now
        ticket = slots.enter()
        assert ticket is not None
        yield ticket
        waits_s.append(env.now - arrived_s)
        yield env.timeout(random_.expovariate(1 / service_s))
        slots.leave(ticket)

    def arrivals() -> Steps:
        for _ in range(calls):
            yield env.timeout(random_.expovariate(load * servers / service_s))
            env.process(call())

    env.process(arrivals())
    env.run()

    assert np.mean(waits_s) == pytest.approx(mean_wait_s(servers, load * servers, service_s), rel=0.1)
    assert slots.erlangs() == pytest.approx(load * servers, rel=0.05)


def test_erlang_c_of_one_server_is_its_load() -> None:
    assert erlang_c(1, 0.3) == pytest.approx(0.3)


def test_more_servers_at_the_same_load_wait_less() -> None:
    """Why the queues of a slice are an upper bound for those of the whole."""
    assert mean_wait_s(100, 80, 1.0) < mean_wait_s(10, 8, 1.0) < mean_wait_s(1, 0.8, 1.0)


def test_a_full_queue_refuses() -> None:
    """Two slots and room for one more: the fourth is refused, and the third goes on when a slot is free."""
    env = simpy.Environment()
    slots = Slots(env, count=2, queue=1)
    first, _, third, fourth = (slots.enter() for _ in range(4))

    assert first is not None
    assert third is not None
    assert not third.triggered
    assert fourth is None
    assert slots.refused == 1
    slots.leave(first)
    assert third.triggered


def test_memory_against_che() -> None:
    """The isolate's cache of bounded size hits as Che's approximation for LRU says, within 2 points."""
    keys, room, exponent = 2_000, 200, 0.8
    shares = zipf_shares(keys, exponent)
    memory: MemoryCache[bool] = MemoryCache(max_bytes=room, max_age_s=float("inf"))
    asked = np.random.default_rng(3).choice(keys, 60_000, p=shares)
    hits = 0
    for number, key in enumerate(asked.tolist()):
        if memory.get(str(key), 0.0):
            hits += number >= 20_000
        else:
            memory.put(str(key), True, 1, 0.0)

    assert hits / 40_000 == pytest.approx(che_hit_rate(shares, room), abs=0.02)


def test_store_begins_in_steady_state() -> None:
    """Asked for minutes, entries of a day hit as a cache that has run for ever."""
    ttl_s, swr_s = 86_400.0, 3_600.0
    rates = zipf_shares(5_000, 0.8) * 0.5
    random_ = random.Random(5)
    aged = Aged(ttl_s, lambda key: float(rates[key]), random_)
    asked = np.random.default_rng(5).choice(len(rates), 20_000, p=rates / rates.sum())
    hits = 0
    for key in asked.tolist():  # all at the time 0: nothing is stored in between
        hits += -aged.stored_at_s(key) < ttl_s + swr_s

    assert hits / len(asked) == pytest.approx(lifetime_hit_rate(rates, ttl_s, swr_s), abs=0.02)


def test_kv_shows_what_was_seen_for_a_minute() -> None:
    """A location that read a miss goes on missing for 60 s; the one that wrote sees its entry at once."""
    kv = Kv(Scenario().caches, Aged(86_400.0, lambda _: 0.0, random.Random(0)))
    here, there, key = 0, 1, 5
    never = float("-inf")

    assert kv.read(there, key, 0.0) == (never, False)
    kv.write(here, key, 10.0)
    assert kv.read(here, key, 10.0) == (10.0, True)
    assert kv.read(there, key, 59.0) == (never, True)
    assert kv.read(there, key, 60.0) == (10.0, False)


def test_round_trip_grows_with_distance() -> None:
    world = World(Scenario().network)
    ways_s = world.way_s(np.array([0.0, 100.0, 1_000.0, 10_000.0, 20_000.0]))

    assert ways_s[0] == 0
    assert all(np.diff(ways_s) > 0)
    assert ways_s[-1] == pytest.approx(0.3)


def test_callers_are_where_people_are() -> None:
    """About 300 locations, none of Cloudflare's China network, the shares of the traffic add up."""
    world = World(Scenario().network)

    assert 250 < len(world.colos) < 350
    assert "PEK" not in world.colos
    assert "SHA" not in world.colos
    assert world.traffic_share.sum() == pytest.approx(1.0)
    callers = world.callers(20_000, np.random.default_rng(1))
    seen = np.bincount(callers.colo, minlength=len(world.colos)) / 20_000
    assert seen == pytest.approx(world.traffic_share, abs=0.01)


VARIANTS: list[Callable[[Scenario], Scenario]] = [
    lambda scenario: scenario,
    lambda scenario: scenario.only(),
    lambda scenario: scenario.without("edge"),
    lambda scenario: replace(scenario, edge=replace(scenario.edge, lost_share=0.9)),
    lambda scenario: replace(
        scenario, cloud=replace(scenario.cloud, down_region="weur", down_from_s=2.0, down_for_s=10.0)
    ),
    lambda scenario: replace(
        scenario.without("regions"),
        cloud=replace(scenario.cloud, down_region="enam", down_from_s=2.0, down_for_s=10.0, down_kind="silent"),
    ),
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_request_ends_once(variant: Callable[[Scenario], Scenario]) -> None:
    """What comes in is answered, refused or broken off; only answers have a time, and no first token comes last."""
    outcome = run(Cell("", variant(SHORT), requests_per_s=40, requests=800))

    assert sum(outcome.share(tier) for tier in range(len(TIERS))) == pytest.approx(1.0)
    is_answer = ~np.isin(outcome.tier, (REFUSED, BROKEN))
    assert np.array_equal(is_answer, ~np.isnan(outcome.ttft_s))
    assert np.array_equal(is_answer, ~np.isnan(outcome.total_s))
    assert np.all(outcome.ttft_s[is_answer] <= outcome.total_s[is_answer])


def test_same_seed_same_run() -> None:
    cell = Cell("", SHORT, requests_per_s=40, requests=600)

    assert run(cell).summary() == run(cell).summary()
    assert run(cell).summary() != run(replace(cell, seed=2)).summary()


def test_hit_rate_against_closed_form() -> None:
    """Without propagation, cold reads that time out, and meaning, the hits are those of one store with lifetimes."""
    caches = replace(SHORT.caches, kv_seen_s=0.0, kv_sigma=0.0)
    scenario = replace(SHORT, caches=caches).without("semantic", "flight")
    outcome = run_with(Cell("", scenario, requests_per_s=40, requests=6_000), Capacity())
    traffic = scenario.traffic
    wordings = np.outer(zipf_shares(traffic.questions, traffic.zipf_exponent), traffic.wording_shares).ravel()
    rates = 40 * traffic.repeated_share * wordings / wordings.sum()

    expected = traffic.repeated_share * lifetime_hit_rate(rates, caches.ttl_s, caches.swr_s)
    assert outcome.share(*HITS) == pytest.approx(expected, abs=0.02)


def test_single_flight_makes_no_more_calls() -> None:
    """A crowd with one question: at most one call a continent with it, one for each caller without."""
    crowd = replace(SHORT.traffic, questions=1, wording_shares=(1.0,), repeated_share=1.0)
    caches = replace(SHORT.caches, ttl_s=1.0, swr_s=0.0, kv_seen_s=0.0)
    base = replace(SHORT, warm_up_s=0.0, traffic=crowd, caches=caches)
    base = replace(base, isolates=replace(base.isolates, memory_bytes=0))
    shared, alone = (
        run_with(Cell("", scenario, requests_per_s=200, requests=2_000), Capacity()).tally.calls.total()
        for scenario in (base.only("exact", "flight", "regions"), base.only("exact", "regions"))
    )

    seconds, continents = 10, 6
    assert shared <= seconds * continents + continents
    assert shared < alone / 2


def test_a_better_cache_costs_less() -> None:
    """Each hit saves a call, so the same trace costs less with the exact cache than without."""
    cell = Cell("", SHORT, requests_per_s=40, requests=1_000)
    bare = replace(cell, scenario=SHORT.without("exact"))

    assert run(cell).usd_per_million < run(bare).usd_per_million


def test_trace_does_not_depend_on_strategies() -> None:
    """So that two strategies are compared on the same requests."""
    world = World(SHORT.network)
    one, other = (
        make_trace(scenario, world, requests_per_s=40, duration_s=10, seed=3) for scenario in (SHORT, SHORT.only())
    )

    assert np.array_equal(one.at_s, other.at_s)
    assert np.array_equal(one.wording, other.wording)


def test_scenario_file(tmp_path: Path) -> None:
    """A TOML file changes what it names; whole numbers will do for fractions."""
    file = tmp_path / "busy.toml"
    file.write_text("[edge]\nshare = 1\n[traffic]\nwording_shares = [0.9, 0.1]\n")

    scenario = read_scenario(file, Scenario())

    assert scenario.edge.share == 1.0
    assert scenario.traffic.wording_shares == (0.9, 0.1)
    assert scenario.cloud == Scenario().cloud


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[edge]\nshares = 1", "edge.shares is not known; use one of: share,"),
        ("[edges]\nshare = 1", "no section [edges]"),
        ("[edge]\nshare = 'all'", "edge.share must be of the type float"),
        ("[edge]\nshare = -1", "edge.share must not be negative"),
        ("[edge", "bad.toml"),
    ],
)
def test_scenario_file_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)

    with pytest.raises(ScenarioError, match=message.replace("[", r"\[").replace(".", r"\.")):
        read_scenario(file, Scenario())


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table for people, every figure as JSON for programs."""
    file, scenario = tmp_path / "out.json", tmp_path / "short.toml"
    scenario.write_text("[traffic]\nquestions = 500\n")

    assert main(["--quick", "--rate", "20", "--processes", "1", "--scenario", str(scenario), "--json", str(file)]) == 0
    told = json.loads(file.read_text())
    assert [(each["requests_per_s"], each["strategies"]) for each in told] == [(20.0, "all"), (20.0, "none")]
    assert told[0]["hit_rate"] > told[1]["hit_rate"] == 0
    assert "requests/s" in capsys.readouterr().out


def test_command_refuses_a_wrong_scenario(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text("[traffic]\nquestion = 500\n")

    assert main(["--scenario", str(file)]) == 2
    assert "traffic.question is not known" in capsys.readouterr().err


def test_sources_table() -> None:
    """The baseline is fitted; 40 % hits can't bring its p95 to 1.9 s, a model 3.5 times as fast brings it to 1.1 s."""
    table = SourceTable()
    verdicts = {row.claim.name: row.verdict for row in table.rows}

    assert table.rows[0].alone_s == pytest.approx(3.2, rel=0.001)
    assert verdicts["semantic cache, 40 % hits"] == "no"
    assert verdicts["fast model"] == "yes, alone"
    assert verdicts["streaming, TTFT"].startswith("as a median")
    assert table.sigma_needed()[0] > 4 * table.sigma_here()


def test_p95_of_a_mixture() -> None:
    """With 40 % of hits the p95 of all is that quantile of the misses: what the table's arithmetic rests on."""
    misses_s = np.random.default_rng(1).lognormal(0.0, 0.5, 60_000)
    everything_s = np.concatenate([np.zeros(40_000), misses_s])

    expected_s = np.quantile(misses_s, quantile_of_misses(0.95, 0.4))
    assert np.quantile(everything_s, 0.95) == pytest.approx(expected_s, rel=0.01)


def test_validation_trace_through_the_model() -> None:
    """What the stack is compared with: every request answered, its times at least those that are known."""
    trace = validation_trace(seed=1)
    outcome = through_model(trace, {}, seed=1)

    assert outcome.share(REFUSED, BROKEN) == 0
    assert 0.2 < outcome.share(*HITS) < 0.6
    edge_ttfts_s = outcome.ttft_s[outcome.tier == EDGE]
    cloud_ttfts_s = outcome.ttft_s[outcome.tier == CLOUD]
    assert edge_ttfts_s == pytest.approx(np.full(len(edge_ttfts_s), 1.0))
    assert cloud_ttfts_s.min() == pytest.approx(2.08, abs=0.02)


def test_a_silent_region_hurts_less_with_hedging_and_breakers() -> None:
    """Twenty seconds of silence are waited for only where nothing doubles the call and nothing closes the region."""
    cloud = replace(SHORT.cloud, down_region="weur", down_for_s=10.0, down_kind="silent")
    careful = replace(SHORT, cloud=cloud).only("regions", "hedging", "breakers")
    careless = careful.without("hedging", "breakers")
    world = World(SHORT.network, ["FRA", "AMS"])  # enough calls at each that they know what is late
    trace = make_trace(careful, world, requests_per_s=40, duration_s=30, seed=1)
    waiting = [
        float(np.nanmean(Simulation(each, world, trace, requests_per_s=40, seed=1).run().ttft_s > 15))
        for each in (careful, careless)
    ]

    assert waiting[1] > 0.9
    assert waiting[0] < 0.2

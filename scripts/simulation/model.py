"""One request's way through the gateway, as a process of the model: caches, edge models, cloud.

The order and the limits are those of the Worker (docs/architecture.md). Hits are settled at once, for they wait for
nobody; what goes to a model is a simpy process.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, exp
from typing import Final

import numpy as np
import simpy

from edge_router.memory_cache import MemoryCache
from edge_router.settings import read_settings
from scripts.simulation.cloud import Call, CloudCalls, Isolate, Job
from scripts.simulation.outcome import (
    BROKEN,
    CLOUD,
    COLLAPSED,
    EDGE,
    KV,
    MEMORY,
    REFUSED,
    SEMANTIC,
    STALE,
    Capacity,
    Outcome,
    Tally,
)
from scripts.simulation.scenario import Scenario
from scripts.simulation.slots import Slots, Steps
from scripts.simulation.stores import Aged, Kv
from scripts.simulation.trace import NEVER_AGAIN, Trace, rates
from scripts.simulation.world import CONTINENTS, Floats, World

CLAIM_S: Final = 60.0  # edge_router/caching/refreshes.py: one caller refreshes a stale answer
HOLD_S: Final = read_settings({}).cascade_hold_s
MINUTE_S: Final = 60.0
HANDSHAKE_S: Final = 0.005  # to an object nearby, with nobody else in it


@dataclass(slots=True, eq=False)
class Flight:
    """A call that others may share. home: the colo that began it. ended_s: None while it runs."""

    home: int
    first: simpy.Event
    end: simpy.Event
    ended_s: float | None = None


class Simulation:
    """One run. requests_per_s: of the whole traffic, of which the trace is the share `slice_share`.

    region_rtts_s: colo × region, in place of the map's.
    """

    def __init__(
        self,
        scenario: Scenario,
        world: World,
        trace: Trace,
        *,
        requests_per_s: float,
        slice_share: float = 1.0,
        region_rtts_s: Floats | None = None,
        capacity: Capacity | None = None,
        seed: int = 0,
    ) -> None:
        self._scenario, self._world, self._trace = scenario, world, trace
        self._rate, self._slice = requests_per_s, slice_share
        self._capacity = capacity or Capacity()
        self._random = random.Random(seed)
        self._env = env = simpy.Environment()
        self._tally = Tally()
        catalog = {model.id: model for model in scenario.models}
        self._edge_model = catalog[scenario.edge.model]
        self._fast_model = catalog[scenario.cloud.fast_model]
        self._quality_model = catalog[scenario.cloud.quality_model]
        self._colo_rtts_s = world.colo_rtts_s()
        past_per_s = 0.0 if scenario.caches.begin_empty else requests_per_s * slice_share
        of_wording, of_question = rates(scenario.traffic, past_per_s)
        caches = scenario.caches
        self._kv = Kv(caches, Aged(caches.ttl_s, of_wording, self._random))
        self._known = Aged(caches.ttl_s, of_question, self._random)
        self._claims: dict[int, float] = {}
        self._flights: dict[tuple[int, str], Flight] = {}
        self._isolates: dict[tuple[int, int], Isolate] = {}
        self._minute, self._this_minute = 0, 0
        kept = 1 - scenario.edge.lost_share
        self._edge = {code: self._edge_slots(self._capacity.of_edge(code) * kept) for code in CONTINENTS}
        self._cloud = CloudCalls(
            env,
            scenario,
            world.locations,
            world.region_rtts_s(scenario.regions) if region_rtts_s is None else region_rtts_s,
            self._capacity,
            self._tally,
            self._random,
        )
        self._tier = np.full(len(trace), REFUSED)
        self._ttft_s = np.full(len(trace), np.nan)
        self._total_s = np.full(len(trace), np.nan)

    def run(self, progress: Callable[[int], None] = lambda _: None) -> Outcome:
        """progress: told how many requests have arrived, now and then."""
        env, scenario = self._env, self._scenario
        env.process(self._arrivals(progress))
        env.process(self._start_measuring())
        env.run()
        measured = np.flatnonzero(self._trace.at_s >= scenario.warm_up_s)
        return Outcome(
            self._trace,
            measured,
            self._tier[measured],
            self._ttft_s[measured],
            self._total_s[measured],
            self._tally,
            {code: value for code, slots in self._edge.items() if (value := self._busy[f"edge {code}"])},
            {name: self._busy[name] for name in self._cloud.slots},
            self._capacity,
            self._slice,
        )

    def _arrivals(self, progress: Callable[[int], None]) -> Steps:
        env = self._env
        for index, at_s in enumerate(self._trace.at_s.tolist()):
            if at_s > env.now:
                yield env.timeout(at_s - env.now)
            self._arrive(index)
            if index % 2000 == 0:
                progress(index)
        self._note_busy()  # the queues empty after the last arrival, which is no steady state
        progress(len(self._trace))

    def _start_measuring(self) -> Steps:
        yield self._env.timeout(self._scenario.warm_up_s)
        for slots in (*self._edge.values(), *self._cloud.slots.values()):
            slots.measure()

    def _note_busy(self) -> None:
        self._busy = {f"edge {code}": slots.erlangs() for code, slots in self._edge.items()}
        self._busy |= {name: slots.erlangs() for name, slots in self._cloud.slots.items()}

    # The caches

    def _arrive(self, index: int) -> None:
        scenario, now_s = self._scenario, self._env.now
        job, delay_s = self._job(index)
        if job.is_measured:
            self._tally.platform_usd += scenario.prices.request
        if "exact" in scenario.strategies:
            hit, look_up_s = self._look_up(job)
            delay_s += look_up_s
            if hit is not None:
                self._hit(job, hit, delay_s + scenario.isolates.hit_cpu_s)
                return
        if "semantic" in scenario.strategies:
            is_hit, look_up_s = self._look_up_meaning(job)
            delay_s += look_up_s
            if is_hit:
                self._store(job, now_s)  # under its own wording, so that the exact cache finds it next time
                self._hit(job, SEMANTIC, delay_s + scenario.isolates.miss_cpu_s)
                return
        self._env.process(self._ask(job, delay_s + scenario.isolates.miss_cpu_s))

    def _job(self, index: int) -> tuple[Job, float]:
        """The request, and what a cold start costs it."""
        trace, isolates = self._trace, self._scenario.isolates
        colo, key = int(trace.colo[index]), int(trace.wording[index])
        here_per_s = self._rate * float(self._world.traffic_share[colo])
        count = max(1, ceil(here_per_s / isolates.requests_per_s))
        number = self._random.randrange(count)
        delay_s = 0.0
        if self._random.random() < exp(-here_per_s / count * isolates.idle_s):
            delay_s = isolates.cold_start_s
            self._isolates.pop((colo, number), None)
        is_shared = key != NEVER_AGAIN
        job = Job(
            index,
            colo,
            self._isolate(colo, number, count),
            key if is_shared else -2 - index,
            int(trace.question[index]),
            is_shared,
            float(trace.level[index]),
            int(trace.input_tokens[index]),
            int(trace.output_tokens[index]),
            bool(trace.at_s[index] >= self._scenario.warm_up_s),
        )
        return job, delay_s

    def _isolate(self, colo: int, number: int, count: int) -> Isolate:
        """In a slice every isolate has its memory, of which the other tenants fill their part. Of fleets there are as
        many as the slice's traffic would have isolates: each learns of the regions from as many calls as in the whole,
        but at a location with few requests from fewer.
        """
        isolate = self._isolates.get((colo, number))
        if isolate is None:
            config = self._scenario.isolates
            size = int(config.memory_bytes * self._slice)
            memory: MemoryCache[float] = MemoryCache(max_bytes=size, max_age_s=config.memory_age_s)
            first = number % max(1, round(count * self._slice))
            shared = self._isolates.get((colo, first))
            fleet = self._cloud.new_fleet() if shared is None else shared.fleet
            isolate = self._isolates[colo, number] = Isolate(memory, fleet)
        return isolate

    def _look_up(self, job: Job) -> tuple[int | None, float]:
        """The tier that has it, or None; and how long the look-up takes."""
        caches, now_s = self._scenario.caches, self._env.now
        stored_at_s = job.isolate.memory.get(str(job.key), now_s)
        tier, took_s = MEMORY, 0.0
        if stored_at_s is None:
            stored_at_s, is_hot = self._kv.read(job.colo, job.key, now_s)
            took_s = self._drawn(caches.kv_hot_s if is_hot else caches.kv_cold_s, caches.kv_sigma)
            tier = KV
            self._pay(job, self._scenario.prices.kv_read)
            if took_s > caches.kv_timeout_s:
                return None, caches.kv_timeout_s
        age_s = now_s - stored_at_s
        if age_s >= caches.ttl_s + caches.swr_s:
            return None, took_s
        if tier == KV:
            job.isolate.memory.put(str(job.key), stored_at_s, self._scenario.isolates.entry_bytes, now_s)
        if age_s < caches.ttl_s:
            return tier, took_s
        if self._claims.get(job.key, 0.0) <= now_s:
            self._claims[job.key] = now_s + CLAIM_S
            self._tally.refreshed += job.is_measured
            self._env.process(self._ask(replace(job, index=-1), took_s))
        return STALE, took_s

    def _look_up_meaning(self, job: Job) -> tuple[bool, float]:
        caches, now_s = self._scenario.caches, self._env.now
        self._pay(job, self._scenario.prices.semantic)
        took_s = min(self._drawn(caches.semantic_s, caches.kv_sigma), caches.semantic_timeout_s)
        if not job.is_shared or took_s >= caches.semantic_timeout_s:
            return False, took_s
        age_s = now_s - self._known.stored_at_s(job.question)
        is_known = caches.vector_visible_s <= age_s < caches.ttl_s
        return is_known and self._random.random() < caches.semantic_recall, took_s

    def _store(self, job: Job, now_s: float) -> None:
        if "exact" in self._scenario.strategies:
            job.isolate.memory.put(str(job.key), now_s, self._scenario.isolates.entry_bytes, now_s)
            self._kv.write(job.colo, job.key, now_s)
            self._pay(job, self._scenario.prices.kv_write)
        if job.is_shared:
            self._known.store(job.question, now_s)

    # The models

    def _ask(self, job: Job, delay_s: float) -> Steps:
        began_s = self._env.now
        yield self._env.timeout(delay_s)
        self._pay(job, self._scenario.isolates.miss_cpu_s * self._scenario.prices.cpu_s)
        is_edge, is_verified = self._side(job)
        if is_edge and (yield from self._ask_edge(job, began_s, is_verified=is_verified)):
            return
        if self._is_joinable(job):
            yield from self._fly(job, began_s)
        else:
            yield from self._ask_cloud(job, began_s, None)

    def _side(self, job: Job) -> tuple[bool, bool]:
        """Whether the edge answers first, and whether its answer is verified."""
        edge, strategies = self._scenario.edge, self._scenario.strategies
        if "edge" not in strategies:
            return False, False
        if "cascade" not in strategies:
            return job.level < edge.share, False
        lower = edge.share - edge.cascade_share / 2
        return job.level < lower + edge.cascade_share, job.level >= lower

    def _ask_edge(self, job: Job, began_s: float, *, is_verified: bool) -> Steps:
        """Whether it answered."""
        env, edge, model = self._env, self._scenario.edge, self._edge_model
        slots = self._edge[self._world.continents[job.colo]]
        yield env.timeout(self._drawn(edge.gpu_rtt_s, edge.ttft_sigma))
        ticket = slots.enter() if self._is_allowed() else None
        if ticket is None:
            self._tally.capacity_errors += job.is_measured
            return False
        yield ticket
        try:
            yield env.timeout(self._drawn(model.declared_ttft_ms / 1000, edge.ttft_sigma))
            tokens_per_s, left = model.declared_tokens_per_s, job.output_tokens
            if is_verified:
                seen = min(edge.hold_tokens, left, int(HOLD_S * tokens_per_s))
                yield env.timeout(seen / tokens_per_s)
                left -= seen
                if self._random.random() < edge.escalated_share:
                    self._pay_model(job, model.cost_usd(job.input_tokens, seen))
                    self._tally.escalated += job.is_measured
                    return False
            self._first(job, began_s)
            yield env.timeout(left / tokens_per_s)
            self._pay_model(job, model.cost_usd(job.input_tokens, job.output_tokens))
        finally:
            slots.leave(ticket)
        self._answered(job, began_s, EDGE)
        return True

    def _is_joinable(self, job: Job) -> bool:
        return "flight" in self._scenario.strategies and "exact" in self._scenario.strategies and job.is_shared

    def _fly(self, job: Job, began_s: float) -> Steps:
        """Joins the call that runs for the same question on the same continent, or begins one."""
        env, caches = self._env, self._scenario.caches
        name = (job.key, self._world.continents[job.colo])
        flight = self._flights.get(name)
        if flight is not None and (flight.ended_s is None or env.now - flight.ended_s < caches.flight_kept_s):
            way_s = HANDSHAKE_S + float(self._colo_rtts_s[job.colo, flight.home])
            way_s *= self._random.lognormvariate(0.0, caches.flight_sigma)
            yield env.timeout(min(way_s, caches.flight_wait_s))
            if way_s <= caches.flight_wait_s and (yield from self._share(job, began_s, flight)):
                return
            yield from self._ask_cloud(job, began_s, None)
            return
        flight = self._flights[name] = Flight(job.colo, env.event(), env.event())
        yield env.timeout(HANDSHAKE_S)
        yield from self._ask_cloud(job, began_s, flight)
        flight.ended_s = env.now
        if not flight.end.value and self._flights.get(name) is flight:
            del self._flights[name]

    def _share(self, job: Job, began_s: float, flight: Flight) -> Steps:
        """Whether there was a call to share."""
        if not flight.first.triggered:
            yield flight.first
        if not flight.first.value:
            return False
        self._pay(job, self._scenario.prices.flight)
        self._first(job, began_s)
        if not flight.end.triggered:
            yield flight.end
        if flight.end.value:
            self._note_end(job, began_s, COLLAPSED)
        else:
            self._note_end(job, began_s, BROKEN)
        return True

    def _ask_cloud(self, job: Job, began_s: float, flight: Flight | None) -> Steps:
        """flight: told what becomes of the call."""
        is_hard = job.level >= 1 - self._scenario.cloud.quality_share
        model = self._quality_model if is_hard or "tiers" not in self._scenario.strategies else self._fast_model
        if flight is not None:
            self._pay(job, self._scenario.prices.flight)
        call: Call | None = yield from self._cloud.call(job, model)
        if flight is not None:
            flight.first.succeed(call is not None)
        is_whole = False
        if call is not None:
            self._first(job, began_s)
            is_whole = yield call.end
        if flight is not None:
            flight.end.succeed(is_whole)
        if is_whole:
            self._answered(job, began_s, CLOUD)
        elif call is not None:
            self._note_end(job, began_s, BROKEN)

    # What is noted

    def _edge_slots(self, count: float) -> Slots:
        return Slots(self._env, count, self._scenario.edge.queue_per_slot * count)

    def _is_allowed(self) -> bool:
        """Within the account's requests a minute."""
        limit = self._scenario.edge.requests_per_minute * self._slice
        if not limit:
            return True
        minute = int(self._env.now / MINUTE_S)
        self._this_minute = self._this_minute + 1 if minute == self._minute else 1
        self._minute = minute
        return self._this_minute <= limit

    def _drawn(self, median: float, sigma: float) -> float:
        return median * self._random.lognormvariate(0.0, sigma) if median else 0.0

    def _pay(self, job: Job, usd: float) -> None:
        self._tally.platform_usd += usd * job.is_measured

    def _pay_model(self, job: Job, usd: float) -> None:
        self._tally.model_usd += usd * job.is_measured

    def _hit(self, job: Job, tier: int, took_s: float) -> None:
        self._pay(job, self._scenario.isolates.hit_cpu_s * self._scenario.prices.cpu_s)
        network_s = float(self._trace.network_s[job.index])
        self._tier[job.index] = tier
        self._ttft_s[job.index] = self._total_s[job.index] = network_s + took_s

    def _first(self, job: Job, began_s: float) -> None:
        if job.index >= 0:
            self._ttft_s[job.index] = float(self._trace.network_s[job.index]) + self._env.now - began_s

    def _answered(self, job: Job, began_s: float, tier: int) -> None:
        self._note_end(job, began_s, tier)
        self._store(job, self._env.now)

    def _note_end(self, job: Job, began_s: float, tier: int) -> None:
        if job.index < 0:
            return
        self._tier[job.index] = tier
        if tier == BROKEN:
            self._ttft_s[job.index] = np.nan
        else:
            self._total_s[job.index] = float(self._trace.network_s[job.index]) + self._env.now - began_s

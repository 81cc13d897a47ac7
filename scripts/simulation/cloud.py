"""Calls to the cloud's regions: nearest first, failed over, hedged, each region with its slots.

The deciding is `edge_router.fleet`'s own: one Fleet an isolate, on the model's clock.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import simpy

from edge_router.catalog import Model
from edge_router.fleet import Fleet
from edge_router.latency import LatencyTable
from edge_router.location import Location
from edge_router.memory_cache import MemoryCache
from edge_router.settings import Region
from scripts.simulation.outcome import Capacity, Tally
from scripts.simulation.scenario import Scenario
from scripts.simulation.slots import Slots, Steps
from scripts.simulation.world import Floats

CUT: Final = "cut"  # why a call is interrupted: its region went down; else because nobody waits for it


class SimulatedClock:
    """The model's time, as edge_router's `Clock`."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env

    def now_s(self) -> float:
        return float(self._env.now)

    def elapsed_ms(self) -> float:
        return float(self._env.now) * 1000

    def after(self, delay_s: float, callback: Callable[[], None]) -> Callable[[], None]:
        raise NotImplementedError("the model waits by simpy's events")


@dataclass(slots=True)
class Isolate:
    """memory: when the answers it holds were stored."""

    memory: MemoryCache[float]
    fleet: Fleet


@dataclass(slots=True)
class Job:
    """One request on its way. is_measured: false for what runs behind an answer."""

    index: int
    colo: int
    isolate: Isolate
    key: int
    question: int
    is_shared: bool  # whether others ask the same
    level: float
    input_tokens: int
    output_tokens: int
    is_measured: bool = True


@dataclass(slots=True, eq=False)
class Call:
    """first, end: succeed with whether the first token, and the whole answer, came."""

    region: Region
    first: simpy.Event
    end: simpy.Event
    is_hedge: bool
    began_s: float
    process: simpy.Process | None = field(default=None)


class CloudCalls:
    """rtts_s: colo × region. starts_s: when the measured window begins."""

    def __init__(
        self,
        env: simpy.Environment,
        scenario: Scenario,
        locations: Sequence[Location],
        rtts_s: Floats,
        capacity: Capacity,
        tally: Tally,
        random_: random.Random,
    ) -> None:
        self._env = env
        self._scenario = scenario
        self._cloud = scenario.cloud
        self._locations = locations
        self._rtts_s = rtts_s
        self._tally = tally
        self._random = random_
        self._column = {region.id: column for column, region in enumerate(scenario.regions)}
        single = [region for region in scenario.regions if region.id == self._cloud.single_region]
        self.regions = list(scenario.regions) if "regions" in scenario.strategies else single
        self.slots = {
            region.id: Slots(
                env, capacity.of_cloud(region.id), self._cloud.queue_per_slot * capacity.of_cloud(region.id)
            )
            for region in self.regions
        }
        self._running: dict[str, dict[Call, None]] = {region.id: {} for region in self.regions}
        if self._cloud.down_region:
            env.process(self._go_down())

    def new_fleet(self) -> Fleet:
        breaks = "breakers" in self._scenario.strategies
        return Fleet(self.regions, LatencyTable(), SimulatedClock(self._env), breaks=breaks)

    def call(self, job: Job, model: Model) -> Steps:
        """The call that brings the first token, whose end is still to come; None when no region answers."""
        location, fleet, tried = self._locations[job.colo], job.isolate.fleet, list[Region]()
        while len(tried) < self._cloud.max_attempts:
            region = fleet.choose(self._left(tried), location, str(job.key), at_any_cost=True)
            if region is None:
                return None
            tried.append(region)
            racing = [self._start(job, model, region, is_hedge=False)]
            if "hedging" in self._scenario.strategies:
                yield from self._hedge(job, model, racing, tried)
            winner = yield from self._first_of(racing)
            if winner is not None:
                return winner
        return None

    def cancel(self, call: Call) -> None:
        if call.process is not None and call.process.is_alive:
            call.process.interrupt()

    def _left(self, tried: Sequence[Region]) -> list[Region]:
        return [region for region in self.regions if region not in tried]

    def _hedge(self, job: Job, model: Model, racing: list[Call], tried: list[Region]) -> Steps:
        """As edge_router's upstreams do: doubled once when late, from the budget's last part once very late."""
        fleet, location, first = job.isolate.fleet, self._locations[job.colo], racing[0]
        late_s = fleet.late_after_s(location, "ttft", _label(model, first.region))
        is_very_late = False
        while late_s is not None:
            yield first.first | self._env.timeout(late_s)
            if first.first.triggered:
                return
            other = fleet.choose(self._left(tried), location, str(job.key), at_any_cost=False)
            if other is None:
                return
            if fleet.may_hedge(first.region, is_very_late=is_very_late):
                tried.append(other)
                self._tally.hedges += job.is_measured
                racing.append(self._start(job, model, other, is_hedge=True))
                return
            is_very_late = True

    def _first_of(self, racing: list[Call]) -> Steps:
        """The first call that brings a token; the others are cancelled. None when all failed."""
        while racing:
            ended = next((call for call in racing if call.first.triggered), None)
            if ended is None:
                yield simpy.AnyOf(self._env, [call.first for call in racing])
                continue
            racing.remove(ended)
            if ended.first.value:
                for loser in racing:
                    self.cancel(loser)
                return ended
        return None

    def _start(self, job: Job, model: Model, region: Region, *, is_hedge: bool) -> Call:
        call = Call(region, self._env.event(), self._env.event(), is_hedge, self._env.now)
        call.process = self._env.process(self._run(call, job, model))
        if job.is_measured:
            self._tally.calls[region.id] += 1
            self._tally.call_log.append((self._env.now, region.id))
            self._tally.model_usd += model.cost_usd(job.input_tokens, 0)
        return call

    def _run(self, call: Call, job: Job, model: Model) -> Steps:
        fleet, slots = job.isolate.fleet, self.slots[call.region.id]
        passage = fleet.enter(call.region, is_hedge=call.is_hedge)
        rtt_s = float(self._rtts_s[job.colo, self._column[call.region.id]])
        rtt_s *= self._random.lognormvariate(0.0, self._scenario.network.backbone_sigma)
        self._running[call.region.id][call] = None
        ticket = None
        outcome: Any = "left"
        try:
            if self._is_down(call.region):
                outcome = "silent" if self._cloud.down_kind == "silent" else "failed"
                yield self._env.timeout(self._cloud.silent_s if outcome == "silent" else rtt_s)
                call.first.succeed(False)
                return
            yield self._env.timeout(rtt_s)
            outcome = "answered"
            ticket = slots.enter()
            if ticket is None:
                call.first.succeed(False)
                return
            yield ticket
            yield self._env.timeout(self._ttft_s(model))
            location = self._locations[job.colo]
            fleet.note_rtt(location, call.region, rtt_s * 1000)
            fleet.note_time(location, "ttft", _label(model, call.region), (self._env.now - call.began_s) * 1000)
            fleet.settle(call.region, passage, "answered")
            outcome = None
            call.first.succeed(True)
            yield self._env.timeout(job.output_tokens / model.declared_tokens_per_s)
            if job.is_measured:
                self._tally.model_usd += model.cost_usd(0, job.output_tokens)
            call.end.succeed(True)
        except simpy.Interrupt as interrupt:
            outcome = self._interrupted(call, job, model, outcome, was_cut=interrupt.cause == CUT)
        finally:
            del self._running[call.region.id][call]
            if ticket is not None:
                slots.leave(ticket)
            if outcome is not None:
                fleet.settle(call.region, passage, outcome)

    def _interrupted(self, call: Call, job: Job, model: Model, outcome: Any, *, was_cut: bool) -> Any:
        """What it says about the region; None when that was told before."""
        if was_cut:
            (call.end if call.first.triggered else call.first).succeed(False)
            return None if outcome is None else "failed"
        if not call.is_hedge:  # beaten by its hedge: it would have taken this long at least
            took_ms = (self._env.now - call.began_s) * 1000
            job.isolate.fleet.note_time(self._locations[job.colo], "ttft", _label(model, call.region), took_ms)
            return None if outcome is None else "silent"
        return None if outcome is None else "left"

    def _ttft_s(self, model: Model) -> float:
        slow_s = self._cloud.slow_s if self._random.random() < self._cloud.slow_share else 0.0
        return slow_s + model.declared_ttft_ms / 1000 * self._random.lognormvariate(0.0, self._cloud.ttft_sigma)

    def _is_down(self, region: Region) -> bool:
        since_s = self._env.now - self._scenario.warm_up_s - self._cloud.down_from_s
        return region.id == self._cloud.down_region and 0 <= since_s < self._cloud.down_for_s

    def _go_down(self) -> Steps:
        """What a region was answering is cut off when it goes down."""
        yield self._env.timeout(self._scenario.warm_up_s + self._cloud.down_from_s)
        for call in list(self._running.get(self._cloud.down_region, ())):
            if call.process is not None and call.process.is_alive:
                call.process.interrupt(CUT)


def _label(model: Model, region: Region) -> str:
    return f"{model.id}@{region.id}"

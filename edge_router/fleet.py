"""The cloud regions as one isolate knows them: how far each is, whether it answers, and when a call to it is late."""

from collections.abc import Iterable, Sequence
from typing import Literal

from .breaker import Breaker, Passage, State
from .hedging import HedgeBudget, hedge_after_s
from .latency import NOWHERE, Kind, LatencyTable
from .location import Location
from .memory_cache import MemoryCache
from .ports import Clock
from .regions import nearest_first, rtt_on_map_ms
from .settings import Region

# Of one call: the region answered, whatever it said; it is at fault; it said nothing in time; the caller left.
Outcome = Literal["answered", "failed", "silent", "left"]
RTT_SAMPLES = 5  # the lowest of so many: a busy moment must not make a near region far
MAX_WAYS = 4096  # questions of the last minute of which it is known where they went


class Fleet:
    """Scope: isolate. `hedges`: how many were sent, of `calls` calls. breaks: whether failures open a breaker."""

    def __init__(
        self, regions: Sequence[Region], latencies: LatencyTable, clock: Clock, *, breaks: bool = True
    ) -> None:
        self.regions = tuple(regions)
        self._breaks = breaks
        self._latencies = latencies
        self._clock = clock
        self._breakers = {region.id: Breaker() for region in regions}
        self._budget = HedgeBudget()
        self._ways: MemoryCache[Region] = MemoryCache(max_bytes=MAX_WAYS)  # each counts as one
        self.calls = 0
        self.hedges = 0

    def choose(self, regions: Sequence[Region], location: Location, seed: str, *, at_any_cost: bool) -> Region | None:
        """The nearest of these regions that may be called now.

        seed: for a minute the same one goes where it went first, whatever is measured meanwhile: else the callers of
        one question could not share its call. at_any_cost: rather one whose breaker is open than none.
        """
        now_s = self._clock.now_s()
        way = f"{location.colo or NOWHERE} {seed}"
        before = self._ways.get(way, now_s)
        if before is not None and before in regions and self._breakers[before.id].admits(now_s):
            return before
        ordered = nearest_first(regions, location, lambda region: self.rtt_ms(location, region), seed)
        admitted = (region for region in ordered if self._breakers[region.id].admits(now_s))
        chosen = next(admitted, ordered[0] if ordered and at_any_cost else None)
        if chosen is not None and before is None and len(ordered) > 1:
            self._ways.put(way, chosen, 1, now_s)
        return chosen

    def rtt_ms(self, location: Location, region: Region) -> float | None:
        """As measured, None until then."""
        return self._latencies.lowest_ms(
            location.colo or NOWHERE, "rtt", region.id, now_s=self._clock.now_s(), latest=RTT_SAMPLES
        )

    def expected_rtt_ms(self, location: Location, region: Region) -> float:
        """As measured, or by the map."""
        known_ms = self.rtt_ms(location, region)
        return rtt_on_map_ms(location, region) if known_ms is None else known_ms

    def admits_any(self, regions: Iterable[Region]) -> bool:
        """Whether the breaker of one of these regions lets a call through."""
        now_s = self._clock.now_s()
        return any(self._breakers[region.id].admits(now_s) for region in regions)

    def note_rtt(self, location: Location, region: Region, rtt_ms: float) -> None:
        self._latencies.add(location.colo or NOWHERE, "rtt", region.id, now_s=self._clock.now_s(), ms=rtt_ms)

    def note_time(self, location: Location, kind: Kind, label: str, ms: float) -> None:
        """How long a call took until its first content (`ttft`) or its end (`total`). label: of the attempt."""
        self._latencies.add(location.colo or NOWHERE, kind, label, now_s=self._clock.now_s(), ms=ms)

    def late_after_s(self, location: Location, kind: Kind, label: str) -> float | None:
        times = self._latencies.summary(location.colo or NOWHERE, kind, label, now_s=self._clock.now_s())
        return hedge_after_s(times)

    def enter(self, region: Region, *, is_hedge: bool) -> Passage:
        """Notes a call that goes now; it is to be settled once."""
        if is_hedge:
            self.hedges += 1
        else:
            self.calls += 1
            self._budget.earn()
        return self._breakers[region.id].enter(self._clock.now_s())

    def settle(self, region: Region, passage: Passage, outcome: Outcome) -> None:
        breaker, now_s = self._breakers[region.id], self._clock.now_s()
        if not self._breaks:
            breaker.left(passage)
        elif outcome == "answered":
            breaker.succeeded(passage, now_s)
        elif outcome == "failed":
            breaker.failed(passage, now_s)
        elif outcome == "silent":
            breaker.stayed_silent(passage, now_s)
        else:
            breaker.left(passage)

    def may_hedge(self, region: Region, *, is_very_late: bool) -> bool:
        """Whether a late call to this region may be doubled. What waits for a region that is known to fail is not late
        but lost, and costs nothing of the budget.
        """
        return self._breakers[region.id].state(self._clock.now_s()) != "closed" or self._budget.spend(
            is_very_late=is_very_late
        )

    def states(self) -> dict[str, State]:
        now_s = self._clock.now_s()
        return {region_id: breaker.state(now_s) for region_id, breaker in self._breakers.items()}

    def failing(self) -> list[str]:
        """Ids of the regions that calls avoid."""
        return sorted(region_id for region_id, state in self.states().items() if state != "closed")

    def suspect(self, region_ids: Iterable[str]) -> None:
        """What another isolate found failing."""
        for region_id in region_ids if self._breaks else ():
            if region_id in self._breakers:
                self._breakers[region_id].suspect(self._clock.now_s())

"""What goes on behind the calls: isolates at one place tell each other which regions fail, and round trips to regions
that nobody calls are measured. Nobody waits for either.
"""

import json
from typing import Final

from . import cloud_api
from .errors import CloudUnavailable, StoreError
from .fleet import Fleet
from .location import Location
from .ports import Background, Clock, CloudRegions, Log, Store
from .timers import Deadline

EXCHANGE_EVERY_S: Final = 10.0
HINT_S: Final = 60.0  # for so long a region counts as suspect that another isolate found failing
MEASURE_EVERY_S: Final = 300.0
PROBE_S: Final = 2.0  # a region that hangs keeps no other from being measured
MAX_PLACES: Final = 64  # an isolate lies at one; only emulated geography has more


class RegionWatch:
    """Scope: isolate. store: a minute behind, so what it says is a hint and never closes a region by itself."""

    def __init__(self, fleet: Fleet, cloud: CloudRegions, store: Store, clock: Clock, log: Log) -> None:
        self._fleet = fleet
        self._cloud = cloud
        self._store = store
        self._clock = clock
        self._log = log
        self._exchanged_at_s: dict[str, float] = {}
        self._measured_at_s: dict[str, float] = {}
        self._last_written: dict[str, list[str]] = {}

    def look_later(self, location: Location, background: Background) -> None:
        """To be called with each cloud call; returns at once."""
        if len(self._fleet.regions) < 2 or not location.colo:
            return
        if self._is_due(self._exchanged_at_s, location.colo, EXCHANGE_EVERY_S):
            background.run(self._exchange(location.colo))
        if self._is_due(self._measured_at_s, location.colo, MEASURE_EVERY_S):
            background.run(self._measure(location))

    async def _exchange(self, colo: str) -> None:
        key = f"regions:{colo}"
        try:
            self._fleet.suspect(_failing(await self._store.get(key), self._clock.now_s()))
            failing = self._fleet.failing()
            if failing or failing != self._last_written.get(colo, []):
                self._last_written[colo] = failing
                hint = json.dumps({"at_s": round(self._clock.now_s()), "failing": failing})
                await self._store.put(key, hint, ttl_s=int(HINT_S))
        except StoreError as exc:
            self._log.event("region_hints_failed", reason=exc.message)

    async def _measure(self, location: Location) -> None:
        """Regions without a round trip of their own. The first call pays for the connection, the second one counts."""
        for region in self._fleet.regions:
            if self._fleet.rtt_ms(location, region) is not None:
                continue
            try:
                for is_counted in (False, True):
                    started_ms = self._clock.elapsed_ms()
                    async with Deadline(self._clock, PROBE_S):
                        response = await self._cloud.probe(region)
                    rtt_ms = self._clock.elapsed_ms() - started_ms - (cloud_api.own_ms(response) or 0.0)
                    await response.cancel()
                    if is_counted and response.status == 200:
                        self._fleet.note_rtt(location, region, max(0.0, rtt_ms))
            except (CloudUnavailable, TimeoutError):
                continue

    def _is_due(self, last_s: dict[str, float], colo: str, every_s: float) -> bool:
        now_s = self._clock.now_s()
        if now_s - last_s.get(colo, float("-inf")) < every_s:
            return False
        if len(last_s) >= MAX_PLACES:
            last_s.clear()
        last_s[colo] = now_s
        return True


def _failing(hint: str | None, now_s: float) -> list[str]:
    """Ids of the regions in a hint that is not too old; none in one that can't be read."""
    try:
        facts = json.loads(hint or "{}")
        if abs(now_s - facts["at_s"]) < HINT_S:
            return [region_id for region_id in facts["failing"] if isinstance(region_id, str)]
    except (ValueError, KeyError, TypeError):
        pass
    return []

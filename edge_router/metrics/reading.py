"""What all locations saw, merged; a location that does not answer in time is named as missing, not waited for."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from ..colos import coordinates_of
from ..errors import GatewayError, StoreError
from ..ports import Clock, MetricsStore
from ..settings import Region
from . import prometheus, telling
from .cells import MAX_MODELS, NONE, OTHER, Cell
from .shard import View
from .windows import Grouping, Window

CONCURRENT_READS: Final = 16
MAX_GROUPS: Final = {"model": MAX_MODELS}

_Seen = TypeVar("_Seen")


@dataclass(frozen=True, slots=True)
class Seen:
    """By location. missing: those that did not answer."""

    views: Mapping[str, View]
    missing: Sequence[str]


class MetricsReader:
    """Scope: isolate; holds no state of a request."""

    def __init__(self, store: MetricsStore, regions: Sequence[Region], clock: Clock) -> None:
        self._store = store
        self._regions = {region.id: region for region in regions}
        self._clock = clock

    async def seen(self, window: Window, by: Grouping) -> Seen:
        """Raises GatewayError (503) when nothing is known of any location."""
        return Seen(*await self._of_all(lambda colo: self._store.view(colo, window, by)))

    async def metrics(self, window: Window, by: Grouping) -> dict[str, Any]:
        """The answer of `GET /v1/metrics`."""
        seen = await self.seen(window, by)
        groups = merged_groups(seen.views, by)
        total = Cell()
        for cell in groups.values():
            total.merge(cell)
        from_s = window.from_s(self._clock.now_s())
        return {
            "object": "metrics",
            "window": window.name,
            "window_s": window.length_s,
            "from_s": from_s,
            "to_s": from_s + window.length_s,
            "by": by,
            "colos": {"read": sorted(seen.views), "missing": sorted(seen.missing)},
            "lost": sum(view.lost for view in seen.views.values()),
            "total": telling.facts(total),
            "groups": [] if by == "none" else self._told_groups(groups, by),
            "regions": self._told_regions(seen.views),
            "series": _told_series(seen.views, window, from_s),
        }

    async def prometheus_text(self) -> str:
        """The answer of `GET /metrics`. Raises GatewayError (503)."""
        found, missing = await self._of_all(self._store.all_time)
        return prometheus.exposition(found, len(missing))

    async def _of_all(self, read: Callable[[str], Awaitable[_Seen]]) -> tuple[dict[str, _Seen], list[str]]:
        """What was read of each location, and those that failed."""
        gate = asyncio.Semaphore(CONCURRENT_READS)

        async def read_one(colo: str) -> _Seen | None:
            async with gate:
                try:
                    return await read(colo)
                except StoreError:
                    return None

        try:
            colos = await self._store.colos()
        except StoreError as exc:
            message = "The metrics can't be read right now; try again."
            raise GatewayError(message, code="metrics_unavailable", status=503, retry_after_s=1) from exc
        results = dict(zip(colos, await asyncio.gather(*map(read_one, colos)), strict=True))
        found = {colo: result for colo, result in results.items() if result is not None}
        return found, [colo for colo in colos if colo not in found]

    def _told_groups(self, groups: Mapping[str, Cell], by: Grouping) -> list[dict[str, Any]]:
        ordered = sorted(groups.items(), key=lambda group: (-group[1].counts.get("requests", 0), group[0]))
        return [{"key": key, **self._place(key, by), **telling.facts(cell)} for key, cell in ordered]

    def _told_regions(self, views: Mapping[str, View]) -> list[dict[str, Any]]:
        told = []
        for colo, view in sorted(views.items()):
            for region in sorted({*view.regions, *view.breakers} - {NONE}):
                cell = view.regions.get(region, Cell())
                facts = {
                    "colo": colo,
                    "region": region,
                    "breaker": view.breakers.get(region),
                    "requests": telling.whole(cell, "requests"),
                    "errors": telling.whole(cell, "errors"),
                    "rtt_ms": telling.spread(cell.timings.get("cloud_rtt_ms")),
                }
                told.append({**facts, **self._place(region, "region")})
        return told

    def _place(self, key: str, by: Grouping) -> dict[str, float | None]:
        """Where on the map a group lies, if it is a place."""
        if by == "colo":
            found = coordinates_of(key)
            return {"latitude": found[0] if found else None, "longitude": found[1] if found else None}
        if by == "region":
            region = self._regions.get(key)
            return {"latitude": region.latitude if region else None, "longitude": region.longitude if region else None}
        return {}


def merged_groups(views: Mapping[str, View], by: Grouping) -> dict[str, Cell]:
    """By key; without a grouping the only key is empty. Each location bounds its own models, together they may be more:
    those with the fewest requests become OTHER.
    """
    groups: dict[str, Cell] = {}
    for colo, view in views.items():
        for key, cell in view.groups.items():
            groups.setdefault(colo if by == "colo" else key, Cell()).merge(cell)
    limit = MAX_GROUPS.get(by)
    if limit is not None and len(groups) > limit:
        rare = sorted(groups.keys() - {OTHER}, key=lambda key: -groups[key].counts.get("requests", 0))[limit:]
        for key in rare:
            groups.setdefault(OTHER, Cell()).merge(groups.pop(key))
    return groups


def _told_series(views: Mapping[str, View], window: Window, from_s: int) -> list[dict[str, Any]]:
    """Without gaps."""
    points = {at_s: Cell() for at_s in range(from_s, from_s + window.length_s, window.point_s)}
    for view in views.values():
        for at_s, cell in view.points.items():
            if at_s in points:
                points[at_s].merge(cell)
    return [{"at_s": at_s, **telling.point(cell)} for at_s, cell in points.items()]

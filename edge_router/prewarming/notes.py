"""Which entries are asked for, counted in the isolate and written together, behind the answers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ..errors import StoreError
from ..flushing import FlushTimer
from ..ports import Background, Clock, HotStore, Log
from ..report import Report
from .hot import Asked

if TYPE_CHECKING:
    from ..caching.sealing import Sealer

MAX_WAITING: Final = 1_000  # entries at a time; what comes beyond it is not counted
MAX_BODY_BYTES: Final = 16 * 1024  # of a question; longer ones are seldom asked twice
FLUSH_AFTER_S: Final = 5.0


@dataclass(slots=True)
class _Waiting:
    tenant: str
    key_id: str | None
    body: Mapping[str, Any]
    hits: int
    stale_at_s: float


class HotNotes:
    """Scope: isolate."""

    def __init__(
        self,
        store: HotStore,
        clock: Clock,
        log: Log,
        *,
        flush_after_s: float = FLUSH_AFTER_S,
        sealer: "Sealer | None" = None,
    ) -> None:
        """sealer: as of the answers; None when the store may read what it keeps."""
        self._store = store
        self._sealer = sealer
        self._clock = clock
        self._log = log
        self._timer = FlushTimer(self.flush, clock, after_s=flush_after_s)
        self._waiting: dict[str, _Waiting] = {}

    def note(self, report: Report, key_id: str | None, body: Mapping[str, Any], background: Background) -> None:
        """A hit of the exact cache. body: as it was asked, header fields merged in."""
        assert report.cache_key is not None
        assert report.tenant is not None
        stale_at_s = self._clock.now_s() + (report.cache_ttl_s or 0.0)
        waiting = self._waiting.get(report.cache_key)
        if waiting is not None:
            waiting.hits += 1
            waiting.stale_at_s = stale_at_s
        elif len(self._waiting) < MAX_WAITING:
            self._waiting[report.cache_key] = _Waiting(report.tenant, key_id, body, 1, stale_at_s)
        self._timer.start(background)

    async def flush(self) -> None:
        """Writes what waits; never raises. What can't be written is lost: it is only about what is worth a refresh."""
        waiting, self._waiting = self._waiting, {}
        asked = [
            Asked(one.tenant, key, one.key_id, body, one.hits, one.stale_at_s)
            for key, one in waiting.items()
            if len(body := _plain(one.body)) <= MAX_BODY_BYTES
        ]
        if not asked:
            return
        try:
            if self._sealer is not None:
                asked = [await sealed(one, self._sealer) for one in asked]
            await self._store.note(asked)
        except StoreError as exc:
            self._log.event("hot_entries_lost", counts=len(asked), reason=exc.message)


async def sealed(asked: Asked, sealer: "Sealer") -> Asked:
    """With its question encrypted for its tenant and place. Raises StoreError."""
    return replace(asked, body=await sealer.seal(asked.body, tenant=asked.tenant, name=f"hot:{asked.key}"))


async def opened(asked: Asked, sealer: "Sealer") -> Asked | None:
    """None for what no key here sealed. Raises StoreError."""
    body = await sealer.open(asked.body, tenant=asked.tenant, name=f"hot:{asked.key}")
    return None if body is None else replace(asked, body=body)


def _plain(body: Mapping[str, Any]) -> str:
    """One entry serves plain answers and streams, so it is asked for plain."""
    kept = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
    return json.dumps(kept, separators=(",", ":"))

"""What the cron does every five minutes: asks a model again for the hottest entries that are about to be stale."""

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from ..caching.answers import AnswerCache
from ..errors import StoreError
from ..ports import Background, Clock, HotStore, Log
from ..replies import Reply
from ..report import Report
from .hot import Asked
from .notes import opened

if TYPE_CHECKING:
    from ..caching.sealing import Sealer

EVERY_S: Final = 300.0  # as wrangler.toml has it
MAX_REFRESHES: Final = 20  # in one run
RUN_S: Final = 120.0  # nothing is begun after that: the next run may not overlap
PATH: Final = "/v1/chat/completions"

# key id, tenant, path, body, background, `Cache-Control`
Answer = Callable[[str | None, str, str, dict[str, Any], Background, str | None], Awaitable[tuple[Reply, Report]]]


class Prewarming:
    """Scope: isolate; holds no state. answer: as the key of the caller would be answered now, budget included."""

    def __init__(
        self,
        store: HotStore,
        cache: AnswerCache,
        answer: Answer,
        clock: Clock,
        log: Log,
        *,
        sealer: "Sealer | None" = None,
    ) -> None:
        """sealer: the one that the notes are sealed by."""
        self._sealer = sealer
        self._store = store
        self._cache = cache
        self._answer = answer
        self._clock = clock
        self._log = log

    async def run(self, background: Background) -> None:
        """Never raises."""
        began_ms = self._clock.elapsed_ms()
        counts = {"refreshed": 0, "fresh": 0, "gone": 0, "failed": 0}
        try:
            due = await self._store.take(self._clock.now_s() + EVERY_S, MAX_REFRESHES)
            for asked in due:
                if self._clock.elapsed_ms() - began_ms > 1000 * RUN_S:
                    break
                counts[await self._refresh(asked, background)] += 1
        except StoreError as exc:
            self._log.event("not_prewarmed", reason=exc.message)
            return
        if due:
            self._log.event("prewarmed", **counts)

    async def _refresh(self, asked: Asked, background: Background) -> str:
        """What became of it. An entry that is gone was purged, or its time is over: then nobody wants it refreshed."""
        if await self._cache.read(asked.tenant, asked.key) is None:
            return "gone"
        if self._sealer is not None:
            known = await opened(asked, self._sealer)
            if known is None:
                return "gone"
            asked = known
        # Fresh for longer than until the next run: then somebody else has refreshed it, and it is only read.
        control = f"min-fresh={EVERY_S:.0f}"
        reply, report = await self._answer(
            asked.key_id, asked.tenant, PATH, json.loads(asked.body), background, control
        )
        if reply.status != 200:
            return "failed"
        return "fresh" if report.cache == "hit" else "refreshed"

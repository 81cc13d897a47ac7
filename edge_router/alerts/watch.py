"""What the cron does once a minute: judges the metrics and tells a receiver what has changed. On no request's way."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from ..errors import DeliveryError, GatewayError, StoreError
from ..metrics.reading import MetricsReader
from ..metrics.windows import WINDOWS
from ..ports import AlertStore, Clock, Log, Receiver
from ..settings import Settings
from ..timers import Deadline, pause
from .findings import observe
from .webhook import signed_notice

ATTEMPTS: Final = 3  # in one run of the cron; a later run goes on
PAUSE_S: Final = 1.0  # after the first attempt, doubled after each further one
TIMEOUT_S: Final = 5.0
RUN_S: Final = 20.0  # no notice is begun after that: the next run may not overlap
# 4xx means that the same notice will never be taken, except for these.
_TRY_AGAIN: Final = frozenset({408, 425, 429})

Outcome = Literal["delivered", "refused", "failed"]


class AlertWatch:
    """Scope: isolate; holds no state."""

    def __init__(
        self,
        settings: Settings,
        reader: MetricsReader,
        store: AlertStore,
        receiver: Receiver,
        clock: Clock,
        log: Log,
        *,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._store = store
        self._receiver = receiver
        self._clock = clock
        self._log = log
        self._pause_s = pause_s

    async def run(self, at_s: float) -> None:
        """Never raises. at_s: for when the cron was due. Metrics that can't be read change no alert."""
        settings = self._settings
        try:
            seen = await self._reader.seen(WINDOWS["1h"], "none")
            observed = observe(seen.views, at_s)
            await self._store.step(settings.alert_rules, observed, notify=bool(settings.alert_webhook_url))
        except GatewayError as exc:
            self._log.event("alerts_not_judged", reason=exc.message)
        if settings.alert_webhook_url:
            try:
                await self._deliver()
            except StoreError as exc:
                self._log.event("notices_not_read", reason=exc.message)

    async def _deliver(self) -> None:
        """In order: what comes after a notice that could not be sent waits with it."""
        done: dict[Outcome, list[str]] = {"delivered": [], "refused": [], "failed": []}
        began_ms = self._clock.elapsed_ms()
        notices = await self._store.take()
        for notice in notices:
            if self._clock.elapsed_ms() - began_ms > 1000 * RUN_S:
                break
            outcome = await self._send(notice)
            done[outcome].append(notice["id"])
            if outcome == "failed":
                break
        if notices:
            await self._store.settle(done["delivered"], done["refused"], failed=bool(done["failed"]))

    async def _send(self, notice: Mapping[str, Any]) -> Outcome:
        for attempt in range(1, ATTEMPTS + 1):
            if attempt > 1:
                await pause(self._clock, self._pause_s * 2 ** (attempt - 2))
            try:
                status = await self._post(notice)
            except (DeliveryError, TimeoutError) as exc:
                self._log.event("notice_failed", id=notice["id"], attempt=attempt, reason=type(exc).__name__)
                continue
            if 200 <= status < 300:
                return "delivered"
            self._log.event("notice_failed", id=notice["id"], attempt=attempt, status=status)
            if 400 <= status < 500 and status not in _TRY_AGAIN:
                return "refused"
        return "failed"

    async def _post(self, notice: Mapping[str, Any]) -> int:
        body, headers = signed_notice(notice, self._settings.alert_webhook_secret, self._clock.now_s())
        async with Deadline(self._clock, TIMEOUT_S):
            return await self._receiver.post(self._settings.alert_webhook_url, body, headers)

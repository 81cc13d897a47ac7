"""Spans to a collector, by OTLP over HTTP with JSON: together, after the responses, once a second at most."""

import json
from collections.abc import Mapping
from typing import Any, Final

from ..errors import DeliveryError
from ..flushing import FLUSH_AFTER_S, FlushTimer
from ..ports import Background, Clock, Log, Receiver
from ..report import Report
from ..timers import Deadline
from .spans import RandomHex, export_request, spans_of

PATH: Final = "/v1/traces"
MAX_WAITING: Final = 2000  # spans
TIMEOUT_S: Final = 5.0

_encode = json.JSONEncoder(separators=(",", ":")).encode


class SpanExporter:
    """`Telemetry`. Scope: isolate. A batch is sent once; what is not taken is lost, counted, and told with the next."""

    def __init__(
        self,
        endpoint: str,
        headers: Mapping[str, str],
        receiver: Receiver,
        clock: Clock,
        log: Log,
        *,
        random_hex: RandomHex,
        flush_after_s: float = FLUSH_AFTER_S,
    ) -> None:
        """endpoint: without the path. headers: of the collector, as an API key."""
        self._url = endpoint.rstrip("/") + PATH
        self._headers = {**headers, "content-type": "application/json"}
        self._receiver = receiver
        self._clock = clock
        self._log = log
        self._random_hex = random_hex
        self._timer = FlushTimer(self.flush, clock, after_s=flush_after_s)
        self._waiting: list[tuple[Report, str, int]] = []
        self._lost = 0

    def record(self, report: Report, background: Background, *, tenant: str, status: int) -> None:
        if report.span is None or not report.span.context.is_sampled:
            return
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append((report, tenant, status))
        else:
            self._lost += 1
        self._timer.start(background)

    async def flush(self) -> None:
        """Sends what waits; never raises."""
        waiting, self._waiting = self._waiting, []
        lost, self._lost = self._lost, 0
        spans: list[Any] = []
        for report, tenant, status in waiting:
            assert report.span is not None
            spans += spans_of(report, report.span, tenant=tenant, status=status, random_hex=self._random_hex)
        try:
            async with Deadline(self._clock, TIMEOUT_S):
                status = await self._receiver.post(self._url, _encode(export_request(spans, lost)), self._headers)
            reason = None if 200 <= status < 300 else f"status {status}"
        except (DeliveryError, TimeoutError) as exc:
            reason = type(exc).__name__
        if reason is not None:
            self._lost += lost + len(spans)
            self._log.event("spans_lost", spans=len(spans), reason=reason)

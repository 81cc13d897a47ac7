"""Metrics over time as the cron sees them, minute by minute, on an emulated clock."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edge_router.alerts.rules import DEFAULT_RULES, Rule
from edge_router.alerts.watch import AlertWatch
from edge_router.breaker import State
from edge_router.metrics.cells import Slice
from edge_router.metrics.reading import MetricsReader
from edge_router.report import Report
from edge_router.settings import read_settings
from tests.fakes import START_S, CollectingLog, FakeAlerts, FakeClock, FakeMetrics, FakeReceiver

SECRET = b"0123456789abcdef0123456789abcdef"
URL = "https://hooks.test/nearside"
MINUTE_S = 60


@dataclass(slots=True)
class Minutes:
    """Traffic of one location, and a cron that comes at the beginning of each minute, some tenths of a second late."""

    rules: Sequence[Rule] = DEFAULT_RULES
    clock: FakeClock = field(default_factory=lambda: FakeClock(START_S // MINUTE_S * MINUTE_S + 0.3))
    receiver: FakeReceiver = field(default_factory=FakeReceiver)
    log: CollectingLog = field(default_factory=CollectingLog)
    told: bool = True
    metrics: FakeMetrics = field(init=False)
    alerts: FakeAlerts = field(init=False)

    def __post_init__(self) -> None:
        self.metrics, self.alerts = FakeMetrics(self.clock), FakeAlerts(self.clock)

    async def see(self, count: int, *, breakers: Mapping[str, State] | None = None, **facts: Any) -> None:
        """So many requests of one kind, now."""
        found = Slice(breakers=dict(breakers or {}))
        timings_ms = {"total": facts.pop("total_ms", 100.0)}
        if "ttft_ms" in facts:
            timings_ms["ttft"] = facts.pop("ttft_ms")
        for _ in range(count):
            found.note(Report("r", timings_ms=timings_ms, **facts), 200)
        await self.metrics.add(await self.metrics.enroll("CDG"), found)

    async def minute(self, count: int = 0, *, runs: bool = True, late_s: float = 0, **facts: Any) -> None:
        """One minute with these requests in its middle; then the cron, unless it does not come."""
        self.clock.advance(MINUTE_S / 2)
        if count or facts.get("breakers"):
            await self.see(count, **facts)
        self.clock.advance(MINUTE_S / 2)
        if runs:
            self.clock.advance(late_s)
            await self.run()
            self.clock.advance(-late_s)

    async def run(self) -> None:
        settings = replace(read_settings({}), alert_rules=tuple(self.rules))
        if self.told:
            settings = replace(settings, alert_webhook_url=URL, alert_webhook_secret=SECRET)
        reader = MetricsReader(self.metrics, settings.regions, self.clock)
        await AlertWatch(settings, reader, self.alerts, self.receiver, self.clock, self.log, pause_s=0.001).run(
            self.clock.now_s()
        )

    async def firing(self) -> list[str]:
        return [alert["id"] for alert in (await self.alerts.read())["active"]]

    async def pending(self) -> list[str]:
        return [alert["id"] for alert in (await self.alerts.read())["pending"]]

    async def resolved(self) -> list[str]:
        return [alert["id"] for alert in (await self.alerts.read())["resolved"]]


WHSEC = "whsec_" + base64.b64encode(SECRET).decode()

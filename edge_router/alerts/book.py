"""Alerts and the notices about them, in the SQLite of one Durable Object, so that both survive restarts.

An alert is pending while its rule is breached, firing once that lasts, resolved when it is over. Each transition to
firing or resolved makes one notice; notices wait in order until a receiver has taken them.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from ..metrics import telling
from ..sql import Sql
from .findings import Finding, Observed, findings_of
from .rules import STEP_S, Rule, Severity

KEPT_RESOLVED: Final = 50
SILENCE_S: Final = 300  # an alert of which nothing is known any more is over after that, or after its rule's for_s

# What the hit rate usually is: of the look-ups so far, each half as important after half a day as a new one.
USUAL_HALF_LIFE_S: Final = 43_200
USUAL_MIN_LOOKUPS: Final = 500
USUAL_LAG_S: Final = 1800  # what is going on now is not usual yet; no rule looks further back

MAX_NOTICES: Final = 200
NOTICE_KEPT_S: Final = 86_400
TAKEN_FOR_S: Final = 60  # by one run of the cron; a second one at the same time gets none
TAKEN_AT_ONCE: Final = 20
FIRST_PAUSE_S: Final = 60
MAX_PAUSE_S: Final = 3600

State = Literal["pending", "firing", "resolved"]


@dataclass(slots=True)
class Alert:
    """One rule and thing. since_s: when the breach began. breached_s: when it was last seen."""

    id: str
    severity: Severity
    state: State
    since_s: int
    breached_s: int
    value: float
    threshold: float
    unit: str
    key: str | None
    summary: str
    resolved_at_s: int | None = None

    def told(self) -> dict[str, Any]:
        """As `GET /v1/alerts` and the webhook tell it."""
        facts = asdict(self)
        del facts["breached_s"]
        if self.state != "resolved":
            del facts["resolved_at_s"]
        return facts


@dataclass(slots=True)
class _Outbox:
    """notices: oldest first. failures: in a row. dropped: too many, too old or refused."""

    notices: list[dict[str, Any]] = field(default_factory=list)
    failures: int = 0
    not_before_s: float = 0
    delivered: int = 0
    dropped: int = 0


@dataclass(slots=True)
class _Pages:
    """All that is kept."""

    evaluated_at_s: int | None = None
    active: list[Alert] = field(default_factory=list)
    resolved: list[Alert] = field(default_factory=list)
    usual: dict[str, float] = field(default_factory=lambda: {"hits": 0.0, "lookups": 0.0, "to_s": 0.0})
    outbox: _Outbox = field(default_factory=_Outbox)

    @classmethod
    def decoded(cls, text: str) -> "_Pages":
        data = json.loads(text)
        active, resolved = ([Alert(**alert) for alert in data[name]] for name in ("active", "resolved"))
        return cls(data["evaluated_at_s"], active, resolved, data["usual"], _Outbox(**data["outbox"]))


class AlertBook:
    """Scope: the one Durable Object of alerts."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql
        sql.exec("CREATE TABLE IF NOT EXISTS book (page INTEGER PRIMARY KEY, text TEXT NOT NULL)")
        rows = sql.exec("SELECT text FROM book WHERE page = 0")
        self._pages = _Pages.decoded(rows[0]["text"]) if rows else _Pages()

    def step(self, rules: Sequence[Rule], observed: Observed, *, notify: bool) -> None:
        """Once for each minute; an older or the same one again changes nothing. notify: whether anyone is told."""
        pages = self._pages
        if pages.evaluated_at_s is not None and observed.at_s <= pages.evaluated_at_s:
            return
        usual = self._usual_hit_rate(observed)
        before = {(alert.id, alert.key): alert for alert in pages.active}
        pages.active = []
        for rule in rules:
            findings = {finding.key: finding for finding in findings_of(rule, observed, usual)}
            for rule_id, key in list(before):
                if rule_id == rule.id:
                    findings.setdefault(key, Finding(key, None))
            for finding in findings.values():
                self._judge(rule, finding, before.pop((rule.id, finding.key), None), observed.at_s, notify)
        for alert in before.values():  # of rules that are no more
            self._close(alert, observed.at_s, notify)
        pages.evaluated_at_s = observed.at_s
        self._write()

    def read(self) -> dict[str, Any]:
        """evaluated_at_s, active and pending (critical first), resolved (latest first), notices."""
        pages, outbox = self._pages, self._pages.outbox
        ordered = sorted(pages.active, key=lambda alert: (alert.severity != "critical", alert.since_s, alert.id))
        return {
            "evaluated_at_s": pages.evaluated_at_s,
            "active": [alert.told() for alert in ordered if alert.state == "firing"],
            "pending": [alert.told() for alert in ordered if alert.state == "pending"],
            "resolved": [alert.told() for alert in pages.resolved],
            "notices": {"waiting": len(outbox.notices), "delivered": outbox.delivered, "dropped": outbox.dropped},
        }

    def take(self, now_s: float) -> Sequence[Mapping[str, Any]]:
        """Notices to send now, in order. Whoever takes them settles them."""
        outbox = self._pages.outbox
        kept = [notice for notice in outbox.notices if notice["at_s"] > now_s - NOTICE_KEPT_S]
        outbox.dropped += len(outbox.notices) - len(kept)
        outbox.notices = kept
        if not kept or now_s < outbox.not_before_s:
            return []
        outbox.not_before_s = now_s + TAKEN_FOR_S
        self._write()
        return kept[:TAKEN_AT_ONCE]

    def settle(self, delivered: Sequence[str], refused: Sequence[str], *, failed: bool, now_s: float) -> None:
        """delivered, refused: ids of notices that need not be sent again. failed: the next one could not be sent."""
        outbox = self._pages.outbox
        outbox.delivered += len(delivered)
        outbox.dropped += len(refused)
        done = {*delivered, *refused}
        outbox.notices = [notice for notice in outbox.notices if notice["id"] not in done]
        outbox.failures = outbox.failures + 1 if failed else 0
        pause_s = min(FIRST_PAUSE_S * 2 ** min(outbox.failures - 1, 10), MAX_PAUSE_S) if failed else 0
        outbox.not_before_s = now_s + pause_s - STEP_S / 2 if failed else 0  # the cron is not that exact
        self._write()

    def _judge(self, rule: Rule, finding: Finding, known: Alert | None, at_s: int, notify: bool) -> None:
        if finding.is_breached is None and known and at_s - known.breached_s < max(rule.for_s, SILENCE_S):
            self._pages.active.append(known)
            return
        if not finding.is_breached:
            if known is not None:
                self._close(known, at_s, notify)
            return
        since_s = min(known.since_s, finding.since_s) if known and finding.reaches_back else finding.since_s
        is_firing = known is not None and known.state == "firing"
        is_lasting = finding.is_enough and at_s - since_s >= rule.for_s
        alert = Alert(
            rule.id,
            rule.severity,
            "firing" if is_firing or is_lasting else "pending",
            since_s,
            at_s,
            finding.value,
            rule.threshold,
            rule.unit,
            finding.key,
            finding.summary,
        )
        self._pages.active.append(alert)
        if alert.state == "firing" and not is_firing:
            self._announce(alert, at_s, notify)

    def _close(self, alert: Alert, at_s: int, notify: bool) -> None:
        if alert.state != "firing":
            return
        alert.state, alert.resolved_at_s = "resolved", at_s
        self._pages.resolved = [alert, *self._pages.resolved][:KEPT_RESOLVED]
        self._announce(alert, at_s, notify)

    def _announce(self, alert: Alert, at_s: int, notify: bool) -> None:
        if not notify:
            return
        outbox = self._pages.outbox
        name = f"{alert.id}\n{alert.key}\n{at_s}\n{alert.state}"
        notice_id = "ntc_" + hashlib.sha256(name.encode()).hexdigest()[:24]
        outbox.notices.append({"id": notice_id, "at_s": at_s, "alert": alert.told()})
        if len(outbox.notices) > MAX_NOTICES:
            outbox.dropped += 1
            del outbox.notices[0]

    def _usual_hit_rate(self, observed: Observed) -> float | None:
        """As of some time ago; None as long as there were too few look-ups."""
        usual, to_s = self._pages.usual, observed.at_s - USUAL_LAG_S
        for begin_s in sorted(observed.minutes):
            if usual["to_s"] <= begin_s < to_s:
                facts = telling.cache_facts(observed.minutes[begin_s])
                kept = 0.5 ** ((begin_s - usual["to_s"]) / USUAL_HALF_LIFE_S)
                usual["hits"] = kept * usual["hits"] + facts["hits"]
                usual["lookups"] = kept * usual["lookups"] + facts["lookups"]
                usual["to_s"] = begin_s + STEP_S
        return usual["hits"] / usual["lookups"] if usual["lookups"] >= USUAL_MIN_LOOKUPS else None

    def _write(self) -> None:
        text = json.dumps(asdict(self._pages), separators=(",", ":"))
        self._sql.exec("INSERT OR REPLACE INTO book (page, text) VALUES (0, ?)", text)

"""What calls for an alert. The variable ALERT_RULES changes, adds and removes rules."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from math import inf
from typing import Any, Final, Literal, get_args

Severity = Literal["warning", "critical"]

UNITS: Final = {
    **{f"{timing}.{share}": "ms" for timing in ("total_ms", "ttft_ms") for share in ("p50", "p95", "p99")},
    "error_rate": "share",
    "timeout_rate": "share",
    "hit_rate": "share",
    "breakers_open": "breakers",
}
MAX_FOR_S: Final = 1800  # half of the hour that is looked back at
STEP_S: Final = 60  # minutes are judged, one by one
MAX_RULES: Final = 50
_OFF: Final = "off"
_ID: Final = re.compile(r"[a-z0-9_-]{1,48}")


class RulesError(ValueError):
    """ALERT_RULES can't be used; the message names the rule and what is wrong."""


@dataclass(frozen=True, slots=True)
class Rule:
    """metric: one of UNITS. It breaches `above` or `below`, of which one is given, for for_s without a break.

    min_samples: of requests (for a hit rate, of look-ups) within for_s; with fewer, nothing fires.
    usually_at_least: the rule holds only where the hit rate usually is so high.
    """

    id: str
    severity: Severity
    metric: str
    above: float | None = None
    below: float | None = None
    for_s: int = 300
    min_samples: int = 20
    usually_at_least: float | None = None

    @property
    def threshold(self) -> float:
        return (self.above if self.above is not None else self.below) or 0

    @property
    def unit(self) -> str:
        return UNITS[self.metric]

    def is_breached_by(self, value: float) -> bool:
        return value > self.above if self.above is not None else value < self.threshold

    def told(self) -> dict[str, Any]:
        """As `GET /v1/alerts` tells it."""
        facts = {**asdict(self), "unit": self.unit}
        return {name: value for name, value in facts.items() if value is not None}


DEFAULT_RULES: Final = (
    Rule("latency_critical", "critical", "total_ms.p95", above=5000, for_s=120),
    Rule("breaker_open", "critical", "breakers_open", above=0, for_s=0, min_samples=0),
    Rule("latency_warning", "warning", "total_ms.p95", above=2000, for_s=300),
    Rule("ttft_warning", "warning", "ttft_ms.p95", above=1000, for_s=300),
    Rule("hit_rate_low", "warning", "hit_rate", below=0.2, for_s=300, min_samples=50, usually_at_least=0.4),
    Rule("timeouts", "warning", "timeout_rate", above=0.05, for_s=120),
)


def parse_rules(given: object) -> tuple[Rule, ...]:
    """given: {id: fields to change, or "off"}; None for the default rules. Raises RulesError."""
    rules = {rule.id: rule for rule in DEFAULT_RULES}
    if given is None:
        return DEFAULT_RULES
    if not isinstance(given, Mapping):
        raise RulesError('must be an object {id: {field: value}} or {id: "off"}')
    for rule_id, change in given.items():
        if change == _OFF:
            if rules.pop(rule_id, None) is None:
                raise RulesError(f"{rule_id}: there is no such rule to turn off")
        else:
            rules[rule_id] = _changed(str(rule_id), rules.get(rule_id), change)
    if len(rules) > MAX_RULES:
        raise RulesError(f"at most {MAX_RULES} rules")
    return tuple(rules.values())


def _changed(rule_id: str, known: Rule | None, change: object) -> Rule:
    if not _ID.fullmatch(rule_id):
        raise RulesError(f"{rule_id[:48]}: an id is 1 to 48 of a-z0-9_-")
    if not isinstance(change, Mapping):
        raise RulesError(f'{rule_id}: must be an object, or "off"')
    allowed = [field.name for field in fields(Rule) if field.name != "id"]
    unknown = sorted(str(name) for name in change if name not in allowed)
    if unknown:
        raise RulesError(f"{rule_id}: unknown field {unknown[0]}; valid ones: {', '.join(allowed)}")
    needed = [field.name for field in fields(Rule) if field.default is MISSING and field.name != "id"]
    missing = [name for name in needed if known is None and name not in change]
    if missing:
        raise RulesError(f"{rule_id}: {missing[0]} is missing")
    rule = Rule(rule_id, **change) if known is None else replace(known, **change)
    _check(rule)
    return rule


def _check(rule: Rule) -> None:
    def refuse(what: str) -> None:
        raise RulesError(f"{rule.id}: {what}")

    if rule.severity not in get_args(Severity):
        refuse(f"severity must be one of {', '.join(get_args(Severity))}")
    if not isinstance(rule.metric, str) or rule.metric not in UNITS:
        refuse(f"metric must be one of {', '.join(UNITS)}")
    if (rule.above is None) == (rule.below is None):
        refuse("give either above or below")
    for name in ("above", "below", "usually_at_least"):
        value = getattr(rule, name)
        if value is not None and not (_is_number(value) and 0 <= value < inf):
            refuse(f"{name} must be a number that is not negative")
    least_s = 0 if rule.metric == "breakers_open" else STEP_S
    if not _is_whole(rule.for_s) or not least_s <= rule.for_s <= MAX_FOR_S or rule.for_s % STEP_S:
        refuse(f"for_s must be a multiple of {STEP_S} from {least_s} to {MAX_FOR_S}")
    if not _is_whole(rule.min_samples) or not 0 <= rule.min_samples <= 1_000_000:
        refuse("min_samples must be a whole number from 0 to 1000000")
    if rule.usually_at_least is not None and rule.metric != "hit_rate":
        refuse("usually_at_least is for the metric hit_rate only")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

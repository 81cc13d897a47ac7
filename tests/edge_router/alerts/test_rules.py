"""The variable ALERT_RULES: what it changes, and how what is wrong with it is named."""

import json
from typing import Any

import pytest

from edge_router.alerts.rules import DEFAULT_RULES, parse_rules
from edge_router.settings import SettingsError, read_settings


def test_none() -> None:
    """The default rules, the ones that the issue asks for."""
    told = {rule.id: rule.told() for rule in read_settings({}).alert_rules}

    assert told["latency_warning"] == {
        "id": "latency_warning",
        "severity": "warning",
        "metric": "total_ms.p95",
        "above": 2000,
        "for_s": 300,
        "min_samples": 20,
        "unit": "ms",
    }
    assert {rule_id: (rule["severity"], rule["for_s"]) for rule_id, rule in told.items()} == {
        "latency_critical": ("critical", 120),
        "breaker_open": ("critical", 0),
        "latency_warning": ("warning", 300),
        "ttft_warning": ("warning", 300),
        "hit_rate_low": ("warning", 300),
        "timeouts": ("warning", 120),
    }


@pytest.mark.parametrize("write", [lambda value: value, json.dumps], ids=["JSON values", "text"])
def test_changes(write: Any) -> None:
    """Fields of a known rule, a rule of one's own, one less."""
    mine = {"metric": "error_rate", "above": 0.01, "severity": "critical", "for_s": 60}
    given = {"latency_warning": {"above": 3000}, "timeouts": "off", "mine": mine}
    rules = {rule.id: rule for rule in read_settings({"ALERT_RULES": write(given)}).alert_rules}

    assert (rules["latency_warning"].above, rules["latency_warning"].for_s) == (3000, 300)
    assert "timeouts" not in rules
    assert (rules["mine"].metric, rules["mine"].unit, rules["mine"].min_samples) == ("error_rate", "share", 20)
    assert len(rules) == len(DEFAULT_RULES)


MINE = {"metric": "error_rate", "above": 0.01, "severity": "critical"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param([], "must be an object", id="a list"),
        pytest.param({"nothing": "off"}, "nothing: there is no such rule", id="off what is not there"),
        pytest.param({"timeouts": "maybe"}, 'timeouts: must be an object, or "off"', id="neither"),
        pytest.param({"Mine!": MINE}, "Mine!: an id is", id="id"),
        pytest.param({"mine": {**MINE, "over": 1}}, "mine: unknown field over; valid ones: severity, ", id="field"),
        pytest.param({"mine": {"severity": "warning"}}, "mine: metric is missing", id="no metric"),
        pytest.param({"mine": {**MINE, "metric": "p95"}}, "mine: metric must be one of total_ms.p50", id="metric"),
        pytest.param({"mine": {**MINE, "metric": []}}, "mine: metric must be one of", id="metric of a wrong type"),
        pytest.param({"mine": {**MINE, "severity": "page"}}, "mine: severity must be one of", id="severity"),
        pytest.param({"mine": {**MINE, "below": 1}}, "mine: give either above or below", id="both sides"),
        pytest.param({"timeouts": {"above": None}}, "timeouts: give either above or below", id="no side"),
        pytest.param({"mine": {**MINE, "above": "high"}}, "mine: above must be a number", id="text"),
        pytest.param({"mine": {**MINE, "above": float("nan")}}, "mine: above must be a number", id="not a number"),
        pytest.param(
            {"mine": {**MINE, "for_s": 90}}, "mine: for_s must be a multiple of 60 from 60 to 1800", id="90 s"
        ),
        pytest.param({"mine": {**MINE, "for_s": 0}}, "mine: for_s must be a multiple of 60 from 60", id="0 s"),
        pytest.param({"mine": {**MINE, "for_s": True}}, "mine: for_s must be a multiple", id="true seconds"),
        pytest.param({"mine": {**MINE, "min_samples": -1}}, "mine: min_samples must be a whole", id="samples"),
        pytest.param({"mine": {**MINE, "usually_at_least": 0.4}}, "mine: usually_at_least is for", id="usual errors"),
        pytest.param({f"r{number}": MINE for number in range(60)}, "at most 50 rules", id="too many"),
        pytest.param("{", "is not valid JSON", id="no JSON"),
    ],
)
def test_wrong_ones(given: Any, says: str) -> None:
    """Stop the start, with one line that names the variable, the rule, and what is valid."""
    with pytest.raises(SettingsError) as raised:
        read_settings({"ALERT_RULES": given})

    assert str(raised.value).startswith("ALERT_RULES: ")
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_parsing_what_is_told() -> None:
    """Every default rule passes its own checks."""
    same = {rule.id: {"for_s": rule.for_s} for rule in DEFAULT_RULES}

    assert parse_rules(same) == DEFAULT_RULES

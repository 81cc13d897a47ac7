"""The report: the same facts in headers and body, absent when unknown."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.location import Location
from edge_router.report import BODY_NAMES, HEADER_NAMES, Report, with_report

FULL = Report(
    "req_1",
    Location("CDG", 12.5),
    served_by="cloud",
    model="gpt-4o",
    tier="cloud-quality",
    complexity=0.81234,
    route_reason="complex",
    residency="eu",
    cloud_region="fra",
    cloud_rtt_ms=9.04,
    cache="miss",
    cache_stored=True,
    cost_usd=0.000012,
    cost_avoided_usd=0.0,
    usage_estimated=True,
    fallbacks=["edge: upstream_error"],
    timings_ms={"cache": 1.0, "cloud": 250.26},
    auth_open=True,
)


def test_headers_of_a_full_report() -> None:
    """Ours and the standards'."""
    assert FULL.headers() == {
        "x-request-id": "req_1",
        "nearside-colo": "CDG",
        "nearside-client-rtt-ms": "12.5",
        "nearside-served-by": "cloud",
        "nearside-model": "gpt-4o",
        "nearside-tier": "cloud-quality",
        "nearside-complexity": "0.812",
        "nearside-route-reason": "complex",
        "nearside-residency": "eu",
        "nearside-cloud-region": "fra",
        "nearside-cloud-rtt-ms": "9.04",
        "nearside-cost-usd": "0.000012",
        "nearside-cost-avoided-usd": "0",
        "nearside-auth": "open",
        "server-timing": "cache;dur=1.0, cloud;dur=250.3",
        "cache-status": "nearside; fwd=miss; stored",
    }


@pytest.mark.parametrize(("after_s", "told"), [(59.83899998664856, 60), (0.0, 1), (7, 7)])
def test_when_to_try_again(after_s: float, told: int) -> None:
    """Whole seconds and never too early, as Retry-After."""
    assert Report("-", retry_after_s=after_s).body()["retry_after_s"] == told


def test_body_of_a_full_report() -> None:
    """The same facts with numbers as numbers."""
    assert json.loads(FULL.body_json()) == {
        "request_id": "req_1",
        "colo": "CDG",
        "client_rtt_ms": 12.5,
        "served_by": "cloud",
        "model": "gpt-4o",
        "tier": "cloud-quality",
        "complexity": 0.812,
        "route_reason": "complex",
        "residency": "eu",
        "cloud_region": "fra",
        "cloud_rtt_ms": 9.0,
        "cost_usd": 0.000012,
        "cost_avoided_usd": 0.0,
        "usage_estimated": True,
        "fallbacks": ["edge: upstream_error"],
        "cache": {"status": "miss"},
        "timings_ms": {"cache": 1.0, "cloud": 250.3},
    }


def test_nothing_known() -> None:
    """Only the request's id: a fact that is unknown is absent, never a guess."""
    assert Report("req_1").headers() == {"x-request-id": "req_1", "cache-status": "nearside; fwd=bypass"}
    assert Report("req_1").body() == {"request_id": "req_1"}


@pytest.mark.parametrize(
    ("facts", "cache_status", "age"),
    [
        pytest.param({"cache": "miss"}, "nearside; fwd=miss", None, id="miss"),
        pytest.param({"cache": "bypass"}, "nearside; fwd=bypass", None, id="bypass"),
        pytest.param({"cache": "hit", "cache_ttl_s": 59.9, "cache_age_s": 0.9}, "nearside; hit; ttl=59", "0", id="hit"),
    ],
)
def test_cache_status(facts: dict[str, Any], cache_status: str, age: str | None) -> None:
    """As in RFC 9211, whole seconds; `Age` only where something was stored."""
    headers = Report("r", **facts).headers()

    assert headers["cache-status"] == cache_status
    assert headers.get("age") == age


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (100.0, "100"), (0.5, "0.5"), (1234.5678, "1234.568")], ids=str
)
def test_decimals(value: float, text: str) -> None:
    """Without needless zeros, and never without those that count."""
    assert Report("r", cloud_rtt_ms=value).headers()["nearside-cloud-rtt-ms"] == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('{"a":1}', '{"a":1,"nearside":{}}', id="compact"),
        pytest.param('{ "a" : 1.0 }\n', '{ "a" : 1.0 ,"nearside":{}}', id="spaces"),
        pytest.param("{}", '{"nearside":{}}', id="empty"),
        pytest.param("{ \n}", '{ \n"nearside":{}}', id="empty with white space"),
        pytest.param(" {}", '{"nearside":{}}', id="empty after white space"),
        pytest.param('\n{"a":1}\n', '{"a":1,"nearside":{}}', id="white space around it"),
        pytest.param('{"a":"}"}', '{"a":"}","nearside":{}}', id="a brace in a string"),
    ],
)
def test_report_in_a_body(text: str, expected: str) -> None:
    """Stands last; the rest stays byte for byte, but for white space around it."""
    assert with_report(text, "{}") == expected


@settings(max_examples=100)
@given(value=st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False) | st.text(max_size=5), max_size=4))
def test_report_in_any_body(value: dict[str, Any]) -> None:
    """The body is the same JSON with one key more."""
    for indent in (None, 2):
        text = json.dumps(value, indent=indent)
        assert json.loads(with_report(text, '{"x":1}')) == {**value, "nearside": {"x": 1}}
        assert with_report(text, '{"x":1}').startswith(text[:-1])


PAGE = (Path(__file__).resolve().parents[2] / "docs" / "report.md").read_text()
CORE = Path(__file__).resolve().parents[2] / "edge_router"


def cells(heading: str) -> list[list[set[str]]]:
    """What stands in backticks in each cell of the table whose first header cell is `heading`."""
    table = PAGE[PAGE.index(f"| {heading} |") :].split("\n\n")[0].splitlines()[2:]
    return [[set(re.findall(r"`([^`]+)`", cell)) for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in table]


def test_page_has_every_header() -> None:
    """docs/report.md lists exactly those that a report can write."""
    listed = {name.lower() for row in cells("header") for name in row[0]}

    assert listed == set(HEADER_NAMES)


def test_page_has_every_field_of_the_body() -> None:
    """docs/report.md lists exactly those that a report can write, of `cache` those too that no header tells."""
    listed = {name for row in cells("header") for name in row[1]}
    cache = Report("-", cache="hit", cache_failed=True, cache_key="k", semantic="hit", similarity=1.0).body()["cache"]

    assert {name for name in listed if not name.startswith("cache.")} == set(BODY_NAMES)
    assert {"cache.key", "cache.failed", "cache.semantic", "cache.similarity", "cache.age_s"} <= listed
    assert {name.removeprefix("cache.") for name in listed if name.startswith("cache.")} <= {*cache, "age_s"}


def test_page_has_every_clock() -> None:
    """docs/report.md says of exactly the parts that the code times what starts and what stops them."""
    code = "\n".join(path.read_text() for path in CORE.rglob("*.py"))
    timed = set(re.findall(r'timings_ms\["(\w+)"\] = ', code)) | {"ai", "cloud"}  # these two by a variable

    assert {name for row in cells("part") for name in row[0]} == timed


def test_cost_is_told_to_the_billionth() -> None:
    """In headers and bodies alike: sums of prices have digits that mean nothing."""
    report = Report("r", cost_usd=1.2455999999999999e-05)

    assert (report.headers()["nearside-cost-usd"], report.body()["cost_usd"]) == ("0.000012456", 1.2456e-05)

"""The typed report holds all that the gateway tells."""

from dataclasses import asdict, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.client import CacheReport, EdgeReport
from edge_router.client.report import read_report
from edge_router.location import Location
from edge_router.report import BODY_NAMES, Report

FULL = Report(
    "req_1",
    Location("CDG", 12.5),
    served_by="cloud",
    model="m",
    tier="cloud-quality",
    complexity=0.812,
    route_reason="complex",
    cloud_region="fra",
    cloud_rtt_ms=9.0,
    cache="miss",
    cache_key="ab",
    hedged=True,
    cost_usd=0.000012,
    cost_avoided_usd=0.0,
    fallbacks=["edge: upstream_error"],
    timings_ms={"cache": 1.0, "cloud": 250.3},
)


def test_fields_are_those_of_the_body() -> None:
    """A fact that the gateway adds to its report has a field here."""
    assert {field.name for field in fields(EdgeReport)} == set(BODY_NAMES)


def test_a_body_reads_back() -> None:
    """Numbers as numbers, lists as tuples, the cache's part typed."""
    read = read_report({}, FULL.body())

    told = {
        **FULL.body(),
        "fallbacks": ("edge: upstream_error",),
        "cache": asdict(CacheReport(status="miss", key="ab")),
    }
    assert {name: value for name, value in asdict(read).items() if name in told} == told


def test_headers_alone() -> None:
    """What they hold reads the same as from the body."""
    by_headers, by_body = read_report(FULL.headers(), None), read_report({}, FULL.body())

    for name in ("request_id", "colo", "client_rtt_ms", "served_by", "model", "tier", "complexity", "timings_ms"):
        assert getattr(by_headers, name) == getattr(by_body, name)
    assert by_headers.cost_usd == by_body.cost_usd == 0.000012


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(BODY_NAMES), JSON))
def test_nonsense_is_unknown(body: dict[str, object]) -> None:
    """A server that tells something else than ours makes no call fail."""
    read = read_report({"server-timing": "a;dur=x, b, ;dur="}, body)

    assert read.served_by is None or read.served_by == body["served_by"]


@pytest.mark.parametrize(
    ("served_by", "expected"), [("exact-cache", True), ("semantic-cache", True), ("cloud", False), (None, False)]
)
def test_cached(served_by: str | None, expected: bool) -> None:
    """Whether no model was asked for it."""
    assert EdgeReport(served_by=served_by).is_cached is expected

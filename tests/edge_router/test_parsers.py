"""Whatever comes in: each parser gives a value or its own error, and nothing else."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_router.alerts.rules import RulesError, parse_rules
from edge_router.batches.lines import InputCheck, LineReader
from edge_router.batches.multipart import FormReader, read_boundary
from edge_router.caching.purging import read_purge
from edge_router.catalog import CatalogError, parse_catalog
from edge_router.errors import GatewayError
from edge_router.location import read_location
from edge_router.metrics.windows import read_query
from edge_router.settings import VARIABLES, SettingsError, read_settings
from edge_router.tracing.context import read_context

any_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=12,
)
variables = st.dictionaries(st.sampled_from(VARIABLES) | st.text(max_size=8), any_json, max_size=3)
traceparents = st.text(max_size=60) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
traces = st.fixed_dictionaries({"traceparent": traceparents}, optional={"tracestate": st.text(max_size=80)})
queries = st.text(max_size=40) | st.from_regex(r"(window|by|key|tag|all|tenant)=[^&]{0,9}(&[a-z]+=.{0,9})?")
cf = st.dictionaries(st.sampled_from(["colo", "clientTcpRtt", "country", "latitude", "longitude"]), any_json)
MARK = b"--frontier"
DISPOSITION = b'content-disposition: form-data; name="file"; filename="f"'
forms = st.lists(
    st.binary(max_size=20) | st.sampled_from([MARK, b"\r\n", b"\r\n\r\n", b"--", DISPOSITION]),
    max_size=12,
)
lines = st.lists(st.binary(max_size=30) | st.sampled_from([b"\n", b"{}", b'{"custom_id": "a", "method": "POST"', b"}"]))


def _form(pieces: list[bytes]) -> None:
    reader = FormReader(b"frontier")
    for piece in (MARK, *pieces):
        list(reader.feed(piece))


def _lines(pieces: list[bytes]) -> None:
    reader, check = LineReader(), InputCheck("/v1/chat/completions")
    for found in (*(line for piece in pieces for line in reader.feed(piece)), *reader.close()):
        check.take(found)
    check.close()


@pytest.mark.parametrize(
    ("parse", "values", "error"),
    [
        pytest.param(read_settings, variables, SettingsError, id="variables"),
        pytest.param(parse_catalog, any_json, CatalogError, id="catalog"),
        pytest.param(parse_rules, any_json, RulesError, id="alert rules"),
        pytest.param(read_context, traces, GatewayError, id="trace context"),
        pytest.param(read_query, queries, GatewayError, id="query of metrics"),
        pytest.param(lambda query: read_purge({}, query), queries, GatewayError, id="query of a purge"),
        pytest.param(read_location, st.none() | cf, GatewayError, id="request.cf"),
        pytest.param(read_boundary, st.none() | st.text(max_size=60), GatewayError, id="boundary of a form"),
        pytest.param(_form, forms, GatewayError, id="form"),
        pytest.param(_lines, lines, GatewayError, id="lines of a batch"),
    ],
)
def test_any_input(parse: Callable[[Any], object], values: st.SearchStrategy[Any], error: type[Exception]) -> None:
    """Hypothesis looks for what raises anything but the declared error."""

    @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    @given(value=values)
    def parses_or_refuses(value: Any) -> None:
        with suppress(error):
            parse(value)

    parses_or_refuses()

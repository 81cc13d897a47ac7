"""What a request says about caching."""

from dataclasses import replace
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.caching.directives import Directives, read_directives
from tests.edge_router.harness import chat_body

STORE_ONLY = Directives(look_up=False, store=True)
NEITHER = Directives(look_up=False, store=False)
BOTH = Directives()
WANTED = Directives(tool_calls=True)


@pytest.mark.parametrize(
    ("fields", "cache_control", "expected"),
    [
        pytest.param({}, None, BOTH, id="nothing said"),
        pytest.param({"cache_ttl_s": 60, "cache_tags": ["a"]}, None, Directives(ttl_s=60, tags=("a",)), id="to store"),
        pytest.param({"use_cache": False}, None, NEITHER, id="use_cache false"),
        pytest.param({"use_cache": False}, "max-stale", replace(NEITHER, max_stale_s=inf), id="false, whatever else"),
        pytest.param({"use_cache": True}, None, WANTED, id="use_cache true"),
        pytest.param({"use_cache": None}, None, BOTH, id="use_cache null"),
        pytest.param({"temperature": 0}, None, BOTH, id="temperature 0"),
        pytest.param({"temperature": None}, None, BOTH, id="temperature null"),
        pytest.param({"temperature": 0.7}, None, NEITHER, id="variety asked for"),
        pytest.param({"temperature": 0.7, "use_cache": True}, None, WANTED, id="variety, but use_cache"),
        pytest.param({"tools": [{}]}, None, NEITHER, id="tools"),
        pytest.param({"tools": [{}], "use_cache": True}, None, WANTED, id="tools, but use_cache"),
        pytest.param({"tools": []}, None, BOTH, id="no tools"),
        pytest.param({"logprobs": True}, None, NEITHER, id="probabilities"),
        pytest.param(
            {"top_logprobs": 2, "use_cache": True}, None, replace(NEITHER, tool_calls=True), id="and use_cache"
        ),
        pytest.param({"logprobs": False, "top_logprobs": None}, None, BOTH, id="no probabilities"),
        pytest.param({}, "no-cache", STORE_ONLY, id="no-cache"),
        pytest.param({}, "No-Cache", STORE_ONLY, id="case does not matter"),
        pytest.param({}, "no-store", NEITHER, id="no-store"),
        pytest.param({"use_cache": True}, "no-store", replace(NEITHER, tool_calls=True), id="no-store is stronger"),
        pytest.param({"temperature": 0.7}, "max-age=60", replace(NEITHER, max_age_s=60.0), id="variety and max-age"),
        pytest.param({}, "max-age=0", replace(STORE_ONLY, max_age_s=0.0), id="max-age=0 is no-cache"),
        pytest.param({}, "max-age=60", Directives(max_age_s=60.0), id="max-age"),
        pytest.param({}, ' max-age="60" , no-transform', Directives(max_age_s=60.0), id="quoted, with others"),
        pytest.param({}, "max-age=soon", BOTH, id="max-age without a number"),
        pytest.param({}, "max-age", BOTH, id="max-age without a value"),
        pytest.param({}, "max-age=٣", BOTH, id="digits of another script"),
        pytest.param({}, "max-age=60, max-age=5", Directives(max_age_s=60.0), id="twice: the first"),
        pytest.param({}, "min-fresh=5", Directives(min_fresh_s=5.0), id="min-fresh"),
        pytest.param({}, "max-stale", Directives(max_stale_s=inf), id="max-stale without a limit"),
        pytest.param({}, "max-stale=9", Directives(max_stale_s=9.0), id="max-stale"),
        pytest.param({}, "max-age=0, max-stale=9", Directives(max_age_s=0.0, max_stale_s=9.0), id="0, but stale"),
        pytest.param({}, "only-if-cached", Directives(only_if_cached=True), id="only-if-cached"),
        pytest.param({}, ",, ,", BOTH, id="only commas"),
    ],
)
def test_directives(fields: dict[str, Any], cache_control: str | None, expected: Directives) -> None:
    """`use_cache` false and probabilities are final; then temperature and tools; then `Cache-Control`."""
    assert read_directives(chat_body(**fields), cache_control) == expected


@given(text=st.text() | st.text(alphabet='max-stle=09," ', max_size=40))
def test_any_cache_control(text: str) -> None:
    """Never raises; what can't be understood is ignored, and nothing lets a store happen that was not allowed."""
    found = read_directives({"messages": [], "use_cache": False}, text)

    assert (found.look_up, found.store) == (False, False)
    assert found.min_fresh_s >= 0

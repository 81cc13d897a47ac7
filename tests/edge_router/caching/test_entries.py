"""What may be kept, how it is written and read, and how fresh it is."""

import hashlib
import json
from dataclasses import replace
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.caching.directives import Directives
from edge_router.caching.entries import SPREAD, Entry, decode_entry, encode_entry, may_store, spread
from tests.edge_router.harness import completion


def choice(**fields: Any) -> dict[str, Any]:
    return {"message": {"content": "x"}, "finish_reason": "stop", **fields}


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        pytest.param([choice()], True, id="ended by itself"),
        pytest.param([choice(finish_reason="length")], True, id="ended at the asked limit"),
        pytest.param([choice(finish_reason="content_filter")], False, id="filtered"),
        pytest.param([choice(finish_reason=None)], False, id="not ended"),
        pytest.param([choice(), choice(finish_reason="error")], False, id="one of two failed"),
        pytest.param([choice(message={"tool_calls": [{}]})], False, id="calls a tool"),
        pytest.param([choice(message={"content": ""})], False, id="says nothing"),
        pytest.param([choice(message={"content": None, "refusal": "No."})], False, id="refuses"),
        pytest.param([], False, id="empty"),
        pytest.param(None, False, id="absent"),
    ],
)
def test_answers_to_keep(choices: object, expected: bool) -> None:
    """Complete ones without tool calls."""
    assert may_store({"choices": choices}) is expected


@pytest.mark.parametrize(
    ("reason", "expected"),
    [pytest.param("tool_calls", True, id="calls a tool"), pytest.param("length", False, id="a call that was cut")],
)
def test_tool_calls_to_keep(reason: str, expected: bool) -> None:
    """Whole ones, when that was asked for."""
    calling = choice(message={"content": None, "tool_calls": [{}]}, finish_reason=reason)

    assert may_store({"choices": [calling]}, tool_calls=True) is expected


ENTRY = Entry(body='{"a":1}', model="m", stored_at_s=1_000.0, ttl_s=60.0, cost_usd=0.5)


STALE = Entry(body="{}", model="m", stored_at_s=1_000.0, ttl_s=60.0, swr_s=30.0, stale_if_error_s=300.0)
NOW = Directives()


@pytest.mark.parametrize(
    ("age_s", "asked", "expected"),
    [
        pytest.param(-5.0, NOW, "fresh", id="stored by a clock ahead of ours"),
        pytest.param(59.9, NOW, "fresh", id="inside its lifetime"),
        pytest.param(60.0, NOW, "stale", id="its lifetime is exclusive"),
        pytest.param(89.9, NOW, "stale", id="stale for a while"),
        pytest.param(90.0, NOW, "fallback", id="that while is over"),
        pytest.param(359.9, NOW, "fallback", id="while all else fails"),
        pytest.param(360.0, NOW, "expired", id="of no use"),
        pytest.param(30.0, Directives(max_age_s=30.0), "fresh", id="max-age is inclusive"),
        pytest.param(30.1, Directives(max_age_s=30.0), "expired", id="older than max-age"),
        pytest.param(60.0, Directives(max_age_s=600.0), "expired", id="max-age does not prolong a lifetime"),
        pytest.param(34.9, Directives(max_age_s=30.0, max_stale_s=5.0), "stale", id="older than max-age by max-stale"),
        pytest.param(35.1, Directives(max_age_s=30.0, max_stale_s=5.0), "expired", id="older than both"),
        pytest.param(54.9, Directives(min_fresh_s=5.0), "fresh", id="fresh for long enough"),
        pytest.param(55.1, Directives(min_fresh_s=5.0), "expired", id="not fresh for long enough"),
        pytest.param(64.0, Directives(max_stale_s=5.0), "stale", id="within max-stale"),
        pytest.param(66.0, Directives(max_stale_s=5.0), "expired", id="max-stale below what the entry allows"),
        pytest.param(9e9, Directives(max_stale_s=inf), "stale", id="max-stale without a limit"),
    ],
)
def test_freshness(age_s: float, asked: Directives, expected: str) -> None:
    """By its own lifetime and by what the request accepts."""
    assert STALE.freshness(1_000.0 + age_s, asked) == expected


def test_size_of_an_entry_in_memory() -> None:
    """Counts bytes, not characters, and what stands beside the body."""
    sizes = [replace(ENTRY, body=character * 10_000).size_bytes for character in ("a", "é", "東", "👍")]

    assert [size // 10_000 for size in sizes] == [1, 1, 2, 4]
    assert ENTRY.size_bytes > 1000


def test_entry_is_kept_as_long_as_it_can_be_of_use() -> None:
    """Its lifetime, and then the longer of the two windows."""
    assert STALE.kept_s == 360.0


@given(key=st.binary(min_size=32, max_size=32).map(bytes.hex), ttl_s=st.floats(min_value=1, max_value=1e6))
def test_spread_of_lifetimes(key: str, ttl_s: float) -> None:
    """Within a tenth either way, and always the same for an entry."""
    assert ttl_s * (1 - SPREAD) * 0.999 <= spread(ttl_s, key) <= ttl_s * (1 + SPREAD) * 1.001
    assert spread(ttl_s, key) == spread(ttl_s, key)


def test_entries_stored_together_expire_apart() -> None:
    """A hundred of them all differ."""
    keys = [hashlib.sha256(bytes([number])).hexdigest() for number in range(100)]

    assert len({spread(600.0, key) for key in keys}) == 100


FINITE = st.floats(min_value=0, max_value=1e12, allow_nan=False)


@settings(max_examples=100)
@given(
    text=st.text(),
    model=st.text(),
    numbers=st.tuples(FINITE, FINITE, FINITE, FINITE, FINITE),
    tokens=st.integers(0, 2**40),
    tags=st.lists(st.text()).map(tuple),
    question=st.none() | st.text(),
)
def test_entry_written_and_read(
    text: str,
    model: str,
    numbers: tuple[float, float, float, float, float],
    tokens: int,
    tags: tuple[str, ...],
    question: str | None,
) -> None:
    """Nothing is lost, whatever the answer says."""
    body = json.dumps(completion(text), ensure_ascii=False)
    entry = Entry(body, model, *numbers, tokens, tags, question)

    assert decode_entry(encode_entry(entry)) == entry


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("garbage", id="one line"),
        pytest.param("garbage\n{}", id="facts that are not JSON"),
        pytest.param("[]\n{}", id="facts that are a list"),
        pytest.param("{}\n{}", id="no facts"),
        pytest.param("[" * 100_000 + "\n{}", id="facts nested too deeply"),
        pytest.param(encode_entry(ENTRY).replace('"v":3', '"v":2'), id="another version"),
        pytest.param(encode_entry(ENTRY).replace('"at":1000.0', '"at":"soon"'), id="a time that is text"),
        pytest.param(encode_entry(ENTRY).replace('"at":1000.0', '"at":' + "9" * 400), id="a time beyond floats"),
        pytest.param(encode_entry(ENTRY).replace('"ttl":60.0', '"ttl":Infinity'), id="a lifetime without end"),
        pytest.param(encode_entry(ENTRY).replace('"at":1000.0', '"at":NaN'), id="a time that is no number"),
        pytest.param(encode_entry(ENTRY).replace('"ttl":60.0', '"ttl":null'), id="no lifetime"),
        pytest.param(encode_entry(ENTRY).replace('"tags":[]', '"tags":[1]'), id="a tag that is no text"),
        pytest.param(encode_entry(ENTRY).replace('"tags":[]', '"tags":"a"'), id="tags that are no list"),
        pytest.param(encode_entry(ENTRY).replace('"question":null', '"question":1'), id="a question that is no text"),
        pytest.param(encode_entry(ENTRY)[:-1], id="cut"),
        pytest.param(encode_entry(ENTRY).replace('{"a":1}', '{"a":2}'), id="another body"),
        pytest.param(encode_entry(ENTRY).replace("{", "", 1), id="damaged facts"),
    ],
)
def test_text_that_is_no_entry(text: str) -> None:
    """Reads as nothing, and never raises."""
    assert decode_entry(text) is None


@settings(max_examples=100)
@given(text=st.text() | st.text(alphabet='{}[]"v:1,at\n0.e-', max_size=40))
def test_any_text_as_an_entry(text: str) -> None:
    """Never raises."""
    decode_entry(text)

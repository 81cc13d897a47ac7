"""The exact cache: what is the same request, what may be kept, and for how long."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.exact_cache import (
    Directives,
    Entry,
    cache_key,
    decode_entry,
    encode_entry,
    may_store,
    read_directives,
)
from tests.edge_router.harness import chat_body, completion

BODY = chat_body("Où est le café ?", model="auto", top_p=0.5)


def key(body: dict[str, Any], *, tenant: str = "t1", endpoint: str = "chat", catalog_version: str = "v1") -> str:
    return cache_key(body, tenant=tenant, endpoint=endpoint, catalog_version=catalog_version)


def with_content(content: object) -> dict[str, Any]:
    return {**BODY, "messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(dict(reversed(BODY.items())), id="order of the fields"),
        pytest.param({**BODY, "messages": [{"content": "Où est le café ?", "role": "user"}]}, id="order in a message"),
        pytest.param(with_content("Où est le cafe\u0301 ?"), id="Unicode form"),
        pytest.param(with_content(" \n Où est le café ?\t"), id="outer white space"),
        pytest.param({**BODY, "seed": None}, id="null is absent"),
        pytest.param({name: value for name, value in BODY.items() if name != "model"}, id="auto is the default model"),
        *(
            pytest.param({**BODY, name: value}, id=name)
            for name, value in {
                "stream": True,
                "stream_options": {"include_usage": True},
                "user": "u1",
                "metadata": {"a": "b"},
                "store": True,
                "service_tier": "flex",
                "prompt_cache_key": "k",
                "safety_identifier": "s",
                "use_cache": True,
            }.items()
        ),
    ],
)
def test_requests_that_are_the_same(body: dict[str, Any]) -> None:
    """They share an entry."""
    assert key(body) == key(BODY)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(key(BODY, tenant="t2"), id="tenant"),
        pytest.param(key(BODY, endpoint="embeddings"), id="endpoint"),
        pytest.param(key(BODY, catalog_version="v2"), id="catalog"),
        pytest.param(key({**BODY, "model": "cloud"}), id="model"),
        pytest.param(key({**BODY, "temperature": 0}), id="temperature"),
        pytest.param(key({**BODY, "max_tokens": 5}), id="limit"),
        pytest.param(key({**BODY, "residency": "eu"}), id="residency"),
        pytest.param(key({**BODY, "brand_new": 1}), id="a field that we do not know"),
        pytest.param(key(with_content("Où  est le café ?")), id="white space inside"),
        pytest.param(key(with_content("où est le café ?")), id="case"),
        pytest.param(key(with_content([{"type": "text", "text": "Où est le café ?"}])), id="parts"),
        pytest.param(key({**BODY, "messages": [{"role": "system", "content": "Où est le café ?"}]}), id="role"),
        pytest.param(key({**BODY, "messages": BODY["messages"] * 2}), id="one more turn"),
    ],
)
def test_requests_that_differ(other: str) -> None:
    """They never share an entry."""
    assert other != key(BODY)


def test_half_a_surrogate_pair_in_the_prompt() -> None:
    """Has a key like any other text."""
    assert key(with_content("\ud83d")) != key(with_content("\ude00"))


STORE_ONLY = Directives(look_up=False, store=True)
NEITHER = Directives(look_up=False, store=False)
BOTH = Directives()


@pytest.mark.parametrize(
    ("fields", "cache_control", "expected"),
    [
        pytest.param({}, None, BOTH, id="nothing said"),
        pytest.param({"use_cache": False}, None, NEITHER, id="use_cache false"),
        pytest.param({"use_cache": False}, "max-age=60", NEITHER, id="use_cache false, whatever else"),
        pytest.param({"use_cache": True}, None, BOTH, id="use_cache true"),
        pytest.param({"use_cache": None}, None, BOTH, id="use_cache null"),
        pytest.param({"temperature": 0}, None, BOTH, id="temperature 0"),
        pytest.param({"temperature": None}, None, BOTH, id="temperature null"),
        pytest.param({"temperature": 0.7}, None, NEITHER, id="variety asked for"),
        pytest.param({"temperature": 0.7, "use_cache": True}, None, BOTH, id="variety, but use_cache"),
        pytest.param({"tools": [{}]}, None, NEITHER, id="tools"),
        pytest.param({"tools": [{}], "use_cache": True}, None, BOTH, id="tools, but use_cache"),
        pytest.param({"tools": []}, None, BOTH, id="no tools"),
        pytest.param({}, "no-cache", STORE_ONLY, id="no-cache"),
        pytest.param({}, "No-Cache", STORE_ONLY, id="case does not matter"),
        pytest.param({}, "no-store", NEITHER, id="no-store"),
        pytest.param({"use_cache": True}, "no-store", NEITHER, id="no-store, though use_cache"),
        pytest.param({"temperature": 0.7}, "max-age=60", Directives(False, False, 60.0), id="variety and max-age"),
        pytest.param({}, "max-age=0", Directives(False, True, 0.0), id="max-age=0 is no-cache"),
        pytest.param({}, "max-age=60", Directives(max_age_s=60.0), id="max-age"),
        pytest.param({}, ' max-age="60" , no-transform', Directives(max_age_s=60.0), id="quoted, with others"),
        pytest.param({}, "max-age=soon", BOTH, id="max-age without a number"),
        pytest.param({}, "max-age", BOTH, id="max-age without a value"),
        pytest.param({}, ",, ,", BOTH, id="only commas"),
    ],
)
def test_directives(fields: dict[str, Any], cache_control: str | None, expected: Directives) -> None:
    """`use_cache` false is final; then temperature and tools; then `Cache-Control`."""
    assert read_directives(chat_body(**fields), cache_control) == expected


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


ENTRY = Entry(body='{"a":1}', model="m", stored_at_s=1_000.0, ttl_s=60.0, cost_usd=0.5)


@pytest.mark.parametrize(
    ("age_s", "max_age_s", "expected"),
    [
        pytest.param(-5.0, None, True, id="stored by a clock ahead of ours"),
        pytest.param(59.9, None, True, id="inside its lifetime"),
        pytest.param(60.0, None, False, id="its lifetime is exclusive"),
        pytest.param(30.0, 30.0, True, id="max-age is inclusive"),
        pytest.param(30.1, 30.0, False, id="older than max-age"),
        pytest.param(60.0, 600.0, False, id="max-age does not prolong a lifetime"),
    ],
)
def test_freshness(age_s: float, max_age_s: float | None, expected: bool) -> None:
    """Within its own lifetime and within what the request accepts."""
    assert ENTRY.is_fresh(1_000.0 + age_s, Directives(max_age_s=max_age_s)) is expected


FINITE = st.floats(min_value=0, max_value=1e12, allow_nan=False)


@settings(max_examples=100)
@given(text=st.text(), model=st.text(), at=FINITE, ttl=FINITE, usd=FINITE)
def test_entry_written_and_read(text: str, model: str, at: float, ttl: float, usd: float) -> None:
    """Nothing is lost, whatever the answer says."""
    entry = Entry(json.dumps(completion(text), ensure_ascii=False), model, at, ttl, usd)

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
        pytest.param(encode_entry(ENTRY).replace('"v":1', '"v":0'), id="another version"),
        pytest.param(encode_entry(ENTRY).replace('"at":1000.0', '"at":"soon"'), id="a time that is text"),
        pytest.param(encode_entry(ENTRY).replace('"at":1000.0', '"at":' + "9" * 400), id="a time beyond floats"),
        pytest.param(encode_entry(ENTRY).replace('"ttl":60.0', '"ttl":Infinity'), id="a lifetime without end"),
        pytest.param(encode_entry(ENTRY).replace('"at":1000.0', '"at":NaN'), id="a time that is no number"),
        pytest.param(encode_entry(ENTRY).replace('"ttl":60.0', '"ttl":null'), id="no lifetime"),
        pytest.param(encode_entry(ENTRY)[:-1], id="cut"),
        pytest.param(encode_entry(ENTRY).replace("{", "", 2), id="damaged"),
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

"""Which requests are the same."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.caching.keys import cache_key, relaxed_text
from edge_router.caching.policy import Normalisation
from tests.edge_router.harness import chat_body

BODY = chat_body("Où est le café ?", model="auto", top_p=0.5)


def key(
    body: dict[str, Any],
    *,
    tenant: str = "t1",
    endpoint: str = "chat",
    catalog_version: str = "v1",
    normalisation: Normalisation = "strict",
) -> str:
    return cache_key(
        body, tenant=tenant, endpoint=endpoint, catalog_version=catalog_version, normalisation=normalisation
    )


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
                "semantic_cache": True,
                "cache_ttl_s": 60,
                "cache_tags": ["a"],
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
        pytest.param(key(BODY, normalisation="relaxed"), id="normalisation"),
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


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100)
@given(content=st.text(), fields=st.dictionaries(st.text(min_size=1), JSON, max_size=4), data=st.data())
def test_order_of_any_request(content: str, fields: dict[str, Any], data: st.DataObject) -> None:
    """A request has one key in whatever order its fields come, through JSON and back, and another one per tenant."""
    body = {**fields, "messages": [{"role": "user", "content": content}]}
    shuffled = dict(data.draw(st.permutations(list(body.items()))))

    assert key(json.loads(json.dumps(shuffled))) == key(body)
    assert key(body, tenant="t2") != key(body)


@settings(max_examples=100)
@given(text=st.text(), normalisation=st.sampled_from(["strict", "relaxed"]))
def test_key_of_any_prompt(text: str, normalisation: Normalisation) -> None:
    """64 hex digits, the same with white space around."""
    found = key(with_content(text), normalisation=normalisation)

    assert len(bytes.fromhex(found)) == 32
    assert key(with_content(f" {text}\n"), normalisation=normalisation) == found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("What is  Python?", "what is python?", id="case and spaces"),
        pytest.param("WHERE\tIS FRANCE", "where is france", id="capitals, a tab"),
        pytest.param("a\n\n \nb", "a\nb", id="empty lines"),
        pytest.param("Don't  ask Why", "don't ask why", id="an apostrophe opens nothing"),
        pytest.param("Explain  `fooBar` NOW", "explain `fooBar` now", id="around code"),
    ],
)
def test_relaxed_requests_that_are_the_same(one: str, other: str) -> None:
    """Case and white space of prose do not matter."""
    assert key(with_content(one), normalisation="relaxed") == key(with_content(other), normalisation="relaxed")
    assert key(with_content(one)) != key(with_content(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("fix `Foo`", "fix `foo`", id="inline code"),
        pytest.param("fix ```\nA  b\n```", "fix ```\nA b\n```", id="fenced code"),
        pytest.param("a\n  fix ```\nA  b\n```", "a\n  fix ```\nA b\n```", id="fenced code that an indented line opens"),
        pytest.param("fix ```\nA", "fix ```\na", id="a fence that never closes"),
        pytest.param('say "Hi"', 'say "hi"', id="quoted"),
        pytest.param("say “Hi  you”", "say “Hi you”", id="quoted by typographers"),
        pytest.param("say «Hi»", "say «hi»", id="quoted in French"),
        pytest.param("reverse 'AbC'", "reverse 'abc'", id="single quotes"),
        pytest.param("def f():\n    A", "def f():\n    a", id="indented"),
        pytest.param("what is getItem", "what is getitem", id="a name in a program"),
        pytest.param("open /tmp/A", "open /tmp/a", id="a path"),
        pytest.param("how much is 5mB", "how much is 5MB", id="a unit"),
        pytest.param("one\ntwo", "one two", id="lines"),
        pytest.param("ab", "a b", id="words"),
    ],
)
def test_relaxed_requests_that_differ(one: str, other: str) -> None:
    """Where case or white space may carry the meaning, they count."""
    assert key(with_content(one), normalisation="relaxed") != key(with_content(other), normalisation="relaxed")


def test_relaxed_is_for_what_users_say() -> None:
    """Also in parts; instructions, earlier answers and results of tools count as they are."""
    parts = [[{"type": "text", "text": text}, {"type": "image_url", "image_url": {}}] for text in ("A", "a")]
    roles = [{"messages": [{"role": "system", "content": text}]} for text in ("A", "a")]

    assert len({key(with_content(content), normalisation="relaxed") for content in parts}) == 1
    assert len({key(body, normalisation="relaxed") for body in roles}) == 2
    assert key({"messages": [{"role": "user", "content": None}]}, normalisation="relaxed")


@settings(max_examples=200)
@given(text=st.text() | st.text(alphabet="aB1 \n\t`\"'“”«»/_", max_size=30))
def test_relaxed_text_is_its_own_relaxed_form_in_prose(text: str) -> None:
    """Whatever is quoted stays in it letter by letter."""
    quoted = text.replace('"', "")

    assert f'"{quoted}"' in relaxed_text(f'Say "{quoted}"')

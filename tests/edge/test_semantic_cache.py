"""Semantic cache on the real runtime: real embeddings, an index that shows writes late, and faults of every part."""

import itertools
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.edge.control import Control, chat, events, streamed_text

pytestmark = pytest.mark.workerd

CALLERS = 4

_numbers = itertools.count()


@pytest.fixture
def town() -> str:
    """A name that no other test asks about."""
    letters = random.Random(time.time_ns() + next(_numbers))
    return "".join(letters.choice("bdfgklmnprst") + letters.choice("aeiou") for _ in range(4)).capitalize()


def first(town: str, **fields: Any) -> dict[str, Any]:
    return chat(f"What is the capital of {town}?", semantic_cache=True, **fields)


def same(town: str, **fields: Any) -> dict[str, Any]:
    return chat(f"What's {town}'s capital?", semantic_cache=True, **fields)


def ask(edge: httpx.Client, body: dict[str, Any]) -> httpx.Response:
    response = edge.post("/v1/chat/completions", json=body)
    assert response.status_code == 200
    return response


def cache_of(response: httpx.Response) -> dict[str, Any]:
    facts: dict[str, Any] = response.json()["nearside"]["cache"]
    return facts


def stored(edge: httpx.Client, control: Control, body: dict[str, Any]) -> httpx.Response:
    """The answer of a model, once the index shows its vector."""
    before = control.vectors()
    response = ask(edge, body)
    assert response.headers["cache-status"] == "nearside; fwd=miss; stored"
    assert control.shows_vectors(before + 1)
    return response


def text_of(response: httpx.Response) -> str:
    text: str = response.json()["choices"][0]["message"]["content"]
    return text


def test_question_in_other_words(edge: httpx.Client, control: Control, town: str) -> None:
    """Gets the stored answer, plain and as a stream, without a call of a model."""
    answer = stored(edge, control, first(town))
    calls = control.counters()["ai"]

    plain = ask(edge, same(town))
    stream = ask(edge, same(town, stream=True))

    assert text_of(plain) == streamed_text(stream) == text_of(answer)
    assert plain.headers["nearside-served-by"] == "semantic-cache"
    assert "detail=semantic" in plain.headers["cache-status"]
    assert {"embed", "vector"} <= {part.split(";")[0] for part in plain.headers["server-timing"].split(", ")}
    assert cache_of(plain)["similarity"] > 0.9
    assert events(stream)[-2]["nearside"]["cache"]["similarity"] == cache_of(plain)["similarity"]
    assert control.counters()["ai"] == calls


def test_vector_that_is_not_shown_yet(edge: httpx.Client, control: Control, town: str) -> None:
    """What was written a moment ago is not found: a miss, and an answer of its own."""
    control.hide_vectors_for(ms=60_000)
    ask(edge, first(town))

    response = ask(edge, same(town))

    assert response.headers["nearside-served-by"] == "edge-model"
    assert cache_of(response)["semantic"] == "miss"


def test_near_question_that_asks_for_something_else(edge: httpx.Client, control: Control, town: str) -> None:
    """However near, it gets its own answer."""
    stored(edge, control, first(town))

    response = ask(edge, chat(f"What is not the capital of {town}?", semantic_cache=True))

    assert response.headers["nearside-served-by"] == "edge-model"
    assert cache_of(response)["semantic"] == "miss"


def test_bad_hit(edge: httpx.Client, control: Control, town: str) -> None:
    """Rated bad, its entry goes: neither question gets that answer again."""
    stored(edge, control, first(town))
    hit = ask(edge, same(town))

    rating = {"request_id": hit.headers["x-request-id"], "rating": "bad"}
    assert edge.post("/v1/feedback", json=rating).status_code == 200

    assert hit.headers["nearside-served-by"] == "semantic-cache"
    assert [ask(edge, body(town)).headers["nearside-served-by"] for body in (same, first)] == ["edge-model"] * 2


@pytest.mark.parametrize(
    ("target", "kind", "outcome"),
    [
        ("embed", "error", "embed_failed"),
        ("embed", "timeout", "embed_failed"),
        ("embed", "malformed", "embed_failed"),
        ("embed", "truncated", "embed_failed"),
        ("embed", "capacity", "embed_failed"),
        ("embed", "refuse", "embed_failed"),
        ("vectorize", "error", "vector_failed"),
        ("vectorize", "timeout", "vector_failed"),
        ("vectorize", "malformed", "vector_failed"),
        ("vectorize", "empty-body", "vector_failed"),
        ("vectorize", "refuse", "vector_failed"),
    ],
)
def test_part_that_fails(edge: httpx.Client, control: Control, town: str, target: str, kind: str, outcome: str) -> None:
    """The model answers, and the time that was lost is bounded."""
    control.fault(target, kind)

    response = ask(edge, first(town))
    facts = response.json()["nearside"]

    assert facts["served_by"] == "edge-model"
    assert facts["cache"]["semantic"] == outcome
    # SEMANTIC_TIMEOUT_S is 2 here; a shared machine wakes late.
    assert sum(facts["timings_ms"].get(part, 0) for part in ("embed", "vector")) < 2500


@pytest.mark.parametrize("kind", ["error", "timeout", "malformed"])
def test_store_that_fails(edge: httpx.Client, control: Control, town: str, kind: str) -> None:
    """A vector without its entry is of no use: the model answers."""
    stored(edge, control, first(town))
    control.fault("kv", kind)

    assert ask(edge, same(town)).headers["nearside-served-by"] == "edge-model"


def test_many_at_once(edge: httpx.Client, control: Control, town: str) -> None:
    """Each of them gets the stored answer, and none waits for another's look-up."""
    answer = stored(edge, control, first(town))

    with ThreadPoolExecutor(CALLERS) as callers:
        responses = list(callers.map(lambda n: ask(edge, same(town, user=f"caller {n}")), range(CALLERS)))

    assert {response.headers["nearside-served-by"] for response in responses} == {"semantic-cache"}
    assert {text_of(response) for response in responses} == {text_of(answer)}

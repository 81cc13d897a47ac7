"""Semantic cache in the gateway: who gets a stored answer by its meaning, and what happens when a part of it fails."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from edge_router.auth import hash_secret
from edge_router.caching.answers import AnswerCache
from edge_router.caching.entries import decode_entry
from edge_router.embedder import Embedder
from edge_router.embeddings import DIMENSIONS
from edge_router.embeddings import MODEL as EMBEDDER
from edge_router.errors import StoreError
from edge_router.replies import Reply
from edge_router.report import Report
from edge_router.semantic.cache import Candidate, SemanticCache, read_candidates
from edge_router.semantic.question import WINDOW_TOKENS, estimate_pieces, fits_window
from tests.edge_router.harness import (
    FRANKFURT,
    SIMPLE_PROMPT,
    World,
    answer_edge,
    cache_of,
    chat_body,
    edge,
    read_json,
    read_stream,
    streamed_text,
    text_of,
)
from tests.fakes import (
    STALL,
    EdgeCall,
    FakeClock,
    FakeCounters,
    FakeFeedbackStore,
    FakeUpstreamResponse,
    MemoryStore,
    RunningClock,
)

SAME = "What's France's capital?"
OPPOSITE = "What is the capital of Germany?"
DOUBTFUL = "What is the modern capital of France?"
SECRETS = {"aaaa": "A" * 20, "bbbb": "B" * 20}


def vector(cosine: float) -> list[float]:
    """A vector at this cosine to `vector(1.0)`."""
    return [cosine, math.sqrt(1 - cosine * cosine), *([0.0] * (DIMENSIONS - 2))]


def embedding(cosine: float = 0.95) -> Callable[[EdgeCall], FakeUpstreamResponse]:
    """Models that answer, and an embedder by which SIMPLE_PROMPT is this near to every other text."""

    def answer(call: EdgeCall) -> FakeUpstreamResponse:
        if call.model_id != EMBEDDER:
            return answer_edge(call)
        return FakeUpstreamResponse.plain(
            {"data": [vector(1.0 if text == SIMPLE_PROMPT else cosine) for text in call.inputs["text"]]}
        )

    return answer


def broken(embedded: FakeUpstreamResponse) -> Callable[[EdgeCall], FakeUpstreamResponse]:
    """Models that answer, and an embedder that does not."""
    return lambda call: embedded if call.model_id == EMBEDDER else answer_edge(call)


def world(**parts: Any) -> World:
    return World(**{"semantic_cache": "on", "edge": edge(embedding()), **parts})


async def asked(around: World, prompt: str = SIMPLE_PROMPT, **fields: Any) -> Reply:
    """The reply, after everything that follows a reply has happened."""
    reply = await around.ask(chat_body(prompt, **fields))
    assert reply.status == 200
    await around.background.finish()
    return reply


def outcome(reply: Reply) -> tuple[str, str | None]:
    """Who answered, and what became of the look-up by meaning."""
    report = read_json(reply)["nearside"]
    return report["served_by"], report["cache"].get("semantic")


async def counted(around: World) -> dict[str, int]:
    """What the statistics say of look-ups by meaning."""
    reply = await around.ask("", path="/v1/cache/stats", method="GET")
    counts: dict[str, int] = read_json(reply)["semantic"]
    return counts


def embedded_texts(around: World) -> list[str]:
    return [text for call in around.edge.calls if call.model_id == EMBEDDER for text in call.inputs["text"]]


def semantic_of(around: World) -> SemanticCache:
    """The part that feedback reaches."""
    entries = AnswerCache(around.store, memory_bytes=0, timeout_s=5, clock=around.clock, log=around.log)
    return SemanticCache(
        entries,
        embedder=Embedder(around.edge, around.clock),
        vectors=around.vectors,
        timeout_s=1.0,
        clock=around.clock,
        log=around.log,
    )


# Hits


async def test_question_in_other_words() -> None:
    """Gets the stored answer; the report says how near it was, how old the answer is and how long each step took."""
    around = world()
    first = await asked(around)
    around.clock.advance(100)
    reply = await asked(around, SAME)

    assert text_of(reply) == text_of(first)
    assert reply.headers["nearside-served-by"] == "semantic-cache"
    told = cache_of(reply)
    assert reply.headers["cache-status"] == f"nearside; hit; ttl={told['ttl_s']}; detail=semantic"
    assert reply.headers["age"] == "100"
    assert [part.split(";")[0] for part in reply.headers["server-timing"].split(", ")] == [
        "cache", "embed", "vector", "total",
    ]  # fmt: skip
    assert told == {
        "status": "hit", "tier": "semantic", "ttl_s": told["ttl_s"], "age_s": 100, "key": cache_of(first)["key"],
        "semantic": "hit", "similarity": 0.95,
    }  # fmt: skip


async def test_question_in_other_words_as_a_stream() -> None:
    """A stored plain answer is replayed as a stream, with the report on its last chunk."""
    around = world()
    first = await asked(around)
    chunks = await read_stream(await asked(around, SAME, stream=True))

    assert streamed_text(chunks) == text_of(first)
    assert chunks[-1]["nearside"]["served_by"] == "semantic-cache"


async def test_stored_stream() -> None:
    """A streamed answer is stored with its question too."""
    around = world()
    await read_stream(await around.ask(chat_body(stream=True)))
    await around.background.finish()

    assert outcome(await asked(around, SAME)) == ("semantic-cache", "hit")


async def test_exact_before_semantic() -> None:
    """The same question costs no embedding, and each question is embedded once: its vector waits for its answer."""
    around = world()
    await asked(around)
    reply = await asked(around)

    assert reply.headers["nearside-served-by"] == "exact-cache"
    assert embedded_texts(around) == [SIMPLE_PROMPT]
    assert len(around.vectors.rows) == 1


async def test_text_in_one_part() -> None:
    """As several SDKs send it: the same question."""
    around = world()
    await asked(around)
    reply = await around.ask({"messages": [{"role": "user", "content": [{"type": "text", "text": SAME}]}]})

    assert outcome(reply) == ("semantic-cache", "hit")


async def test_nothing_of_a_prompt_in_the_index() -> None:
    """The index holds hashes and numbers; the question stands in the tenant's own entry."""
    around = world()
    await asked(around)
    [(key, (_, namespace, metadata))] = around.vectors.rows.items()
    assert isinstance(around.store, MemoryStore)
    [name] = around.store.texts
    entry = decode_entry(around.store.texts[name])

    assert entry is not None
    assert entry.question == SIMPLE_PROMPT
    assert name.endswith(f":{key}")
    assert set(metadata) == {"context", "at"}
    assert max(len(key), len(namespace), len(str(metadata["context"]))) <= 64


# Misses


@pytest.mark.parametrize(
    ("prompt", "cosine"),
    [
        pytest.param(OPPOSITE, 0.99, id="a guard refuses it, however near"),
        pytest.param(DOUBTFUL, 0.99, id="a word too many"),
        pytest.param(SAME, 0.5, id="too far to be looked at"),
    ],
)
async def test_question_that_is_another(prompt: str, cosine: float) -> None:
    """Gets an answer of its own."""
    around = world(edge=edge(embedding(cosine)))
    await asked(around)

    assert outcome(await asked(around, prompt)) == ("edge-model", "miss")


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"max_tokens": 7}, id="parameter"),
        pytest.param({"model": "edge-large-1"}, id="model"),
        pytest.param({"seed": 1}, id="seed"),
        pytest.param({"something_new": 1}, id="field that we do not know"),
        pytest.param({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": SAME}]},
                     id="system prompt"),
        pytest.param({"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"},
                                   {"role": "user", "content": SAME}]}, id="history"),
        pytest.param({"messages": [{"role": "user", "content": SAME, "name": "ann"}]}, id="who asks"),
    ],
)  # fmt: skip
async def test_all_but_the_question_must_be_equal(fields: dict[str, Any]) -> None:
    """The near question is not even looked at."""
    around = world()
    await asked(around)

    assert outcome(await asked(around, SAME, **fields)) == ("edge-model", "miss")


async def test_conversation() -> None:
    """The last question in other words, after the same turns, is a hit."""
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"},
             {"role": "assistant", "content": "Hi"}]  # fmt: skip
    around = world()
    await asked(around, messages=[*turns, {"role": "user", "content": SIMPLE_PROMPT}])

    assert outcome(await asked(around, messages=[*turns, {"role": "user", "content": SAME}])) == (
        "semantic-cache",
        "hit",
    )


async def test_answer_that_is_too_old() -> None:
    """Neither past its lifetime nor older than this request accepts."""
    around = world()
    await asked(around)
    around.clock.advance(50)
    reply = await around.ask(chat_body(SAME), headers={"cache-control": "max-age=49"})
    assert outcome(reply) == ("edge-model", "miss")
    around.clock.advance(3961)

    assert outcome(await asked(around, SAME)) == ("edge-model", "miss")


async def test_request_that_wants_no_cache() -> None:
    """Neither looked up nor found later."""
    around = world()
    reply = await asked(around, use_cache=False)

    assert outcome(reply) == ("edge-model", None)
    assert (embedded_texts(around), around.vectors.rows) == ([], {})


@pytest.mark.parametrize("body", ["{damaged}", '{"choices":[]}'])
async def test_damaged_entry(body: str) -> None:
    """Is a miss."""
    around = world()
    await asked(around)
    assert isinstance(around.store, MemoryStore)
    for key, text in around.store.texts.items():
        around.store.texts[key] = text.split("\n")[0] + "\n" + body
    chunks = await read_stream(await asked(around, SAME, stream=True))

    assert streamed_text(chunks) == "Paris, says edge-small-1."
    assert chunks[-1]["nearside"]["cache"].get("similarity") is None


async def test_answer_stored_without_its_question() -> None:
    """The vector points to an answer that was stored anew by somebody who does not look up by meaning: it can't be told
    what that answers.
    """
    around = world()
    await asked(around)
    assert isinstance(around.store, MemoryStore)
    around.store.texts.clear()  # as when its time is over
    await asked(around, semantic_cache=False)
    reply = await asked(around, SAME)

    assert outcome(reply) == ("edge-model", "miss")


# Who has it


def tenants(**fields: Any) -> MemoryStore:
    """Two of them, with the same key record but for the name."""
    return MemoryStore(
        {
            f"key:{name}": json.dumps({"tenant": f"tenant-{name}", "hashes": [hash_secret(secret)], **fields})
            for name, secret in SECRETS.items()
        }
    )


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer nsk_{name}_{SECRETS[name]}"}


@pytest.mark.parametrize(
    ("request_says", "tenant_says", "variable", "expected"),
    [
        pytest.param(None, None, "off", False, id="off by default"),
        pytest.param(None, None, "on", True, id="variable"),
        pytest.param(None, True, "off", True, id="tenant turns it on"),
        pytest.param(None, False, "on", False, id="tenant turns it off"),
        pytest.param(True, False, "off", True, id="request turns it on"),
        pytest.param(False, True, "on", False, id="request turns it off"),
    ],
)
async def test_who_has_it(request_says: bool | None, tenant_says: bool | None, variable: str, expected: bool) -> None:
    """The most specific that says something decides: request, tenant, variable."""
    around = world(auth="keys", keys=tenants(semantic_cache=tenant_says), semantic_cache=variable)
    body = chat_body() if request_says is None else chat_body(semantic_cache=request_says)
    await around.ask(body, headers=bearer("aaaa"))

    assert bool(embedded_texts(around)) is expected


async def test_header() -> None:
    """As every field of ours, it may be a header."""
    around = world(semantic_cache="off")
    await around.ask(chat_body(), headers={"nearside-semantic-cache": "true"})

    assert embedded_texts(around) == [SIMPLE_PROMPT]


@pytest.mark.parametrize(
    ("threshold", "expected"), [pytest.param(0.2, "hit", id="own threshold"), pytest.param(None, "miss", id="default")]
)
async def test_tenant_with_a_threshold(threshold: float | None, expected: str) -> None:
    """What is doubted by default may be a hit for a tenant who says so."""
    around = world(auth="keys", keys=tenants(semantic_threshold=threshold))
    await around.ask(chat_body(), headers=bearer("aaaa"))
    await around.background.finish()
    reply = await around.ask(chat_body(DOUBTFUL), headers=bearer("aaaa"))

    assert outcome(reply)[1] == expected


async def test_two_tenants() -> None:
    """Never share: neither the namespace, nor the context, nor the entry."""
    around = world(auth="keys", keys=tenants())
    await around.ask(chat_body(), headers=bearer("aaaa"))
    await around.background.finish()
    reply = await around.ask(chat_body(SAME), headers=bearer("bbbb"))

    assert outcome(reply) == ("edge-model", "miss")
    (one, other) = around.vectors.queries
    assert one[0] != other[0]
    assert one[1] != other[1]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"residency": "eu"}, "residency", id="residency"),
        pytest.param({"n": 2}, "choices", id="several choices"),
        pytest.param({"use_cache": True, "tools": [{"type": "function", "function": {"name": "f"}}]}, "tools",
                     id="tools"),
        pytest.param({"messages": [{"role": "user", "content": [{"type": "text", "text": "What is"},
                                                               {"type": "text", "text": "this?"}]}]}, "no_text",
                     id="several parts"),
        pytest.param({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Paris is"}]},
                     "no_text", id="a turn to go on with"),
        pytest.param({"messages": [{"role": "user", "content": " \n"}]}, "no_text", id="white space"),
        pytest.param({"messages": [{"role": "user", "content": "\ud83d"}]}, "no_text", id="half a surrogate pair"),
        pytest.param({"messages": [{"role": "user", "content": "word " * 500}]}, "too_long",
                     id="longer than the embedder's window"),
    ],
)  # fmt: skip
async def test_question_that_is_not_looked_up(fields: dict[str, Any], expected: str) -> None:
    """Nothing is embedded; the report says why."""
    around = world(regions=(replace(FRANKFURT, residency="eu"),))
    reply = await asked(around, **fields)

    assert outcome(reply)[1] == expected
    assert (embedded_texts(around), around.vectors.rows) == ([], {})


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        pytest.param("a" * 510, True, id="as many bytes as tokens"),
        pytest.param("word " * 450, True, id="many short words"),
        pytest.param("word " * 465, False, id="too many"),
        pytest.param("!" * 600, False, id="punctuation"),
        pytest.param("猫" * 170, True, id="ideographs"),
        pytest.param("猫" * 600, False, id="too many ideographs"),
        pytest.param("f00ba4" * 170, False, id="digits and letters"),
    ],
)
def test_window(text: str, fits: bool) -> None:
    """What surely fits is taken without counting, the rest by an estimate."""
    assert fits_window(text) is fits
    assert fits or estimate_pieces(text) > WINDOW_TOKENS * 0.9


# Faults: answered as if the cache were not there


NAN_VECTOR = json.dumps({"data": [[0.5] * 383 + [float("nan")]]})


@pytest.mark.parametrize(
    "embedded",
    [
        pytest.param(FakeUpstreamResponse.plain("{}", status=500), id="down"),
        pytest.param(FakeUpstreamResponse.plain({"errors": [{"code": 3040}]}, status=429), id="out of capacity"),
        pytest.param(FakeUpstreamResponse.plain("garbage"), id="garbage"),
        pytest.param(FakeUpstreamResponse.plain({"data": [[1.0] * 768]}), id="wrong dimension"),
        pytest.param(FakeUpstreamResponse.plain(NAN_VECTOR), id="not a number"),
        pytest.param(FakeUpstreamResponse.plain({"data": []}), id="no vector"),
        pytest.param(FakeUpstreamResponse.plain({"data": [[0.0] * DIMENSIONS]}), id="no direction"),
        pytest.param(FakeUpstreamResponse(STALL), id="never answers"),
    ],
)
async def test_embedder_that_fails(embedded: FakeUpstreamResponse) -> None:
    """The model answers, the answer is stored for the same question, and no vector is written."""
    around = world(edge=edge(broken(embedded)), clock=RunningClock())
    reply = await asked(around)

    assert outcome(reply) == ("edge-model", "embed_failed")
    assert read_json(reply)["nearside"]["timings_ms"]["embed"] < 4000  # one of them never answers
    assert around.log.names() == ["semantic_failed"]
    assert around.vectors.rows == {}
    assert outcome(await asked(around))[0] == "exact-cache"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(StoreError("down"), id="down"),
        pytest.param([], id="a list"),
        pytest.param({"matches": None}, id="no matches"),
        pytest.param({"matches": [{"id": "x", "score": None, "metadata": {}}]}, id="a score that is null"),
        pytest.param({"matches": [{"id": "x", "score": math.nan, "metadata": {"context": "c", "at": 1}}]}, id="nan"),
        pytest.param({"matches": [{"id": "x", "score": 0.9}]}, id="no metadata"),
    ],
)
async def test_index_that_fails(answer: Any) -> None:
    """The model answers, and the vector is written all the same: the index may have come back."""
    around = world()
    around.vectors.answer = answer
    reply = await asked(around)

    assert outcome(reply) == ("edge-model", "vector_failed")
    assert around.log.names() == ["semantic_failed"]
    assert len(around.vectors.rows) == 1


async def test_index_that_is_slow() -> None:
    """Is not waited for beyond the look-up's time, of which the embedding is a part."""
    around = world(clock=RunningClock())
    around.vectors.pause_s = 5.0
    reply = await asked(around)
    timings_ms = read_json(reply)["nearside"]["timings_ms"]

    assert outcome(reply) == ("edge-model", "vector_failed")
    assert 100 < timings_ms["embed"] + timings_ms["vector"] < 4000


async def test_index_that_answers_for_another_context() -> None:
    """Its filter is checked: without its metadata index Vectorize would not apply it."""
    around = world()
    await asked(around)
    [(key, (_, _, metadata))] = around.vectors.rows.items()
    around.vectors.answer = {"matches": [{"id": key, "score": 0.99, "metadata": metadata}]}

    assert outcome(await asked(around, SAME)) == ("semantic-cache", "hit")
    assert outcome(await asked(around, SAME, max_tokens=9)) == ("edge-model", "miss")


@pytest.mark.parametrize(
    ("age_s", "left"), [pytest.param(121, 0, id="for good"), pytest.param(60, 1, id="perhaps not yet there")]
)
async def test_vector_whose_entry_is_gone(age_s: float, left: int) -> None:
    """A miss. The vector is removed after the response, once KV can't be late any more."""
    around = world()
    await asked(around)
    assert isinstance(around.store, MemoryStore)
    [key] = around.vectors.rows
    around.store.texts.clear()
    around.clock.advance(age_s)
    reply = await asked(around, SAME)

    assert outcome(reply) == ("edge-model", "miss")
    assert [each for each in around.vectors.rows if each == key] == [key] * left


class DeafStore(MemoryStore):
    """A store whose reads fail once `is_down`."""

    is_down = False

    async def get(self, key: str) -> str | None:
        if self.is_down:
            raise StoreError("get failed")
        return await super().get(key)


async def test_store_that_fails() -> None:
    """No vector is looked for: what it would point to can't be read. The answer comes as soon as without it."""
    store = DeafStore()
    around = world(store=store)
    await asked(around)
    around.clock.advance(1000)
    store.is_down = True
    reply = await asked(around, SAME)

    assert outcome(reply) == ("edge-model", None)
    assert read_json(reply)["nearside"]["cache"]["failed"] is True
    assert embedded_texts(around) == [SIMPLE_PROMPT]


async def test_store_that_fails_in_between() -> None:
    """A miss, and nothing is taken for gone."""
    store = DeafStore()
    around = world(store=store)
    await asked(around)
    around.clock.advance(1000)
    answer = around.edge.handler

    def last_words(call: EdgeCall) -> FakeUpstreamResponse:
        store.is_down = True
        return answer(call)

    around.edge.handler = last_words
    reply = await asked(around, SAME)

    assert outcome(reply) == ("edge-model", "miss")
    assert len(around.vectors.rows) == 2


async def test_index_that_takes_no_writes() -> None:
    """The answer is stored for the same question; the log says that it can't be found by its meaning."""
    around = world()
    around.vectors.is_writable = False
    await asked(around)

    assert around.log.names() == ["semantic_write_failed"]
    assert outcome(await asked(around))[0] == "exact-cache"


async def test_stale_vectors_of_an_index_that_takes_no_writes() -> None:
    """They stay, and cost nobody an answer."""
    around = world()
    await asked(around)
    assert isinstance(around.store, MemoryStore)
    around.store.texts.clear()
    around.clock.advance(1000)
    around.vectors.is_writable = False

    assert outcome(await asked(around, SAME)) == ("edge-model", "miss")
    assert around.log.names() == ["semantic_write_failed", "semantic_write_failed"]


# What was wrong


async def test_bad_hit_is_forgotten() -> None:
    """Rated bad, its entry and its vector are removed, and it is counted."""
    clock = FakeClock()
    around = world(feedback=FakeFeedbackStore(), counters=FakeCounters(clock), clock=clock)
    await asked(around)
    hit = await asked(around, SAME)
    rating = {"request_id": hit.headers["x-request-id"], "rating": "bad"}
    assert (await around.ask(rating, path="/v1/feedback")).status == 200

    assert around.log.lines == [("semantic_false_hit", {"tenant": "open"})]
    assert around.vectors.rows == {}
    assert outcome(await asked(around)) == ("edge-model", "miss")
    counts = await counted(around)
    assert (counts["hit"], counts["miss"], counts["false_hit"]) == (1, 2, 1)


async def test_bad_hit_that_can_not_be_counted() -> None:
    """Is forgotten all the same."""
    clock = FakeClock()
    counters = FakeCounters(clock)
    around = world(feedback=FakeFeedbackStore(), counters=counters, clock=clock)
    await asked(around)
    hit = await asked(around, SAME)
    counters.is_down = True
    rating = {"request_id": hit.headers["x-request-id"], "rating": "bad"}

    assert (await around.ask(rating, path="/v1/feedback")).status == 200
    assert around.vectors.rows == {}


@pytest.mark.parametrize(
    ("prompt", "rating"), [pytest.param(SAME, "good", id="good"), pytest.param(SIMPLE_PROMPT, "bad", id="exact hit")]
)
async def test_rating_that_forgets_nothing(prompt: str, rating: str) -> None:
    """Only a bad answer to another question says that the two are not the same."""
    around = world(feedback=FakeFeedbackStore())
    await asked(around)
    hit = await asked(around, prompt)
    await around.ask({"request_id": hit.headers["x-request-id"], "rating": rating}, path="/v1/feedback")

    assert len(around.vectors.rows) == 1


async def test_bad_hit_while_nothing_can_be_written() -> None:
    """Both removals are tried; the log says that they failed."""
    around = world()
    await asked(around)
    [key] = around.vectors.rows
    around.vectors.is_writable = False
    await semantic_of(around).forget("open", key)

    assert isinstance(around.store, MemoryStore)
    assert key not in around.store.texts
    assert around.log.names() == ["semantic_false_hit", "semantic_write_failed"]


def test_candidates_are_ordered_and_bounded() -> None:
    """Nearest first, five at most, whatever the index sends."""
    matches = [{"id": f"k{n}", "score": n / 10, "metadata": {"context": "c", "at": n}} for n in range(8)]
    candidates = read_candidates({"matches": matches})

    assert candidates[0] == Candidate("k7", 0.7, "c", 7.0)
    assert [candidate.key for candidate in candidates] == ["k7", "k6", "k5", "k4", "k3"]


def test_report_without_a_look_up() -> None:
    """Says nothing of it."""
    assert Report("r1").body() == {"request_id": "r1"}

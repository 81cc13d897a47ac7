"""`POST /v1/feedback` and what is kept for it: records without text, per tenant, bounded in number and age."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from edge_router import feedback, feedback_records
from edge_router.auth import Tenant, hash_secret
from edge_router.chat_call import ChatCall
from edge_router.feedback import MAX_FEATURES, MAX_WAITING, FeedbackBook
from edge_router.feedback_records import LABELLED_S, UNRATED_S, AnswerRecord, FeedbackTable, hashed_terms
from edge_router.location import UNKNOWN
from edge_router.replies import Reply
from edge_router.report import Report
from edge_router.requests import parse_chat
from tests.edge_router.harness import SIMPLE_PROMPT, World, chat_body, error_of, read_json, read_stream
from tests.fakes import START_S, FakeFeedbackStore, FakeRequest, MemorySql, MemoryStore

SECRET = "s" * 24


class OffsetStore(FakeFeedbackStore):
    """Whose ratings have moved the thresholds of everyone."""

    async def add(self, tenant: str, records: Sequence[AnswerRecord]) -> float:
        await super().add(tenant, records)
        return 0.25


def world(**fields: Any) -> World:
    return World(feedback=FakeFeedbackStore(), **fields)


async def answered(world: World, request_id: str = "r1", **fields: Any) -> None:
    """One chat, with all that comes after it."""
    reply = await world.ask(chat_body(**fields), headers={"x-request-id": request_id})
    if fields.get("stream"):
        await read_stream(reply)
    await world.background.finish()


async def rated(world: World, rating: Any = "good", request_id: Any = "r1", **fields: Any) -> Reply:
    return await world.ask({"request_id": request_id, "rating": rating, **fields}, path="/v1/feedback")


async def exported(world: World) -> list[dict[str, Any]]:
    reply = await world.ask("", path="/v1/feedback/export", method="GET")
    assert isinstance(reply.body, str)
    assert reply.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in reply.body.splitlines()]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_rating_of_an_answer(stream: bool) -> None:
    """An answer is rated by its request id; what can be learned from it is exported, without any text."""
    gateway = world()
    await answered(gateway, stream=stream)

    reply = await rated(gateway, "bad", comment="the user's own words")

    assert reply.status == 200
    assert {name: value for name, value in read_json(reply).items() if name != "nearside"} == {
        "object": "feedback",
        "request_id": "r1",
        "rating": "bad",
    }
    (row,) = await exported(gateway)
    assert row["rating"] == "bad"
    assert row["score"] == 0.2
    assert row["served_by"] == "edge-model"
    assert row["features"] == hashed_terms(
        ["what", "is", "the", "capital", "of", "france", "what is", "is the", "the capital", "capital of", "of france"]
    )
    for secret in ("france", "words", "r1"):
        assert secret not in json.dumps(row).lower()


async def test_both_ends_of_a_question() -> None:
    """Its features are read from its beginning and its end."""
    gateway = world()
    await answered(gateway, prompt=f"first {'word ' * 5000} last")

    await rated(gateway)

    (row,) = await exported(gateway)
    assert set(hashed_terms(["first"])) <= set(row["features"])


async def test_later_rating_replaces_the_earlier() -> None:
    """One answer has one rating: the last."""
    gateway = world()
    await answered(gateway)

    await rated(gateway, "bad")
    await rated(gateway, "good")

    assert [row["rating"] for row in await exported(gateway)] == ["good"]


async def test_answer_can_be_rated_before_it_was_written() -> None:
    """A rating that comes at once still finds its answer: the isolate writes what it has noted first."""
    store = FakeFeedbackStore()
    asked = World(feedback=store)
    gateway = asked.gateway()
    chat = FakeRequest("POST", "/v1/chat/completions", json.dumps(chat_body()), {"x-request-id": "r1"}, UNKNOWN)
    rating = FakeRequest("POST", "/v1/feedback", json.dumps({"request_id": "r1", "rating": "good"}), {}, UNKNOWN)

    await gateway.handle(chat, asked.background)
    reply = await gateway.handle(rating, asked.background)

    assert reply.status == 200


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        pytest.param({"rating": "good"}, "request_id", "missing_required_parameter", id="no request"),
        pytest.param({"request_id": "r1"}, "rating", "missing_required_parameter", id="no rating"),
        pytest.param({"request_id": "", "rating": "good"}, "request_id", "invalid_value", id="empty id"),
        pytest.param({"request_id": "ä", "rating": "good"}, "request_id", "invalid_value", id="no id of ours"),
        pytest.param({"request_id": 7, "rating": "good"}, "request_id", "invalid_type", id="id that is no text"),
        pytest.param({"request_id": "r1", "rating": "great"}, "rating", "invalid_value", id="another word"),
        pytest.param({"request_id": "r1", "rating": 1}, "rating", "invalid_value", id="a number"),
        pytest.param({"request_id": "r1", "rating": None}, "rating", "invalid_value", id="null"),
    ],
)
async def test_wrong_feedback(body: dict[str, Any], param: str, code: str) -> None:
    """A 400 that names the parameter."""
    reply = await world().ask(body, path="/v1/feedback")

    assert reply.status == 400
    assert (error_of(reply)["param"], error_of(reply)["code"]) == (param, code)


async def test_unknown_request() -> None:
    """A request that nobody made is 404, and names the parameter."""
    reply = await rated(world())

    assert reply.status == 404
    assert (error_of(reply)["param"], error_of(reply)["code"]) == ("request_id", "unknown_request_id")


async def test_other_tenants_request() -> None:
    """A request of another tenant looks like one that nobody made."""
    records = {tenant: json.dumps({"tenant": tenant, "hashes": [hash_secret(SECRET)]}) for tenant in ("mine", "other")}
    gateway = world(auth="keys", keys=MemoryStore({f"key:{tenant}": record for tenant, record in records.items()}))

    async def ask(tenant: str, body: object, path: str = "/v1/feedback") -> Reply:
        headers = {"authorization": f"Bearer nsk_{tenant}_{SECRET}", "x-request-id": "r1"}
        reply = await gateway.ask(body, path=path, headers=headers)
        await gateway.background.finish()
        return reply

    await ask("mine", chat_body(), "/v1/chat/completions")

    assert (await ask("other", {"request_id": "r1", "rating": "bad"})).status == 404
    assert (await ask("mine", {"request_id": "r1", "rating": "bad"})).status == 200


async def test_feedback_that_is_off() -> None:
    """Nothing is kept, and both paths say why."""
    gateway = World()

    assert error_of(await rated(gateway))["code"] == "feedback_off"
    assert error_of(await gateway.ask("", path="/v1/feedback/export", method="GET"))["code"] == "feedback_off"


async def test_store_that_is_down() -> None:
    """Answers are not hurt; ratings and the export get a 503 that may be repeated."""
    gateway = world()
    assert gateway.feedback is not None
    gateway.feedback.is_down = True

    await answered(gateway)
    reply = await rated(gateway)

    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert error_of(reply)["code"] == "feedback_unavailable"
    assert (await gateway.ask("", path="/v1/feedback/export", method="GET")).status == 503
    assert "feedback_lost" in gateway.log.names()


async def test_answer_from_the_exact_cache() -> None:
    """Is not noted: it repeats one that is."""
    gateway = world()
    await answered(gateway, "r1")
    await answered(gateway, "r2")

    assert (await rated(gateway, "bad", "r2")).status == 404
    assert (await rated(gateway, "bad", "r1")).status == 200


@pytest.mark.parametrize(("rating", "told"), [("bad", [("open", "entry")]), ("good", [])])
async def test_bad_semantic_hit(rating: Any, told: list[tuple[str, str]]) -> None:
    """The semantic cache is told which entry gave a bad answer, and of no other."""
    store, heard = FakeFeedbackStore(), []

    async def hear(tenant: str, key: str) -> None:
        heard.append((tenant, key))

    asked = World()
    book = FeedbackBook(store, clock=asked.clock, log=asked.log)
    book.on_bad_hit = hear
    await store.add("open", [AnswerRecord("r1", START_S, served_by="semantic-cache", cache_key="entry")])
    await store.add("open", [AnswerRecord("r2", START_S, served_by="exact-cache", cache_key="other")])

    await book.rate("open", "r1", rating)
    await book.rate("open", "r2", rating)

    assert heard == told


async def test_offsets_of_many_tenants(monkeypatch: pytest.MonkeyPatch) -> None:
    """An isolate remembers a bounded number of them; until it is told again, a tenant has none."""
    monkeypatch.setattr(feedback, "MOST_TENANTS", 2)
    asked, store = World(), OffsetStore()
    book = FeedbackBook(store, clock=asked.clock, log=asked.log, flush_after_s=0)
    for tenant in ("a", "b", "c"):
        body = chat_body()
        request, background, report = parse_chat(body), asked.background, Report(f"r-{tenant}")
        book.note(ChatCall(request, body, Tenant(tenant), None, {}, background, report, 0.0))
        await background.finish()

    assert [book.offset(tenant) for tenant in ("a", "b", "c")] == [0.0, 0.0, 0.25]


async def test_what_is_not_kept() -> None:
    """Several prompts share one request id, and residency forbids a store that may lie anywhere."""
    gateway = world()

    for stream in (False, True):
        await gateway.ask({"prompt": ["a", "b"], "stream": stream}, path="/v1/completions")
    await gateway.ask({"prompts": ["a", "b"]}, path="/v1/completions/batch")
    await gateway.ask(chat_body(residency="eu"))
    await gateway.background.finish()

    assert gateway.feedback is not None
    assert gateway.feedback.tables == {}


async def test_many_answers_are_written_together() -> None:
    """One write for all that came within a second, and at once when too many wait."""
    gateway = world()
    chats = gateway.gateway()
    for number in range(MAX_WAITING):
        body = json.dumps(chat_body(f"{SIMPLE_PROMPT} {number}"))
        request = FakeRequest("POST", "/v1/chat/completions", body, {"x-request-id": f"r{number}"}, UNKNOWN)
        await chats.handle(request, gateway.background)
    cache_writes = MAX_WAITING

    assert len(gateway.background) == cache_writes + 2


def test_long_question() -> None:
    """Of a long question a bounded number of features is kept."""
    assert len(hashed_terms(str(number) for number in range(MAX_FEATURES))) <= MAX_FEATURES


def record(number: int, at_s: float = START_S, **fields: Any) -> AnswerRecord:
    return AnswerRecord(f"r{number}", at_s, **fields)


def test_only_the_newest_rows_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of answers without a rating, and apart from them of those with one, the oldest make room."""
    monkeypatch.setattr(feedback_records, "MAX_UNRATED", 3)
    monkeypatch.setattr(feedback_records, "MAX_LABELLED", 2)
    table = FeedbackTable(MemorySql())

    table.add([record(number, escalated="empty") for number in (1, 2, 3)])
    table.add([record(number) for number in (4, 5, 6, 7)])

    assert len(table.labelled().splitlines()) == 2
    assert table.rate("r1", "bad") is None
    assert table.rate("r4", "bad") is None
    assert table.rate("r5", "bad") == replace(record(5), rating="bad")


def test_old_rows_are_forgotten() -> None:
    """Unrated answers go after 30 days, the others after a year; the table says when the next one is due."""
    table = FeedbackTable(MemorySql())
    table.add([record(1), record(2), record(3, escalated="refusal")])
    table.rate("r2", "good")

    assert table.forget_old(START_S) == START_S + UNRATED_S
    assert table.forget_old(START_S + UNRATED_S) == START_S + LABELLED_S
    assert table.rate("r1", "good") is None
    assert len(table.labelled().splitlines()) == 2
    assert table.forget_old(START_S + LABELLED_S) is None
    assert table.labelled() == ""


def test_request_id_that_comes_again() -> None:
    """It names the later answer."""
    table = FeedbackTable(MemorySql())
    table.add([record(1, model="a", escalated="empty")])
    table.add([record(1, model="b")])

    rated = table.rate("r1", "good")

    assert rated is not None
    assert (rated.model, rated.escalated) == ("b", "")
    assert len(table.labelled().splitlines()) == 1

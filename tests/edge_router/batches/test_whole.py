"""Batches that a provider with OpenAI's batch API answers whole, and when they are answered here after all."""

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from edge_router.batches import whole
from edge_router.batches.book import WINDOW_S
from edge_router.batches.whole import END_GRACE_S, HAND_OVERS
from edge_router.ports import UpstreamResponse
from edge_router.settings import BatchUpstream, SettingsError, read_settings
from tests.edge_router.batches.harness import BatchWorld, line
from tests.edge_router.harness import CLOUD_FAST, World, bearer, chat_body, completion, key_records
from tests.fakes import STALL, FakeBatchProviders, FakeLedger, FakeMessage, FakeUpstreamResponse

UPSTREAM = BatchUpstream("there", "https://there.test/v1", frozenset({CLOUD_FAST.id}), 0.5, "sk-there")
NAMES = [f"r{number}" for number in range(45)]


def good(body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    return 200, completion(f"There: {body['messages'][-1]['content']}")


def whole_world(providers: FakeBatchProviders | None = None, world: World | None = None) -> BatchWorld:
    return BatchWorld(world or World(), upstreams=[UPSTREAM], providers=providers or FakeBatchProviders(good))


def request(name: str, **fields: Any) -> str:
    return line(name, **{"model": CLOUD_FAST.id, **chat_body(name), **fields})


def twice(text: str, field: str, place: str | None = None) -> str:
    """The line with one more field in front of `place`, or of itself."""
    return text.replace(place or field, f"{field}, {place or field}")


def all_requests(**fields: Any) -> str:
    return "\n".join(request(name, **fields) for name in NAMES)


def ids(lines: list[dict[str, Any]]) -> list[object]:
    return [each["custom_id"] for each in lines]


async def run_until(batches: BatchWorld, batch_id: str, call: str, tenant: str = "open") -> None:
    """Works until the provider was called so."""
    for _ in range(1000):
        if any(each.startswith(call) for each in batches.providers.calls):
            return
        await batches.take(batches.due(tenant))
        batches.world.clock.advance(1)
    raise AssertionError(call)


async def until_it_has_ended_there(batches: BatchWorld, batch_id: str, tenant: str = "open", **headers: str) -> None:
    """Works until the results are to be collected."""
    while (await batches.get(f"/v1/batches/{batch_id}", **headers))["status"] != "finalizing":
        await batches.take(batches.due(tenant))
        batches.world.clock.advance(60)


async def test_handed_over_whole() -> None:
    """The file goes to the provider once; its results, in whatever order they come, lie here in that of the requests,
    and nothing is left there.
    """
    batches = whole_world()

    batch = await batches.run(await batches.create(all_requests()))

    lines = batches.lines_of(batch)
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 45, "completed": 45, "failed": 0}
    assert batch["usage"]["total_tokens"] == 45 * 15
    assert ids(lines) == NAMES
    assert lines[7]["response"]["body"]["choices"][0]["message"]["content"] == "There: r7"
    assert batches.world.calls == 0
    assert batches.providers.calls.count("POST /files") == 1
    assert batches.providers.files == {}
    assert [key for key in batches.bucket.objects if key.startswith("parts/")] == []


async def test_counts_are_passed_on() -> None:
    """While the batch runs, its counts are the provider's."""
    batches = whole_world(FakeBatchProviders(good, polls=5))
    batch_id = await batches.create(all_requests())
    await run_until(batches, batch_id, "GET /batches/batch_there0")

    batch = await batches.get(f"/v1/batches/{batch_id}")

    assert (batch["status"], batch["request_counts"]) == ("in_progress", {"total": 45, "completed": 1, "failed": 0})


async def test_errors_and_missing_results() -> None:
    """A line that the provider refuses is in the error file as it came; one that it forgot gets an error from us."""

    def answer(body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]] | None:
        name = body["messages"][-1]["content"]
        return None if name == "r3" else (400, {"error": {"message": "no"}}) if name == "r5" else good(body)

    batches = whole_world(FakeBatchProviders(answer))

    batch = await batches.run(await batches.create(all_requests()))

    errors = batches.lines_of(batch, "error_file_id")
    assert batch["request_counts"] == {"total": 45, "completed": 43, "failed": 2}
    assert ids(errors) == ["r3", "r5"]
    assert errors[0]["error"]["code"] == "batch_request_failed"
    assert errors[1]["response"]["status_code"] == 400


async def test_large_results_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results that do not fit into memory at once are put in order all the same."""
    monkeypatch.setattr(whole, "HELD_BYTES", 1000)
    monkeypatch.setattr(whole, "RANGE_BYTES", 700)
    monkeypatch.setattr(whole, "GAP_BYTES", 300)
    batches = whole_world()

    batch = await batches.run(await batches.create(all_requests()))

    assert ids(batches.lines_of(batch)) == NAMES


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(request("a") + "\n" + request("b", model="cloud-quality-1"), id="another model"),
        pytest.param(request("a") + "\n" + line("b", **chat_body("b")), id="no model"),
        pytest.param(request("a", cache_ttl_s=60), id="a field of ours"),
        pytest.param(request("a", residency="eu"), id="residency"),
        pytest.param(request("a", stream=True), id="stream"),
        pytest.param(twice(request("a"), '"custom_id": "a"'), id="custom_id twice"),
        pytest.param(twice(request("a"), '"model": "cloud-fast-1"'), id="a name of the body twice"),
        pytest.param(twice(request("a"), '"role": "user"'), id="a name of a message twice"),
        pytest.param(twice(request("a"), r'"r\u006fle": "user"', '"role": "user"'), id="a name in two ways of writing"),
    ],
)
async def test_answered_here(data: str) -> None:
    """What the provider would do otherwise than we, or not at all, our own queue answers."""
    batches = whole_world()

    batch = await batches.run(await batches.create(data))

    assert batch["status"] == "completed"
    assert batches.providers.calls == []


@pytest.mark.parametrize(
    "record",
    [
        {"models": ["edge"]},
        {"prompts": {"optimize": True}},
        {"budget": {"usd_day": 100}},  # and no line says how long its answer may be
        {"budget": {"usd_day": 1e-6}},
    ],
    ids=["model not allowed", "prompt rules", "no end to the cost", "too dear"],
)
async def test_key_record_decides(record: dict[str, Any]) -> None:
    """A key's models, prompt rules and budget hold: where the whole would pass them by, lines are answered here."""
    limit = {} if record == {"budget": {"usd_day": 100}} else {"max_tokens": 10}
    ledger = FakeLedger(World().clock)
    world = World(auth="keys", keys=key_records(k001={"tenant": "acme", **record}), ledger=ledger)
    batches = whole_world(world=world)

    batch = await batches.run(
        await batches.create(request("a", **limit), **bearer()), "acme", authorization=bearer()["authorization"]
    )

    assert batch["status"] == "completed"
    assert "POST /files" not in batches.providers.calls


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": -5000},
        {"max_tokens": True},
        {"max_tokens": "9"},
        {"max_tokens": 9, "n": 10**6},
        {"max_tokens": "9", "max_completion_tokens": 9},
    ],
    ids=["below zero", "no number", "text", "too many choices", "text and a number"],
)
async def test_limits_that_are_none(fields: dict[str, Any]) -> None:
    """They bound no cost, and take nothing off that of other lines: the batch is answered here, where such a line is an
    error.
    """
    world = World(auth="keys", keys=key_records(k001={"tenant": "acme", "budget": {"usd_day": 100}}))
    batches = whole_world(world=world)
    data = request("a", max_tokens=9) + "\n" + request("b", **fields)

    batch = await batches.run(await batches.create(data, **bearer()), "acme", authorization=bearer()["authorization"])

    assert "POST /files" not in batches.providers.calls
    assert ids(batches.lines_of(batch, "error_file_id", "acme")) == ["b"]


async def test_two_limits() -> None:
    """Of a key with a budget such a line is answered here: the provider may take the larger one."""
    world = World(auth="keys", keys=key_records(k001={"tenant": "acme", "budget": {"usd_day": 100}}))
    batches = whole_world(world=world)
    data = request("a", max_completion_tokens=1, max_tokens=100_000)

    batch = await batches.run(await batches.create(data, **bearer()), "acme", authorization=bearer()["authorization"])

    assert batch["status"] == "completed"
    assert batches.providers.calls == []


@pytest.mark.parametrize("is_checked", [False, True])
@pytest.mark.parametrize(
    "record",
    [
        {"residency": "eu"},
        {"models": ["edge"]},
        {"prompts": {"optimize": True}},
        {"scopes": ["metrics"]},
        {"tenant": "other"},
    ],
    ids=["area", "model not allowed", "prompt rules", "may not infer", "another tenant's"],
)
async def test_key_that_changed_meanwhile(record: dict[str, Any], is_checked: bool) -> None:
    """What a key may no longer do, or no longer so, the provider does not get: before its file is checked or after."""
    keys = key_records(k001={"tenant": "acme"})
    batches = whole_world(world=World(auth="keys", keys=keys))
    batch_id = await batches.create(all_requests(), **bearer())
    if is_checked:
        await batches.take(batches.due("acme"))
    keys.texts |= key_records(k001={"tenant": "acme", **record}).texts
    batches.world.clock.advance(3600)

    while messages := batches.due("acme"):
        await batches.take(messages)

    batch = batches.books.book("acme").batch(batch_id)
    assert batch is not None
    assert batch["status"] == "completed"
    assert "POST /files" not in batches.providers.calls


async def test_budget_is_reserved_and_settled() -> None:
    """While it runs the most that it may cost is reserved; in the end what was used is spent, at the batch price."""
    world = World(auth="keys", keys=key_records(k001={"tenant": "acme", "budget": {"usd_day": 100}}))
    batches = whole_world(FakeBatchProviders(good, polls=5), world)
    batch_id = await batches.create(all_requests(max_tokens=100), **bearer())
    await run_until(batches, batch_id, "GET /batches/batch_there0", "acme")

    running = (await batches.ledger.sums("acme")).day
    await batches.run(batch_id, "acme", authorization=bearer()["authorization"])
    ended = (await batches.ledger.sums("acme")).day

    assert running.spent.nano_usd == 0
    assert running.reserved.nano_usd > 45 * 100 * 20 * 1000 * 0.5  # the answers alone
    assert (ended.spent.nano_usd, ended.reserved.nano_usd) == (45 * (10 * 10 + 5 * 20) * 1000 * 0.5, 0)


@pytest.mark.parametrize("on_failure", ["fail_open", "fail_closed"])
async def test_ledger_that_can_not_be_reached(on_failure: str) -> None:
    """Closed: nothing goes to the provider until it can be asked again; open: it goes."""
    record = {"tenant": "acme", "budget": {"usd_day": 100, "on_failure": on_failure}}
    batches = whole_world(world=World(auth="keys", keys=key_records(k001=record)))
    batch_id = await batches.create(all_requests(max_tokens=9), **bearer())
    await batches.take(batches.due("acme"))  # checked
    batches.ledger.failures = None
    for _ in range(3):
        await batches.take(batches.due("acme"))
        batches.world.clock.advance(61)
    called = "POST /files" in batches.providers.calls

    batches.ledger.failures = 0
    batch = await batches.run(batch_id, "acme", authorization=bearer()["authorization"])

    assert called is (on_failure == "fail_open")
    assert batch["request_counts"] == {"total": 45, "completed": 45, "failed": 0}


@pytest.mark.parametrize("when_s", [0, 30])
async def test_cancel(when_s: int) -> None:
    """The provider is told; what it had finished is delivered, the rest are error lines."""
    batches = whole_world(
        FakeBatchProviders(lambda body: good(body) if body["messages"][-1]["content"] < "r2" else None, polls=10**6)
    )
    batch_id = await batches.create(all_requests())
    await run_until(batches, batch_id, "POST /batches")
    batches.world.clock.advance(when_s)
    reply = await batches.ask("POST", f"/v1/batches/{batch_id}/cancel")
    await run_until(batches, batch_id, "POST /batches/batch_there0/cancel")
    batches.providers.polls = 0

    batch = await batches.run(batch_id)

    assert reply.status == 200
    assert batch["status"] == "cancelled"
    done = [name for name in NAMES if name < "r2"]
    assert ids(batches.lines_of(batch)) == done
    errors = batches.lines_of(batch, "error_file_id")
    assert ids(errors) == [name for name in NAMES if name not in done]
    assert {each["error"]["code"] for each in errors} == {"batch_cancelled"}


async def test_cancel_before_it_is_handed_over() -> None:
    """Nothing goes to the provider."""
    batches = whole_world()
    batch_id = await batches.create(all_requests())
    await batches.take(batches.due())  # checked
    await batches.ask("POST", f"/v1/batches/{batch_id}/cancel")

    batch = await batches.run(batch_id)

    assert (batch["status"], batch["request_counts"]["failed"]) == ("cancelled", 45)
    assert "POST /files" not in batches.providers.calls


@pytest.mark.parametrize(
    "records",
    [
        {},
        {"k001": {"tenant": "acme", "scopes": ["metrics"]}},
        {"k001": {"tenant": "acme", "residency": "eu"}},
        {"k001": {"tenant": "other"}},
    ],
    ids=["gone", "may not infer", "area", "another tenant's"],
)
async def test_withdrawn_key(records: dict[str, dict[str, Any]]) -> None:
    """The batch of a key that may no longer ask is stopped at the provider."""
    keys = key_records(k001={"tenant": "acme"})
    batches = whole_world(FakeBatchProviders(good, polls=10**6), World(auth="keys", keys=keys))
    batch_id = await batches.create(all_requests(), **bearer())
    await run_until(batches, batch_id, "POST /batches", "acme")
    keys.texts = key_records(**records).texts
    batches.world.clock.advance(3600)
    await run_until(batches, batch_id, "POST /batches/batch_there0/cancel", "acme")
    batches.providers.polls = 0

    for _ in range(200):
        await batches.take(batches.due("acme"))
        batches.world.clock.advance(1)

    batch = batches.books.book("acme").batch(batch_id)
    assert batch is not None
    assert batch["status"] == "cancelled"


@pytest.mark.parametrize("is_reachable", [True, False])
async def test_expiry(is_reachable: bool) -> None:
    """After 24 hours the provider is told to stop; one that is not to be reached is waited for a while only."""
    batches = whole_world(FakeBatchProviders(lambda body: None, polls=10**6))
    batch_id = await batches.create(all_requests())
    await run_until(batches, batch_id, "POST /batches")
    batches.world.clock.advance(WINDOW_S)
    if is_reachable:
        await run_until(batches, batch_id, "POST /batches/batch_there0/cancel")
        batches.providers.polls = 0
    else:
        batches.providers.failures = [0] * 1000

    batch = await batches.run(batch_id, within_s=END_GRACE_S + 120)

    errors = batches.lines_of(batch, "error_file_id")
    assert batch["status"] == "expired"
    assert ids(errors) == NAMES
    assert {each["error"]["code"] for each in errors} == {"batch_expired"}


@pytest.mark.parametrize(
    "failures",
    [
        pytest.param([401], id="key refused"),
        pytest.param([200, 413], id="file refused"),
        pytest.param([200, 200, 400], id="batch refused"),
        pytest.param([503] * HAND_OVERS, id="down"),
        pytest.param([0] * HAND_OVERS, id="unreachable"),
    ],
)
async def test_taken_back(failures: list[int | None]) -> None:
    """A provider that will not have the batch: our own queue answers it, and nothing stays reserved for it."""
    world = World(auth="keys", keys=key_records(k001={"tenant": "acme", "budget": {"usd_day": 100}}))
    batches = whole_world(FakeBatchProviders(good, failures=failures), world)

    batch = await batches.run(
        await batches.create(all_requests(max_tokens=9), **bearer()), "acme", authorization=bearer()["authorization"]
    )

    assert batch["request_counts"] == {"total": 45, "completed": 45, "failed": 0}
    assert ids(batches.lines_of(batch, tenant="acme")) == NAMES
    assert batches.world.calls > 0
    await world.background.finish()
    assert (await batches.ledger.sums("acme")).day.reserved.nano_usd == 0


class GarbageProviders(FakeBatchProviders):
    """Whose answers to one call are no sense."""

    garbage: tuple[str, Any] = ("", None)

    def _answer(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        found = super()._answer(method, path, body)
        return self.garbage[1] if f"{method} {path}" == self.garbage[0] else found


@pytest.mark.parametrize("garbage", [b"<html>", [1]], ids=["no JSON", "no object"])
async def test_answers_without_sense(garbage: Any) -> None:
    """As a provider that is down: it is asked again, then the batch is answered here."""
    providers = GarbageProviders(good)
    providers.garbage = ("GET /batches", garbage)
    batches = whole_world(providers)

    batch = await batches.run(await batches.create(all_requests()))

    assert batch["request_counts"] == {"total": 45, "completed": 45, "failed": 0}
    assert batches.world.calls > 0


async def test_created_without_an_id() -> None:
    """As if no answer had come: it is found there."""
    providers = GarbageProviders(good)
    providers.garbage = ("POST /batches", {"object": "batch"})
    batches = whole_world(providers)

    batch = await batches.run(await batches.create(all_requests()))

    assert batch["request_counts"]["completed"] == 45
    assert (len(providers.batches), batches.world.calls) == (1, 0)


async def test_batch_that_was_created_unnoticed() -> None:
    """The connection broke before its id came: it is found there, and no second one is made."""
    batches = whole_world(FakeBatchProviders(good, failures=[200, 200, None]))

    batch = await batches.run(await batches.create(all_requests()))

    assert batch["request_counts"]["completed"] == 45
    assert batches.providers.calls.count("POST /batches") == 1
    assert batches.world.calls == 0


class SlowProviders(FakeBatchProviders):
    """Others get on while one of its calls is under way."""

    async def ask(self, *asked: Any) -> UpstreamResponse:
        response = await super().ask(*asked)
        await asyncio.sleep(0)
        return response


async def test_handed_over_twice_at_once() -> None:
    """Two workers that hand over the same batch: what the second one made there is stopped."""
    batches = whole_world(SlowProviders(good))
    batch_id = await batches.create(all_requests())
    await batches.take(batches.due())  # checked
    (message,) = batches.due()
    await batches.take([message, FakeMessage(message.body)])

    batch = await batches.run(batch_id)

    states = [each["status"] for each in batches.providers.batches.values()]
    assert batch["request_counts"] == {"total": 45, "completed": 45, "failed": 0}
    assert states[0] == "completed"
    assert [call for call in batches.providers.calls if call.endswith("/cancel")] == [
        "POST /batches/batch_there1/cancel"
    ]


async def test_collected_twice_at_once() -> None:
    """What was used is spent once."""
    world = World(auth="keys", keys=key_records(k001={"tenant": "acme", "budget": {"usd_day": 100}}))
    batches = whole_world(SlowProviders(good), world)
    batch_id = await batches.create(all_requests(max_tokens=100), **bearer())
    await until_it_has_ended_there(batches, batch_id, "acme", authorization=bearer()["authorization"])
    (message,) = batches.due("acme")

    await batches.take([message, FakeMessage(message.body)])

    batch = await batches.get(f"/v1/batches/{batch_id}", authorization=bearer()["authorization"])
    assert (batch["status"], batch["usage"]["total_tokens"]) == ("completed", 45 * 15)
    assert world.log.names().count("batch_collected") == 1


@pytest.mark.parametrize("ending", ["expired", "cancelled"])
async def test_ended_there_by_itself(ending: str) -> None:
    """The provider ran out of time, or somebody stopped it there: so it ends here, with what was finished."""
    batches = whole_world(
        FakeBatchProviders(lambda body: good(body) if body["messages"][-1]["content"] < "r2" else None, ending=ending)
    )

    batch = await batches.run(await batches.create(all_requests()))

    done = [name for name in NAMES if name < "r2"]
    assert (batch["status"], batch[f"{ending}_at"] is None) == (ending, False)
    assert ids(batches.lines_of(batch)) == done
    assert {each["error"]["code"] for each in batches.lines_of(batch, "error_file_id")} == {f"batch_{ending}"}


async def test_cancelled_batch_that_the_provider_lost() -> None:
    """It ends as cancelled; nothing is answered here any more."""
    batches = whole_world(FakeBatchProviders(good, polls=10**6))
    batch_id = await batches.create(all_requests())
    await run_until(batches, batch_id, "POST /batches")
    await batches.ask("POST", f"/v1/batches/{batch_id}/cancel")
    batches.providers.batches.clear()

    batch = await batches.run(batch_id)

    assert batch["status"] == "cancelled"
    assert ids(batches.lines_of(batch, "error_file_id")) == NAMES
    assert batches.world.calls == 0


async def test_wakes_for_the_next_question() -> None:
    """Every minute while the batch runs there, and when it has expired."""
    batches = whole_world(FakeBatchProviders(good, polls=10**6))
    clock = batches.world.clock
    batch_id = await batches.create(all_requests())
    await run_until(batches, batch_id, "POST /batches")
    book = batches.books.book("open")
    running_s = book.wake_s(clock.now_s())
    clock.advance(WINDOW_S)
    messages = batches.due()
    expired_s = book.wake_s(clock.now_s())

    assert running_s is not None
    assert 58 <= running_s - clock.now_s() + WINDOW_S <= 60
    assert [message.body["op"] for message in messages] == ["poll"]
    assert expired_s == clock.now_s() + batches.books.lease_s


async def test_input_that_was_lost_before_it_was_handed_over() -> None:
    """There is nothing to hand over."""
    batches = whole_world()
    await batches.create(all_requests())
    await batches.take(batches.due())  # checked
    batches.bucket.objects.clear()

    await batches.take(batches.due())

    assert ("batch_taken_back", {"upstream": "there", "reason": "no_input_file"}) in batches.world.log.lines
    assert "POST /files" not in batches.providers.calls


async def test_provider_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for as long as CALL_S, and asked again later."""
    monkeypatch.setattr(whole, "CALL_S", 0.01)

    class Silent(FakeBatchProviders):
        async def ask(self, *asked: Any) -> UpstreamResponse:
            if not self.calls:
                self.calls.append("nothing")
                await asyncio.Event().wait()
            return await super().ask(*asked)

    batches = whole_world(Silent(good))

    batch = await batches.run(await batches.create(all_requests()))

    reason = "No answer from there in time."
    assert ("batch_upstream_failed", {"upstream": "there", "reason": reason}) in batches.world.log.lines
    assert (batch["request_counts"]["completed"], batches.world.calls) == (45, 0)


class Stalling(FakeBatchProviders):
    """The first answer to one call begins, and then nothing more of it comes."""

    call = ""
    stalled: FakeUpstreamResponse | None = None

    def _faulty(self, call: str, act: Callable[[], Any]) -> UpstreamResponse:
        if self.stalled is None and call.startswith(self.call):
            self.stalled = FakeUpstreamResponse(b'{"data":', STALL)
            return self.stalled
        return super()._faulty(call, act)


@pytest.mark.parametrize(
    "call",
    ["GET /batches?", "POST /files", "POST /batches", "GET /batches/batch_there0", "GET /files/file-there1/content"],
)
async def test_provider_that_stalls(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """What began to come is waited for no longer than its time, then the call is ended and made again later."""
    monkeypatch.setattr(whole, "CALL_S", 0.01)
    monkeypatch.setattr(whole, "PIECE_S", 0.01)
    providers = Stalling(good)
    providers.call = call
    batches = whole_world(providers)

    async with asyncio.timeout(20):
        batch = await batches.run(await batches.create(all_requests()))

    assert providers.stalled is not None
    assert providers.stalled.is_cancelled
    assert (batch["request_counts"]["completed"], batches.world.calls) == (45, 0)
    assert ids(batches.lines_of(batch)) == NAMES


async def test_upload_that_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its time as a whole; then the batch is handed over again."""
    monkeypatch.setattr(whole, "UPLOAD_S", 0.01)

    class Stuck(FakeBatchProviders):
        uploads = 0

        async def upload(self, *asked: Any) -> UpstreamResponse:
            self.uploads += 1
            if self.uploads == 1:
                await asyncio.Event().wait()
            return await super().upload(*asked)

    batches = whole_world(Stuck(good))

    async with asyncio.timeout(20):
        batch = await batches.run(await batches.create(all_requests()))

    reason = "No answer from there in time."
    assert ("batch_upstream_failed", {"upstream": "there", "reason": reason}) in batches.world.log.lines
    assert (batch["request_counts"]["completed"], batches.world.calls) == (45, 0)


async def test_key_that_got_a_budget_meanwhile() -> None:
    """Nobody knows what the whole may cost at most: its lines are answered here, one by one."""
    keys = key_records(k001={"tenant": "acme"})
    batches = whole_world(world=World(auth="keys", keys=keys))
    batch_id = await batches.create(all_requests(), **bearer())
    await batches.take(batches.due("acme"))  # checked
    keys.texts |= key_records(k001={"tenant": "acme", "budget": {"usd_day": 100}}).texts
    batches.world.clock.advance(3600)

    batch = await batches.run(batch_id, "acme", authorization=bearer()["authorization"])

    assert batch["request_counts"]["completed"] == 45
    assert "POST /files" not in batches.providers.calls


@pytest.mark.parametrize("is_reachable", [True, False])
async def test_reservation_of_a_batch_without_results(is_reachable: bool) -> None:
    """It is given back when the provider says that there are none; else it stays, and counts as spent in the end."""
    world = World(auth="keys", keys=key_records(k001={"tenant": "acme", "budget": {"usd_day": 100}}))
    batches = whole_world(FakeBatchProviders(lambda body: None, polls=10**6, ending="expired"), world)
    batch_id = await batches.create(all_requests(max_tokens=9), **bearer())
    await run_until(batches, batch_id, "POST /batches", "acme")
    reserved = (await batches.ledger.sums("acme")).day.reserved.nano_usd
    batches.world.clock.advance(WINDOW_S)
    batches.providers.polls = 0
    batches.providers.failures = [] if is_reachable else [0] * 1000

    batch = await batches.run(batch_id, "acme", within_s=END_GRACE_S + 120, authorization=bearer()["authorization"])

    month = (await batches.ledger.sums("acme")).month
    assert (batch["status"], reserved > 0) == ("expired", True)
    assert (month.reserved.nano_usd + month.spent.nano_usd == 0) is is_reachable


async def test_found_without_its_file() -> None:
    """Of a batch that is found there only the id is needed; a file that is not named stays there."""

    class Forgetful(FakeBatchProviders):
        def _answer(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
            found = super()._answer(method, path, body)
            if (method, path) != ("GET", "/batches"):
                return found
            return {"data": [{"id": each["id"], "metadata": each["metadata"]} for each in found["data"]]}

    batches = whole_world(Forgetful(good, failures=[200, 200, None]))

    batch = await batches.run(await batches.create(all_requests()))

    assert batch["request_counts"]["completed"] == 45
    assert (len(batches.providers.batches), len(batches.providers.files), batches.world.calls) == (1, 1, 0)


@pytest.mark.parametrize("listed", [5, [5], [{"id": "x"}], [{"id": "x", "metadata": [1]}], "ours without an id"])
async def test_list_without_sense(listed: Any) -> None:
    """What can't be read of the provider's list of batches is passed over."""
    providers = GarbageProviders(good)
    batches = whole_world(providers)
    batch_id = await batches.create(all_requests())
    ours = [{"id": 7, "metadata": {whole.TAG: batch_id}}]
    providers.garbage = ("GET /batches", {"data": ours if isinstance(listed, str) else listed})

    batch = await batches.run(batch_id)

    assert batch["request_counts"]["completed"] == 45
    assert (len(providers.batches), batches.world.calls) == (1, 0)


@pytest.mark.parametrize(
    "answer", [{"object": "batch"}, {"status": ["completed"], "request_counts": [1]}, {"status": "resting"}]
)
async def test_state_that_is_not_known(answer: dict[str, Any]) -> None:
    """The batch goes on, and is asked about again."""
    providers = GarbageProviders(good)
    providers.garbage = ("GET /batches/batch_there0", answer)
    batches = whole_world(providers)
    batch_id = await batches.create(all_requests())
    await run_until(batches, batch_id, "GET /batches/batch_there0")
    meanwhile = await batches.get(f"/v1/batches/{batch_id}")
    providers.garbage = ("", None)

    batch = await batches.run(batch_id)

    assert (meanwhile["status"], meanwhile["request_counts"]["completed"]) == ("in_progress", 0)
    assert batch["request_counts"]["completed"] == 45
    assert "crash" not in batches.world.log.names()


@pytest.mark.parametrize("failure", [0, 404, 503])
async def test_results_that_can_not_be_read(failure: int) -> None:
    """They are fetched again, whole."""
    batches = whole_world()
    batch_id = await batches.create(all_requests())
    await until_it_has_ended_there(batches, batch_id)
    batches.providers.failures = [failure]

    batch = await batches.run(batch_id)

    assert ids(batches.lines_of(batch)) == NAMES


async def test_results_of_a_provider_that_is_no_longer_configured() -> None:
    """They are fetched when it is configured again; nothing is answered a second time."""
    batches = whole_world()
    batch_id = await batches.create(all_requests())
    await until_it_has_ended_there(batches, batch_id)
    batches.upstreams = []
    batches.start_worker()
    (message,) = batches.due()
    await batches.take([message])
    batches.upstreams = [UPSTREAM]
    batches.start_worker()

    batch = await batches.run(batch_id)

    assert message.outcome == "retry"
    assert ids(batches.lines_of(batch)) == NAMES
    assert batches.world.calls == 0


async def test_results_without_a_last_line_break() -> None:
    """The last result counts all the same."""

    class Terse(FakeBatchProviders):
        def _write(self, batch: dict[str, Any]) -> None:
            super()._write(batch)
            key = batch["output_file_id"]
            self.files[key] = self.files[key].removesuffix(b"\n")

    batches = whole_world(Terse(good))

    batch = await batches.run(await batches.create(all_requests()))

    assert ids(batches.lines_of(batch)) == NAMES


async def test_input_that_is_not_the_one_that_was_checked() -> None:
    """No result is put to a request that may be another one."""
    batches = whole_world()
    batch_id = await batches.create(all_requests())
    await until_it_has_ended_there(batches, batch_id)
    stored = dict(batches.bucket.objects)
    batches.bucket.objects = {key: b"x" * len(data) for key, data in stored.items()}
    (message,) = batches.due()
    await batches.take([message])
    meanwhile = await batches.get(f"/v1/batches/{batch_id}")
    batches.bucket.objects = stored

    batch = await batches.run(batch_id)

    assert (message.outcome, meanwhile["output_file_id"]) == ("retry", None)
    assert ids(batches.lines_of(batch)) == NAMES


async def test_cancelled_without_its_provider() -> None:
    """A batch that nobody had yet, of a provider that is no longer configured, ends without it."""
    batches = whole_world()
    batch_id = await batches.create(all_requests())
    await batches.take(batches.due())  # checked
    await batches.ask("POST", f"/v1/batches/{batch_id}/cancel")
    batches.upstreams = []
    batches.start_worker()

    batch = await batches.run(batch_id)

    assert (batch["status"], batch["request_counts"]["failed"]) == ("cancelled", 45)
    assert batches.providers.calls == []


async def test_results_that_nobody_asked_for() -> None:
    """Lines that can't be read, of other requests, or that come twice are left out."""

    class Chatty(FakeBatchProviders):
        def _write(self, batch: dict[str, Any]) -> None:
            super()._write(batch)
            key = batch["output_file_id"]
            lines = self.files[key].splitlines(keepends=True)
            odd = [b"what?\n", b"[1]\n", b'{"custom_id": 5}\n', b'{"custom_id": "nobody"}\n', lines[3]]
            self.files[key] = b"".join([lines[0], *odd, *lines[1:], lines[5]])

    batches = whole_world(Chatty(good))

    batch = await batches.run(await batches.create(all_requests()))

    assert ids(batches.lines_of(batch)) == NAMES
    assert batch["usage"]["total_tokens"] == 45 * 15


async def test_provider_that_never_stops() -> None:
    """A cancelled batch is waited for as long as END_GRACE_S, and ends."""
    batches = whole_world(FakeBatchProviders(good, polls=10**6))
    batch_id = await batches.create(all_requests())
    await run_until(batches, batch_id, "POST /batches")
    await batches.ask("POST", f"/v1/batches/{batch_id}/cancel")

    batch = await batches.run(batch_id, within_s=END_GRACE_S + 120)

    assert batch["status"] == "cancelled"
    assert ids(batches.lines_of(batch, "error_file_id")) == NAMES


@pytest.mark.parametrize("task", ["validate", "hand_over", "poll"])
async def test_keys_that_can_not_be_read(task: str) -> None:
    """Nothing is lost: what needs the key waits, and what runs there goes on."""
    keys = key_records(k001={"tenant": "acme"})
    world = World(auth="keys", keys=keys)
    batches = whole_world(FakeBatchProviders(good, polls=3), world)
    batch_id = await batches.create(all_requests(), **bearer())
    for _ in range(100):
        messages = batches.due("acme")
        if any(message.body["op"] == task for message in messages):
            break
        await batches.take(messages)
        world.clock.advance(10)
    texts = dict(keys.texts)
    world.clock.advance(3600)  # no isolate remembers the key
    keys.texts = dict.fromkeys(texts, "broken")
    await batches.take(messages)
    keys.texts = texts
    world.clock.advance(3600)

    batch = await batches.run(batch_id, "acme", authorization=bearer()["authorization"])

    assert batch["request_counts"] == {"total": 45, "completed": 45, "failed": 0}


async def test_failed_there() -> None:
    """A batch that fails at the provider is answered here, from its beginning."""
    batches = whole_world(FakeBatchProviders(good, ending="failed"))

    batch = await batches.run(await batches.create(all_requests()))

    assert batch["request_counts"] == {"total": 45, "completed": 45, "failed": 0}
    assert batches.world.calls > 0


async def test_key_that_was_withdrawn_before_it_was_handed_over() -> None:
    """The provider gets nothing; each line says why."""
    keys = key_records(k001={"tenant": "acme"})
    batches = whole_world(world=World(auth="keys", keys=keys))
    batch_id = await batches.create(all_requests(), **bearer())
    await batches.take(batches.due("acme"))  # checked
    keys.texts.clear()
    batches.world.clock.advance(3600)

    for _ in range(100):
        await batches.take(batches.due("acme"))
        batches.world.clock.advance(1)

    batch = batches.books.book("acme").batch(batch_id)
    assert batch is not None
    assert (batch["status"], batch["request_counts"]["failed"]) == ("completed", 45)
    assert "POST /files" not in batches.providers.calls


async def test_provider_that_is_no_longer_configured() -> None:
    """While the batch runs there: it is answered here."""
    batches = whole_world(FakeBatchProviders(good, polls=10**6))
    batch_id = await batches.create(all_requests())
    await run_until(batches, batch_id, "GET /batches/batch_there0")
    batches.upstreams = []
    batches.start_worker()

    batch = await batches.run(batch_id)

    assert batch["request_counts"] == {"total": 45, "completed": 45, "failed": 0}
    assert batches.world.calls > 0


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_lost_or_doubled(seed: int) -> None:
    """Messages come twice or never, storage and provider fail at times, answers to what was done are lost: each request
    still has one result, at its place, and no second batch runs at the provider.
    """
    chance = random.Random(seed)
    batches = whole_world(FakeBatchProviders(good, polls=3))
    batch_id = await batches.create(all_requests())

    for _ in range(400):
        for message in batches.due():
            fate = chance.random()
            if fate < 0.2:
                continue  # lost
            batches.bucket.is_down = chance.random() < 0.1
            batches.books.is_down = chance.random() < 0.1
            batches.providers.failures = [chance.choice([None, 0, 503])] if chance.random() < 0.3 else []
            twice = [FakeMessage(message.body), message] if fate > 0.8 else [message]
            for each in twice:
                await batches.take([each])
            batches.bucket.is_down = batches.books.is_down = False
            batches.providers.failures = []
        batches.world.clock.advance(10)
    batch = await batches.run(batch_id)

    both = batches.lines_of(batch) + batches.lines_of(batch, "error_file_id")
    assert sorted(map(str, ids(both))) == sorted(NAMES)
    assert ids(batches.lines_of(batch)) == NAMES
    assert len(batches.providers.batches) <= 1


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"BATCH_UPSTREAMS": [{"id": "a", "url": "https://a.test/v1", "models": ["gpt-4o"]}]}, "BATCH_UPSTREAM_KEYS"),
        ({"BATCH_UPSTREAMS": [{"id": "a", "url": "http://a.test/v1", "models": ["gpt-4o"]}]}, "BATCH_UPSTREAMS.0.url"),
        (
            {
                "BATCH_UPSTREAMS": [{"id": "a", "url": "https://a.test/v1", "models": ["unknown"]}],
                "BATCH_UPSTREAM_KEYS": "a=k",
            },
            "unknown is no cloud model",
        ),
        (
            {
                "BATCH_UPSTREAMS": [{"id": i, "url": "https://a.test/v1", "models": ["gpt-4o"]} for i in "ab"],
                "BATCH_UPSTREAM_KEYS": "a=k,b=k",
            },
            "two upstreams have gpt-4o",
        ),
        (
            {
                "BATCH_UPSTREAMS": [
                    {"id": "a", "url": "https://a.test/v1", "models": [model]} for model in ("gpt-4o", "gpt-4o-mini")
                ],
                "BATCH_UPSTREAM_KEYS": "a=k",
            },
            "a is there twice",
        ),
    ],
    ids=["no key", "not encrypted", "unknown model", "model twice", "id twice"],
)
def test_configured_wrongly(variables: dict[str, Any], message: str) -> None:
    """A provider without a key or with models that are not in the catalog stops the start."""
    with pytest.raises(SettingsError, match=message):
        read_settings(variables)


def test_configured() -> None:
    """Variables are JSON and text, as secrets are; the key is not in what is printed."""
    upstreams = [{"id": "openai", "url": "https://api.openai.com/v1", "models": ["gpt-4o-mini"], "price_factor": 0.5}]

    settings = read_settings({"BATCH_UPSTREAMS": json.dumps(upstreams), "BATCH_UPSTREAM_KEYS": "openai=sk-s3cret"})

    assert settings.batch_upstreams[0].key == "sk-s3cret"
    assert "s3cret" not in repr(settings)

"""A batch from its file to its result files, whatever goes wrong on the way."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from edge_router import embeddings
from edge_router.batches import worker
from edge_router.batches.api import EXPIRES_AFTER_S
from edge_router.batches.book import CANCEL_GRACE_S, WINDOW_S
from edge_router.batches.worker import MAX_ATTEMPTS
from edge_router.errors import UpstreamBusy
from tests.edge_router.batches.harness import BatchWorld, line
from tests.edge_router.harness import World, answer_edge, bearer, edge, key_records
from tests.fakes import EdgeCall, FakeMessage, FakeUpstreamResponse


def ids(lines: list[dict[str, object]]) -> list[object]:
    return [each["custom_id"] for each in lines]


async def test_every_line_is_answered_in_order() -> None:
    """The output file has one line a request, in the order of the input, in OpenAI's form."""
    batches = BatchWorld()
    names = [f"r{number}" for number in range(45)]

    batch = await batches.run(await batches.create("\n".join(map(line, names))))

    lines = batches.lines_of(batch)
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 45, "completed": 45, "failed": 0}
    assert ids(lines) == names
    assert set(lines[0]) == {"id", "custom_id", "response", "error"}
    assert lines[0]["error"] is None
    assert lines[0]["response"]["status_code"] == 200
    assert lines[0]["response"]["body"]["object"] == "chat.completion"
    assert batch["error_file_id"] is None
    assert batch["usage"]["total_tokens"] == 45 * 15
    assert [key for key in batches.bucket.objects if key.startswith("parts/")] == []


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/completions", {"prompt": "Hi"}),
        ("/v1/embeddings", {"input": "Hi", "model": embeddings.MODEL}),
        ("/v1/responses", {"input": "Hi"}),
    ],
)
async def test_other_endpoints(endpoint: str, body: dict[str, object]) -> None:
    """Each line is answered as its endpoint answers."""
    batches = BatchWorld()

    batch = await batches.run(await batches.create(line("a", endpoint, **body), endpoint=endpoint))

    assert [each["response"]["status_code"] for each in batches.lines_of(batch)] == [200]


async def test_refused_lines_go_to_the_error_file() -> None:
    """A request that is wrong in itself is not tried again; its error stands where its answer would."""
    batches = BatchWorld()
    data = "\n".join([line("good"), line("bad", messages=7), line("stream", messages=[], stream=True)])

    batch = await batches.run(await batches.create(data))

    errors = batches.lines_of(batch, "error_file_id")
    assert batch["request_counts"] == {"total": 3, "completed": 1, "failed": 2}
    assert ids(batches.lines_of(batch)) == ["good"]
    assert ids(errors) == ["bad", "stream"]
    assert [each["response"]["status_code"] for each in errors] == [400, 400]
    assert errors[1]["response"]["body"]["error"]["param"] == "stream"


async def test_passing_failures_are_tried_again() -> None:
    """A model that is busy for a while costs time, not answers."""
    failures = iter([True, True, False])

    def answer(call: EdgeCall) -> FakeUpstreamResponse:
        if next(failures, False):
            raise UpstreamBusy("busy")
        return answer_edge(call)

    batches = BatchWorld(World(edge=edge(answer), regions=()))

    batch = await batches.run(
        await batches.create(line("a", model="edge", messages=[{"role": "user", "content": "Hi"}]))
    )

    assert batch["request_counts"]["completed"] == 1
    assert batch["error_file_id"] is None


async def test_lasting_failures_end() -> None:
    """After five attempts the last failure is the line's result."""
    asked: list[EdgeCall] = []

    def answer(call: EdgeCall) -> FakeUpstreamResponse:
        asked.append(call)
        raise UpstreamBusy("busy")

    batches = BatchWorld(World(edge=edge(answer), regions=()))

    batch = await batches.run(
        await batches.create(line("a", model="edge", messages=[{"role": "user", "content": "Hi"}]))
    )

    assert batch["request_counts"]["failed"] == 1
    assert batches.lines_of(batch, "error_file_id")[0]["response"]["status_code"] in (429, 503)
    assert len(asked) >= MAX_ATTEMPTS


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_lost_or_doubled(seed: int) -> None:
    """Consumers die before and after their work, messages come twice, late or never, storage fails at times: each
    request still has one result, at its place.
    """
    chance = random.Random(seed)
    batches = BatchWorld()
    names = [f"r{number}" for number in range(130)]
    batch_id = await batches.create("\n".join(map(line, names)))
    late: list[FakeMessage] = []

    for _ in range(120):
        for message in [*batches.due(), *late]:
            fate = chance.random()
            if fate < 0.2:
                late.append(message)
            if fate < 0.3:
                continue  # lost, or the consumer died before it began
            batches.bucket.is_down = chance.random() < 0.2
            batches.books.is_down = chance.random() < 0.1
            await batches.take([replace(message)])
            batches.bucket.is_down = batches.books.is_down = False
            if fate > 0.9:
                await batches.take([replace(message)])  # done, but the acknowledgement was lost
        late = late[-20:]
        batches.world.clock.advance(5)
    batch = await batches.run(batch_id)

    assert batch["status"] == "completed"
    both = batches.lines_of(batch) + batches.lines_of(batch, "error_file_id")
    assert sorted(map(str, ids(both))) == sorted(names)
    assert ids(batches.lines_of(batch)) == [name for name in names if name in ids(batches.lines_of(batch))]
    counts = batch["request_counts"]
    assert counts["total"] == 130 == counts["completed"] + counts["failed"]
    assert counts["completed"] == len(batches.lines_of(batch))


@pytest.mark.parametrize("held_bytes", [0, 2000], ids=["no room", "room for some"])
async def test_long_results(monkeypatch: pytest.MonkeyPatch, held_bytes: int) -> None:
    """Only so much of them is in memory at a time, and a delivery ends early for it; nothing is lost by that."""
    monkeypatch.setattr(worker, "HELD_BYTES", held_bytes)
    names = [f"r{number}" for number in range(45)]
    batches = BatchWorld()
    held = batches.bucket.objects
    batch_id = await batches.create("\n".join(map(line, names)))
    await batches.take(batches.due())
    for _ in range(3):
        await batches.take(batches.due())
        assert batches.world.calls < len(names)
    assert held_bytes or not [key for key in held if key.startswith("parts/")]

    monkeypatch.setattr(worker, "HELD_BYTES", 2000)
    batch = await batches.run(batch_id)

    assert batch["request_counts"] == {"total": 45, "completed": 45, "failed": 0}
    assert ids(batches.lines_of(batch)) == names
    assert batches.world.calls == len(names)


async def test_expired_files_go() -> None:
    """With their contents, when their time has come, but not while a batch still reads them."""
    batches = BatchWorld()
    unused = await batches.upload(line("a"))
    batch_id = await batches.create(line("b"))
    batches.world.clock.advance(EXPIRES_AFTER_S)
    book = batches.books.book("open")
    now_s = batches.world.clock.now_s()

    reply = await batches.ask("GET", f"/v1/files/{unused}")
    early = book.take_expired_files(now_s)
    batch = await batches.run(batch_id)
    later = book.take_expired_files(now_s)

    assert reply.status == 404
    assert early == [unused]
    assert (batch["status"], later) == ("expired", [batch["input_file_id"]])


async def test_dead_letters_become_error_lines() -> None:
    """Lines on which every delivery broke off are told as such; the others are answered."""
    batches = BatchWorld()
    batch_id = await batches.create("\n".join(line(f"r{number}") for number in range(25)))
    await batches.take(batches.due())
    first, second = batches.due()

    await batches.worker.bury([first])
    await batches.take([second])
    batch = await batches.run(batch_id)

    errors = batches.lines_of(batch, "error_file_id")
    assert first.outcome == "ack"
    assert batch["request_counts"] == {"total": 25, "completed": 5, "failed": 20}
    assert ids(errors) == [f"r{number}" for number in range(20)]
    assert errors[0]["response"] is None
    assert errors[0]["error"]["code"] == "batch_request_failed"


async def test_input_with_errors_fails_the_batch() -> None:
    """Nothing is answered; every wrong line is listed with its number."""
    batches = BatchWorld()

    batch = await batches.run(await batches.create("\n".join([line("a"), "{broken", line("a")])))

    assert batch["status"] == "failed"
    assert [(error["code"], error["line"]) for error in batch["errors"]["data"]] == [
        ("invalid_json_line", 2),
        ("duplicate_custom_id", 3),
    ]
    assert batches.world.calls == 0


async def test_cancel_keeps_what_is_finished() -> None:
    """Lines that were answered stay; the rest is told as cancelled. Cancelling twice changes nothing."""
    batches = BatchWorld()
    batch_id = await batches.create("\n".join(line(f"r{number}") for number in range(45)))
    await batches.take(batches.due())
    await batches.take(batches.due()[:1])

    first = await batches.ask("POST", f"/v1/batches/{batch_id}/cancel")
    second = await batches.ask("POST", f"/v1/batches/{batch_id}/cancel")
    batch = await batches.run(batch_id)
    third = await batches.ask("POST", f"/v1/batches/{batch_id}/cancel")

    assert [reply.status for reply in (first, second, third)] == [200, 200, 200]
    assert batch["status"] == "cancelled"
    assert batch["request_counts"] == {"total": 45, "completed": 20, "failed": 25}
    assert ids(batches.lines_of(batch)) == [f"r{number}" for number in range(20)]
    errors = batches.lines_of(batch, "error_file_id")
    assert {each["error"]["code"] for each in errors} == {"batch_cancelled"}
    assert ids(errors) == [f"r{number}" for number in range(20, 45)]


async def test_cancel_waits_for_what_is_being_answered() -> None:
    """A consumer that has begun may still hand in its results, but is not waited for for ever."""
    batches = BatchWorld()
    batch_id = await batches.create(line("a"))
    await batches.take(batches.due())
    (message,) = batches.due()
    await batches.books.ask("open", "claim", batch_id=batch_id, number=0, sent=message.body["sent"])

    await batches.ask("POST", f"/v1/batches/{batch_id}/cancel")
    waiting = await batches.get(f"/v1/batches/{batch_id}")
    batches.world.clock.advance(CANCEL_GRACE_S)
    batch = await batches.run(batch_id)

    assert waiting["status"] == "cancelling"
    assert batch["status"] == "cancelled"


async def test_cancel_while_the_file_is_read() -> None:
    """No line is told of when not all of them are known."""
    batches = BatchWorld()
    batch_id = await batches.create("\n".join(line(f"r{number}") for number in range(45)))
    first = {"number": 0, "first": 0, "lines": 20, "offset": 0, "bytes": 1}
    await batches.books.ask("open", "add_chunks", batch_id=batch_id, chunks=[first])

    await batches.ask("POST", f"/v1/batches/{batch_id}/cancel")
    batch = await batches.run(batch_id)

    assert batch["status"] == "cancelled"
    assert batch["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert (batch["output_file_id"], batch["error_file_id"]) == (None, None)


async def test_a_finished_batch_can_not_be_cancelled() -> None:
    """As at OpenAI, that is a conflict."""
    batches = BatchWorld()
    batch_id = await batches.create(line("a"))
    await batches.run(batch_id)

    reply = await batches.ask("POST", f"/v1/batches/{batch_id}/cancel")

    assert reply.status == 409


async def test_expiry_keeps_what_is_finished() -> None:
    """After 24 hours what was answered is delivered, and the rest told as expired."""
    batches = BatchWorld()
    batch_id = await batches.create("\n".join(line(f"r{number}") for number in range(25)))
    await batches.take(batches.due())
    await batches.take(batches.due()[:1])

    batches.world.clock.advance(WINDOW_S)
    batch = await batches.run(batch_id)

    assert batch["status"] == "expired"
    assert len(batches.lines_of(batch)) == 20
    assert {each["error"]["code"] for each in batches.lines_of(batch, "error_file_id")} == {"batch_expired"}


async def test_equal_lines_are_answered_from_the_cache() -> None:
    """A batch goes through the same pipeline as a request: what was answered before costs nothing."""
    batches = BatchWorld()
    same: dict[str, Any] = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
    await batches.run(await batches.create(line("a", **same)))
    await batches.world.background.finish()
    calls = batches.world.calls

    batch = await batches.run(await batches.create(line("b", **same)))

    assert batches.world.calls == calls
    assert batches.lines_of(batch)[0]["response"]["body"]["nearside"]["served_by"] == "exact-cache"


async def test_a_withdrawn_key_stops_its_batches() -> None:
    """Lines are answered as what the key may do now, not as what it could when the batch was left."""
    keys = key_records(k001={"tenant": "acme"})
    batches = BatchWorld(World(auth="keys", keys=keys))
    batch_id = await batches.create(line("a"), **bearer())
    await batches.take(batches.due("acme"))
    keys.texts.clear()

    orders = batches.due("acme")
    await batches.take(orders)
    await batches.take(batches.due("acme"))
    batch = batches.books.book("acme").batch(batch_id)

    assert batch is not None
    (result,) = batches.lines_of(batch, "error_file_id", "acme")
    assert result["response"]["status_code"] == 401


async def test_tenants_never_meet() -> None:
    """Another tenant's files and batches are as if they were not there."""
    batches = BatchWorld(World(auth="keys", keys=key_records(k001={"tenant": "acme"}, k002={"tenant": "other"})))
    batch_id = await batches.create(line("a"), **bearer("k001"))
    file_id = (await batches.get("/v1/files", **bearer("k001")))["data"][0]["id"]

    for method, path in (
        ("GET", f"/v1/files/{file_id}"),
        ("GET", f"/v1/files/{file_id}/content"),
        ("DELETE", f"/v1/files/{file_id}"),
        ("GET", f"/v1/batches/{batch_id}"),
        ("POST", f"/v1/batches/{batch_id}/cancel"),
    ):
        assert (await batches.ask(method, path, **bearer("k002"))).status == 404
    assert (await batches.get("/v1/files", **bearer("k002")))["data"] == []
    assert (await batches.get("/v1/batches", **bearer("k002")))["data"] == []
    asked = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    assert (await batches.ask("POST", "/v1/batches", asked, **bearer("k002"))).status == 404


async def test_a_key_bound_to_an_area_has_no_batches() -> None:
    """Nothing here can promise where a file lies, so it is not taken."""
    batches = BatchWorld(World(auth="keys", keys=key_records(k001={"tenant": "acme", "residency": "eu"})))

    reply = await batches.ask("GET", "/v1/batches", **bearer())

    assert reply.status == 403
    assert isinstance(reply.body, str)
    assert json.loads(reply.body)["error"]["code"] == "residency_not_available"


async def test_line_that_crashes() -> None:
    """Is an error line; the others are answered, and the log has the name of what broke, no text."""

    def answer(call: EdgeCall) -> FakeUpstreamResponse:
        if "r1" in str(call.inputs):
            raise RuntimeError("with a secret")
        return answer_edge(call)

    batches = BatchWorld(World(edge=edge(answer)))

    batch = await batches.run(await batches.create("\n".join(map(line, ["r0", "r1", "r2"]))))

    assert batch["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    assert ids(batches.lines_of(batch, "error_file_id")) == ["r1"]
    assert "crash" in batches.world.log.names()
    assert "secret" not in batches.world.log.text()

"""Work that comes twice, too late or in vain: the book takes none of it, and the queue brings back what failed."""

import json
from typing import Any

import pytest

from edge_router.batches import book, worker
from edge_router.batches.book import MAX_LOSSES
from edge_router.batches.lines import MAX_ERRORS, MAX_LINE_BYTES, InputCheck, LineReader
from edge_router.batches.results import answered_line
from edge_router.batches.storing import PART_BYTES, PartWriter
from edge_router.errors import UpstreamBusy
from tests.edge_router.batches.harness import CHAT, TENANT, BatchWorld, line
from tests.edge_router.harness import World, answer_edge, chat_body, edge
from tests.fakes import EdgeCall, FakeMessage, FakeUpstreamResponse, MemoryBucket


def book_of(batches: BatchWorld) -> Any:
    return batches.books.book(TENANT)


@pytest.mark.parametrize(
    ("op", "facts"),
    [
        ("begin_chunks", {}),
        ("add_chunks", {"chunks": [{"number": 9, "lines": 1}]}),
        ("start", {"total": 9}),
        ("fail", {"errors": []}),
        ("give_up", {"number": 0}),
        ("record", {"number": 0, "part": "p", "part_bytes": 1, "results": [[0, 1, 1, 1]], "retries": {}}),
        ("note_upstream", {"facts": {"failures": 1}, "delay_s": 1}),
        ("end_upstream", {"facts": {}}),
        ("take_back", {}),
        ("finish", {"files": [], "failed": 9}),
    ],
)
async def test_batch_that_has_ended(op: str, facts: dict[str, Any]) -> None:
    """Nothing about it changes any more."""
    batches = BatchWorld()
    batch = await batches.run(await batches.create(line("a")))

    getattr(book_of(batches), op)(batch["id"], **facts, now_s=batches.world.clock.now_s())

    assert await batches.get(f"/v1/batches/{batch['id']}") == batch


async def test_wakes_when_something_is_due() -> None:
    """Never while nothing was asked; at once for a new batch; then at the end of the lease, and of the file."""
    batches = BatchWorld()
    ours, clock = book_of(batches), batches.world.clock
    assert ours.wake_s(clock.now_s()) is None

    batch_id = await batches.create(line("a"))
    assert ours.wake_s(clock.now_s()) == clock.now_s()

    (validate,) = batches.due()
    assert ours.wake_s(clock.now_s()) == clock.now_s() + batches.books.lease_s
    await batches.take([validate])
    assert ours.wake_s(clock.now_s()) == clock.now_s()  # a chunk waits

    batches.due()
    assert ours.wake_s(clock.now_s()) == clock.now_s() + batches.books.lease_s
    clock.advance(batches.books.lease_s)
    batch = await batches.run(batch_id)
    file = await batches.get(f"/v1/files/{batch['input_file_id']}")
    assert ours.wake_s(clock.now_s()) == file["expires_at"]


async def test_dead_letter_of_a_check() -> None:
    """A file that could never be read ends its batch, and the caller is told."""
    batches = BatchWorld()
    batch_id = await batches.create(line("a"))
    messages = batches.due()

    await batches.worker.bury(messages)

    batch = await batches.get(f"/v1/batches/{batch_id}")
    assert (batch["status"], batch["errors"]["data"][0]["code"]) == ("failed", "server_error")
    assert [message.outcome for message in messages] == ["ack"]


async def test_dead_letter_that_can_not_be_noted() -> None:
    """It comes again; one of a kind that the book gives out again by itself may go."""
    batches = BatchWorld()
    await batches.create(line("a"))
    messages = [*batches.due(), FakeMessage({"op": "assemble", "batch": "batch_1", "tenant": TENANT})]
    batches.books.is_down = True

    await batches.worker.bury(messages)

    assert [message.outcome for message in messages] == ["retry", "ack"]
    assert batches.world.log.names() == ["batch_failed"]


async def test_crash_of_a_message() -> None:
    """It is logged by its name alone, and comes again; the others are done."""
    batches = BatchWorld()
    await batches.create(line("a"))
    good, broken = *batches.due(), FakeMessage({"op": "dance"})

    await batches.take([broken, good])

    assert (broken.outcome, good.outcome) == ("retry", "ack")
    assert batches.world.log.lines == [("crash", {"op": "dance", "reason": "KeyError"})]


async def test_message_of_a_batch_that_is_gone() -> None:
    batches = BatchWorld()
    orders = [FakeMessage({"op": op, "batch": "batch_0", "tenant": TENANT}) for op in ("validate", "hand_over", "poll")]

    await batches.take(orders)

    assert {message.outcome for message in orders} == {"ack"}


async def test_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are handed over in several calls."""
    monkeypatch.setattr(worker, "CHUNKS_PER_CALL", 1)
    batches = BatchWorld()

    batch = await batches.run(await batches.create("\n".join(line(f"r{number}") for number in range(70))))

    assert batch["request_counts"] == {"total": 70, "completed": 70, "failed": 0}


def test_line_that_is_too_long() -> None:
    reader, check = LineReader(), InputCheck(CHAT)

    for each in (*reader.feed(b'{"x": "' + b"a" * MAX_LINE_BYTES + b'"}\n'), *reader.close()):
        check.take(each)

    assert [(error.code, error.line) for error in check.errors] == [("line_too_long", 1)]


def test_answer_with_line_breaks() -> None:
    """A result is one line, whoever wrote the answer."""
    text = answered_line("a", "id", 200, "req", '{\n "x": "a\\nb"\r\n}')

    assert "\n" not in text
    assert json.loads(text)["response"]["body"] == {"x": "a\nb"}


async def test_large_object_that_is_given_up() -> None:
    """What was uploaded of it goes."""
    bucket = MemoryBucket()
    writer = PartWriter(bucket, "a")
    await writer.write(b"x" * (PART_BYTES * 2 + 1))

    await writer.abort()
    await writer.abort()

    assert bucket.objects == {}


async def test_large_object() -> None:
    bucket = MemoryBucket()
    writer = PartWriter(bucket, "a")
    await writer.write(b"x" * (PART_BYTES * 2 + 1))

    await writer.close()

    assert bucket.objects == {"a": b"x" * (PART_BYTES * 2 + 1)}


async def test_consumers_that_always_die() -> None:
    """A chunk is given out again when its lease ends, but not for ever: then its lines are error lines."""
    batches = BatchWorld()
    batch_id = await batches.create(line("a"))
    await batches.take(batches.due())
    given_out = 0
    while messages := batches.due():
        given_out += sum(message.body["op"] == "answer" for message in messages)
        batches.world.clock.advance(batches.books.lease_s)
        if messages[0].body["op"] == "assemble":
            break

    batch = await batches.run(batch_id)

    assert given_out == MAX_LOSSES
    assert batch["request_counts"] == {"total": 1, "completed": 0, "failed": 1}
    assert batches.lines_of(batch, "error_file_id")[0]["error"]["code"] == "batch_request_failed"


async def test_lines_answered_before_their_chunk_was_given_up() -> None:
    """They keep their answers; the others are error lines."""

    def answer(call: EdgeCall) -> FakeUpstreamResponse:
        if "slow" in str(call.inputs):
            raise UpstreamBusy("busy")
        return answer_edge(call)

    batches = BatchWorld(World(edge=edge(answer), regions=()))
    batch_id = await batches.create(
        "\n".join(line(name, model="edge", **chat_body(name)) for name in ("quick", "slow"))
    )
    await batches.take(batches.due())
    await batches.take(batches.due())
    for _ in range(MAX_LOSSES):
        batches.world.clock.advance(batches.books.lease_s)
        batches.due()
    batches.world.clock.advance(batches.books.lease_s)

    batch = await batches.run(batch_id)

    assert [each["custom_id"] for each in batches.lines_of(batch)] == ["quick"]
    assert [each["custom_id"] for each in batches.lines_of(batch, "error_file_id")] == ["slow"]


async def test_no_more_is_given_out_than_is_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for room wakes nobody until a lease ends."""
    monkeypatch.setattr(book, "MAX_OUT", 2)
    batches = BatchWorld()
    await batches.create("\n".join(line(f"r{number}") for number in range(60)))
    await batches.take(batches.due())

    given_out = batches.due()

    assert len(given_out) == 2
    assert batches.due() == []
    now_s = batches.world.clock.now_s()
    assert book_of(batches).wake_s(now_s) == now_s + batches.books.lease_s


async def test_file_of_many_faults() -> None:
    """A hundred are listed, each with its line; what comes after them is not told."""
    batches = BatchWorld()

    batch = await batches.run(await batches.create("\n".join(["what?"] * 150)))

    errors = batch["errors"]["data"]
    assert batch["status"] == "failed"
    assert [error["line"] for error in errors] == list(range(1, MAX_ERRORS + 1))


async def test_contents_that_are_gone() -> None:
    """A file whose contents were lost is not there."""
    batches = BatchWorld()
    file_id = await batches.upload(line("a"))
    batches.bucket.objects.clear()

    assert (await batches.ask("GET", f"/v1/files/{file_id}/content")).status == 404


async def test_file_that_is_not_the_one_that_was_checked() -> None:
    """Lines are read where they were when they were checked; if something else stands there, nothing is asked."""
    batches = BatchWorld()
    await batches.create(line("a"))
    await batches.take(batches.due())
    batches.bucket.objects = {key: b"x" * len(data) for key, data in batches.bucket.objects.items()}

    (message,) = batches.due()
    await batches.take([message])

    assert message.outcome == "retry"
    assert batches.world.calls == 0

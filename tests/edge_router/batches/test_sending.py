"""What is due goes to the queue; what the queue does not take goes a little later."""

from typing import Any

import pytest

from edge_router.batches import sending
from edge_router.batches.book import MAX_LOSSES, SEND_AGAIN_S
from edge_router.batches.sending import send_due
from tests.edge_router.batches.harness import TENANT, BatchWorld, line
from tests.fakes import FakeMessage, FakeQueue


async def send(batches: BatchWorld, queue: FakeQueue) -> list[Any]:
    """What the queue took."""
    before = len(queue.sent)
    await send_due(batches.books.book(TENANT), queue, TENANT, batches.world.clock, batches.world.log)
    return [message for messages in queue.sent[before:] for message in messages]


async def checked(batches: BatchWorld, lines: int) -> str:
    """A batch whose chunks wait."""
    batch_id = await batches.create("\n".join(line(f"r{number}") for number in range(lines)))
    await batches.take(batches.due())
    return batch_id


async def test_calls_of_a_hundred(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue takes so many messages at a time; each names its tenant."""
    monkeypatch.setattr(sending, "ORDERS_PER_SEND", 2)
    batches, queue = BatchWorld(), FakeQueue()
    batch_id = await checked(batches, 60)

    await send(batches, queue)

    assert [len(messages) for messages in queue.sent] == [2, 1]
    assert queue.sent[1] == [{"op": "answer", "batch": batch_id, "chunk": 2, "sent": 1, "tenant": TENANT}]


@pytest.mark.parametrize("is_checked", [False, True], ids=["task of a batch", "chunk"])
async def test_queue_that_is_down_for_a_moment(is_checked: bool) -> None:
    """What it did not take is due again after seconds, not after a lease, and the object wakes for it."""
    batches = BatchWorld()
    batch_id = await checked(batches, 1) if is_checked else await batches.create(line("r0"))
    clock = batches.world.clock

    taken = await send(batches, FakeQueue(takes=0))
    wake_s = batches.books.book(TENANT).wake_s(clock.now_s())
    at_once = await send(batches, FakeQueue())
    clock.advance(SEND_AGAIN_S)
    later = await send(batches, FakeQueue())

    assert (taken, at_once) == ([], [])
    assert wake_s == clock.now_s()
    assert [each["batch"] for each in later] == [batch_id]
    assert batches.world.log.lines == [("batch_failed", {"op": "send", "reason": "no queue"})]


async def test_queue_that_is_down_for_long() -> None:
    """However often that is, it counts as no loss: the lines are answered in the end."""
    batches = BatchWorld()
    batch_id = await checked(batches, 1)
    for _ in range(MAX_LOSSES + 1):
        await send(batches, FakeQueue(takes=0))
        batches.world.clock.advance(batches.books.lease_s)

    batch = await batches.run(batch_id)

    assert batch["request_counts"] == {"total": 1, "completed": 1, "failed": 0}


async def test_queue_that_goes_down_half_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it took is not sent twice."""
    monkeypatch.setattr(sending, "ORDERS_PER_SEND", 1)
    batches = BatchWorld()
    await checked(batches, 60)

    taken = await send(batches, FakeQueue(takes=1))
    batches.world.clock.advance(SEND_AGAIN_S)
    later = await send(batches, FakeQueue())

    assert [each["chunk"] for each in taken] == [0]
    assert [each["chunk"] for each in later] == [1, 2]


@pytest.mark.parametrize("is_late", [False, True], ids=["before it is put back", "after it was"])
async def test_queue_that_took_what_it_refused(is_late: bool) -> None:
    """A message that arrives all the same: its lines are answered once."""
    batches = BatchWorld()
    batch_id = await checked(batches, 1)
    book, clock = batches.books.book(TENANT), batches.world.clock
    (order,) = book.due(clock.now_s(), 500)
    message = FakeMessage({**order, "tenant": TENANT})

    if is_late:
        book.put_back([order], now_s=clock.now_s())
        await batches.take([message])
    else:
        book.claim(batch_id, 0, order["sent"], now_s=clock.now_s())
        book.put_back([order], now_s=clock.now_s())
        clock.advance(SEND_AGAIN_S)
        assert batches.due() == []  # somebody is at it
        await batches.take([message])
    batch = await batches.run(batch_id)

    assert batch["request_counts"]["completed"] == 1
    assert batches.world.calls == 1

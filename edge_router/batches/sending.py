"""Sends to the queue what a tenant's book has due. What the queue does not take is due again soon."""

from ..errors import StoreError
from ..ports import Clock, Log, WorkQueue
from .book import BatchBook

ORDERS_PER_SEND = 100  # what one call of a queue takes
ORDERS_AT_ONCE = 500


async def send_due(book: BatchBook, queue: WorkQueue, tenant: str, clock: Clock, log: Log) -> None:
    """Never raises for the queue: the runtime calls a failed alarm six times again, and then no more."""
    orders = book.due(clock.now_s(), ORDERS_AT_ONCE)
    for start in range(0, len(orders), ORDERS_PER_SEND):
        try:
            await queue.send([{**order, "tenant": tenant} for order in orders[start : start + ORDERS_PER_SEND]])
        except StoreError as exc:
            log.event("batch_failed", op="send", reason=exc.message)
            book.put_back(orders[start:], now_s=clock.now_s())
            return

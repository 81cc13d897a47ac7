"""Waiting no longer than agreed, and leaving nothing behind."""

import asyncio
from collections.abc import Callable

import pytest

from edge_router.timers import Deadline, done_within
from tests.fakes import FakeClock

SHORT_S = 0.01
LONG_S = 5.0


async def never() -> None:
    await asyncio.Event().wait()


async def test_block_that_ends_in_time() -> None:
    """Goes on undisturbed, also later."""
    async with Deadline(FakeClock(), SHORT_S):
        await asyncio.sleep(0)

    await asyncio.sleep(2 * SHORT_S)


async def test_block_that_takes_too_long() -> None:
    """Is ended with TimeoutError, and the task goes on afterwards."""
    with pytest.raises(TimeoutError):
        async with Deadline(FakeClock(), SHORT_S):
            await never()

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_block_that_fails() -> None:
    """Its own error comes out."""
    with pytest.raises(ZeroDivisionError):
        async with Deadline(FakeClock(), SHORT_S):
            raise ZeroDivisionError


async def test_block_that_is_cancelled_from_outside() -> None:
    """Is cancelled, not late."""

    async def block() -> None:
        async with Deadline(FakeClock(), LONG_S):
            await never()

    task = asyncio.ensure_future(block())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()


async def test_block_that_is_cancelled_when_it_is_late() -> None:
    """The cancellation from outside is not lost."""
    late = asyncio.Event()

    async def block() -> None:
        async with Deadline(FakeClock(), SHORT_S):
            try:
                await never()
            finally:
                late.set()
                await never()

    task = asyncio.ensure_future(block())
    await late.wait()
    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()


async def test_deadline_within_a_deadline() -> None:
    """The one that is due first ends its own block only."""
    async with Deadline(FakeClock(), LONG_S):
        with pytest.raises(TimeoutError):
            async with Deadline(FakeClock(), SHORT_S):
                await never()


async def test_task_that_is_done() -> None:
    """Needs no waiting."""
    task = asyncio.ensure_future(asyncio.sleep(0))
    await task

    assert await done_within(FakeClock(), task, LONG_S)


async def test_task_that_ends_in_time() -> None:
    """Is waited for, and its failure left to whoever asks for its result."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    task = asyncio.ensure_future(fail())

    assert await done_within(FakeClock(), task, LONG_S)
    assert isinstance(task.exception(), ZeroDivisionError)


async def test_task_that_takes_longer() -> None:
    """Goes on; asking again waits again."""
    goal = asyncio.Event()
    task = asyncio.ensure_future(goal.wait())

    assert not await done_within(FakeClock(), task, SHORT_S)
    assert not await done_within(FakeClock(), task, SHORT_S)
    goal.set()
    assert await done_within(FakeClock(), task, LONG_S)


async def test_task_that_ends_with_the_timer() -> None:
    """Counts as done, once."""
    loop = asyncio.get_running_loop()
    task = loop.create_future()

    class Now(FakeClock):
        """Its timers are due as soon as they are set, and the task ends with them."""

        def after(self, delay_s: float, callback: Callable[[], None]) -> Callable[[], None]:
            task.set_result(None)
            return super().after(0.0, callback)

    assert await done_within(Now(), task, SHORT_S)
    await asyncio.sleep(0)


async def test_wait_that_is_cancelled() -> None:
    """Leaves the task alone."""
    goal = asyncio.Event()
    task = asyncio.ensure_future(goal.wait())
    waiting = asyncio.ensure_future(done_within(FakeClock(), task, LONG_S))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})

    assert not task.done()
    goal.set()
    assert await task


async def test_deadline_that_is_put_off() -> None:
    """Asked when the time is over, it grants more until it does not."""
    grants = [SHORT_S, SHORT_S, 0.0]
    with pytest.raises(TimeoutError):
        async with Deadline(FakeClock(), SHORT_S, more_s=lambda: grants.pop(0)):
            await asyncio.Event().wait()

    assert grants == []

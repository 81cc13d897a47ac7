"""Waiting no longer than agreed, on the clock's own timers.

asyncio's `timeout` and `wait_for` are not used on a request's way: on Pyodide a cancelled timer is not taken back
from JavaScript, so that each use would leave a callback, and what it refers to, until its time has come.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

from .ports import Clock

# Of the time of a look-up in two steps, one after the other, what one may take: 150 of 190 ms. What is slower is no
# help; reads from KV's central tier take 50 to 150 ms.
STEP_SHARE = 0.79


class Deadline:
    """`async with Deadline(clock, 0.2):` raises TimeoutError when the block takes longer. Not reusable.

    more_s: asked when the time is over how much longer it shall be; not above 0 for no longer.
    """

    __slots__ = ("_cancelling", "_clock", "_delay_s", "_has_fired", "_more_s", "_stop", "_task")

    def __init__(self, clock: Clock, delay_s: float, *, more_s: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._delay_s = delay_s
        self._more_s = more_s
        self._has_fired = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._stop = self._clock.after(self._delay_s, self._fire)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        # As asyncio.timeout does: our own cancellation is taken back, one from outside goes on.
        if self._has_fired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _fire(self) -> None:
        if self._more_s is not None and (more_s := self._more_s()) > 0:
            self._stop = self._clock.after(more_s, self._fire)
            return
        self._has_fired = True
        self._task.cancel()


async def done_within(clock: Clock, task: "asyncio.Future[Any]", delay_s: float) -> bool:
    """Whether the task ends in time. It is not cancelled, and its result not looked at."""
    if task.done():
        return True
    woken = asyncio.get_running_loop().create_future()

    def wake(_: object = None) -> None:
        if not woken.done():
            woken.set_result(None)

    task.add_done_callback(wake)
    stop = clock.after(delay_s, wake)
    try:
        await woken
    finally:
        stop()
        task.remove_done_callback(wake)
    return task.done()


async def pause(clock: Clock, delay_s: float) -> None:
    """Waits, and leaves no timer behind when it is cancelled."""
    await done_within(clock, asyncio.get_running_loop().create_future(), delay_s)

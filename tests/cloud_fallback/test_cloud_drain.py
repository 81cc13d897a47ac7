"""The end of a process: what is open, what comes, and what `/ready` says. With real processes: test_cloud_processes."""

import asyncio
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from cloud_fallback.drain import Drain
from cloud_fallback.errors import ShuttingDown
from tests.cloud_fallback.harness import COMPLETION, FakeUpstream, call, service


async def endless(drain: Drain) -> None:
    async with drain.bounded():
        await asyncio.Event().wait()


async def test_work_that_outlives_its_process() -> None:
    """Ends when its time is over, and none begins after that."""
    drain = Drain(notice_s=0.0, drain_s=0.0)
    stopped: list[bool] = []

    drain.begin(lambda: stopped.append(True))
    for _ in range(2):
        with pytest.raises(ShuttingDown):
            await endless(drain)

    assert stopped == [True]


async def test_time_that_is_over_for_another_reason() -> None:
    """Is no end of the process."""
    drain = Drain(notice_s=0.0, drain_s=0.0)

    with pytest.raises(TimeoutError):
        async with drain.bounded(), asyncio.timeout(0):
            await asyncio.Event().wait()

    assert not drain.is_draining


@pytest.fixture
def ended() -> Iterator[list[int]]:
    """How often the server's own handler of SIGTERM was called."""
    calls: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        calls.append(number)

    before = signal.signal(signal.SIGTERM, end)
    yield calls
    signal.signal(signal.SIGTERM, before)


async def test_sigterm(ended: list[int]) -> None:
    """`/ready` says no at once while calls are taken; the server hears of it after notice_s, or at a second one."""
    app = service(FakeUpstream.plain(COMPLETION), notice_s=60.0)
    async with app.router.lifespan_context(app):
        before = await call(app, "GET", "/ready")
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0)
        ready = await call(app, "GET", "/ready")
        answer = await call(app, "POST", "/v1/chat/completions", {"model": "gpt-4o", "messages": []})
        heard = list(ended)
        signal.raise_signal(signal.SIGTERM)

    assert (before.status_code, ready.status_code, ready.json()["status"]) == (200, 503, "draining")
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert (heard, ended) == ([], [signal.SIGTERM])

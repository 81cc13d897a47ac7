"""What the fakes promise, because a real upstream does the same."""

import asyncio

import pytest

from edge_router.errors import UpstreamError
from tests.fakes import STALL, FakeUpstreamResponse


async def read(response: FakeUpstreamResponse) -> list[bytes]:
    parts: list[bytes] = []
    await response.push(parts.append)
    return parts


async def test_read_that_is_awaited_when_the_answer_is_cancelled() -> None:
    """Ends, with what had arrived before."""
    response = FakeUpstreamResponse(b"a", STALL, b"b")
    reading = asyncio.ensure_future(read(response))
    await asyncio.sleep(0)
    assert response.open_reads == 1

    await response.cancel()

    assert await reading == [b"a"]
    assert response.open_reads == 0


async def test_answer_that_was_cancelled_before() -> None:
    """Has nothing more to say, and may be cancelled again."""
    response = FakeUpstreamResponse(b"a")
    await response.cancel()
    await response.cancel()

    assert await read(response) == []
    assert response.cancels == 2


async def test_pause() -> None:
    """What follows comes later."""
    assert await FakeUpstreamResponse(b"a", 0.001, b"b").text() == "ab"


async def test_answer_that_breaks_off() -> None:
    """The error comes after what had arrived."""
    with pytest.raises(UpstreamError):
        await read(FakeUpstreamResponse(b"a", UpstreamError("cut")))

"""One answer for many readers, each at its own pace."""

import asyncio
from dataclasses import dataclass, field

import pytest

from edge_router.flights.broadcast import (
    JOIN_SILENCE_S,
    LINGER_S,
    LOOK_EVERY_S,
    MAX_REPLAY_BYTES,
    MAX_UNREAD_BYTES,
    Broadcast,
)
from tests.fakes import FakeClock

KEEP = b"keep"


@dataclass(eq=False)
class Listener:
    """Remembers what it is sent; `slow` ones never read."""

    slow: bool = False
    heard: list[bytes] = field(default_factory=list)
    has_ended: bool = False

    def send(self, piece: bytes) -> None:
        self.heard.append(piece)

    def end(self) -> None:
        self.has_ended = True

    def unread_bytes(self) -> int:
        return sum(map(len, self.heard)) if self.slow else 0


class Stage:
    """A broadcast with its listeners; `deserted` counts how often the last one left."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.deserted = 0
        self.broadcast: Broadcast[bytes] = Broadcast(bytes, self.clock, keep_mark=KEEP, on_deserted=self._desert)

    def _desert(self) -> None:
        self.deserted += 1

    def join(self, *, slow: bool = False) -> Listener:
        listener = Listener(slow)
        self.broadcast.join(listener)
        return listener


def test_late_reader_hears_everything() -> None:
    """First what was sent before, then what comes, then the end."""
    stage = Stage()
    stage.join()
    stage.broadcast.send(b"a")
    stage.broadcast.send(b"b")
    late = stage.join()
    stage.broadcast.send(b"c")
    stage.broadcast.end(linger=False)

    assert late.heard == [b"ab", b"c"]
    assert late.has_ended


def test_reader_who_leaves_costs_nobody() -> None:
    """The others hear on, and the call goes on."""
    stage = Stage()
    first, second = stage.join(), stage.join()
    stage.broadcast.leave(second)
    stage.broadcast.send(b"a")

    assert first.heard == [b"a"]
    assert second.heard == []
    assert stage.deserted == 0


def test_first_reader_who_leaves_hands_on_the_keeping() -> None:
    """Exactly one of those who are left is told to store the answer."""
    stage = Stage()
    first, second, third = stage.join(), stage.join(), stage.join()
    stage.broadcast.leave(first)

    assert [second.heard, third.heard] == [[KEEP], []]


def test_last_reader_who_leaves() -> None:
    """The call is of no use to anyone, and is joined by nobody more."""
    stage = Stage()
    first, second = stage.join(), stage.join()
    stage.broadcast.leave(first)
    stage.broadcast.leave(second)
    stage.broadcast.leave(second)

    assert stage.deserted == 1
    assert not stage.broadcast.is_joinable


def test_reader_who_leaves_after_the_end() -> None:
    """Nothing is left to be stopped."""
    stage = Stage()
    only = stage.join()
    stage.broadcast.send(b"a")
    stage.broadcast.end(linger=True)
    stage.broadcast.leave(only)

    assert stage.deserted == 0
    assert stage.broadcast.is_joinable


def test_slow_reader_is_dropped() -> None:
    """Who lets more than the bound wait is sent away; memory stays bounded and the others hear on."""
    stage = Stage()
    slow, quick = stage.join(slow=True), stage.join()
    piece = bytes(MAX_UNREAD_BYTES // 4)
    for _ in range(6):
        stage.broadcast.send(piece)

    assert slow.has_ended
    assert len(slow.heard) == 5
    assert len(quick.heard) == 7  # the keeping has fallen to it
    assert not quick.has_ended


async def test_all_readers_are_slow() -> None:
    """Then the upstream waits, until one of them has read on; nobody is sent away."""
    stage = Stage()
    readers = [stage.join(slow=True), stage.join(slow=True)]
    room = stage.broadcast.send(bytes(MAX_UNREAD_BYTES + 1))
    assert room is not None
    waiting = asyncio.ensure_future(room)
    await asyncio.sleep(2.5 * LOOK_EVERY_S)
    assert not waiting.done()

    readers[1].slow = False
    await asyncio.wait_for(waiting, 5)
    assert not readers[0].has_ended

    assert stage.broadcast.send(b"more") is None
    assert [reader.has_ended for reader in readers] == [True, False]


async def test_all_slow_readers_leave() -> None:
    """Nothing waits any more."""
    stage = Stage()
    reader = stage.join(slow=True)
    room = stage.broadcast.send(bytes(MAX_UNREAD_BYTES + 1))
    assert room is not None
    stage.broadcast.leave(reader)

    await asyncio.wait_for(room, 5)
    assert stage.deserted == 1


def test_long_answer_is_joined_by_nobody_more() -> None:
    """What was sent so far is no longer kept; those who read it read on."""
    stage = Stage()
    reader = stage.join()
    stage.broadcast.send(bytes(MAX_REPLAY_BYTES))
    assert stage.broadcast.is_joinable
    stage.broadcast.send(b"a")

    assert not stage.broadcast.is_joinable
    assert reader.heard[-1] == b"a"


@pytest.mark.parametrize(
    ("has_begun", "silent_s", "joinable"),
    [
        pytest.param(False, 60.0, True, id="the model still thinks"),
        pytest.param(True, JOIN_SILENCE_S - 1, True, id="a pause"),
        pytest.param(True, JOIN_SILENCE_S, False, id="it may hang"),
    ],
)
def test_silent_answer(has_begun: bool, silent_s: float, joinable: bool) -> None:
    """An answer that has stopped half way is not joined: who comes now starts afresh."""
    stage = Stage()
    stage.join()
    if has_begun:
        stage.broadcast.send(b"a")
    stage.clock.advance(silent_s)

    assert stage.broadcast.is_joinable is joinable


@pytest.mark.parametrize(
    ("linger", "after_s", "joinable"),
    [
        pytest.param(True, LINGER_S - 1, True, id="just landed"),
        pytest.param(True, LINGER_S, False, id="too old"),
        pytest.param(False, 0.0, False, id="not good enough"),
    ],
)
def test_landed_answer(linger: bool, after_s: float, joinable: bool) -> None:
    """A good answer is given for a while to those who come just after it."""
    stage = Stage()
    stage.join()
    stage.broadcast.send(b"a")
    stage.broadcast.end(linger=linger)
    stage.clock.advance(after_s)

    assert stage.broadcast.is_joinable is joinable


def test_reader_of_a_landed_answer() -> None:
    """Hears it at once, whole."""
    stage = Stage()
    stage.join()
    stage.broadcast.send(b"a")
    stage.broadcast.end(linger=True)
    late = stage.join()

    assert late.heard == [b"a"]
    assert late.has_ended

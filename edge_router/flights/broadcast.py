"""One upstream's bytes for many readers: each gets all that was sent so far, then what comes. Pure.

Pieces are handed on without waiting: one who reads slowly holds up nobody, and is dropped when too much waits for it.
Only when all are slow does the upstream wait, for the fastest of them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from ..ports import Clock
from ..timers import pause

MAX_REPLAY_BYTES = 1024 * 1024  # kept for those who come later; an answer that grows longer is joined by nobody more
MAX_UNREAD_BYTES = 1024 * 1024  # waiting for one reader
LOOK_EVERY_S = 0.05  # whether there is room again
JOIN_SILENCE_S = 5.0  # an answer that has begun and then stopped for so long may hang: who comes now, starts afresh
# How long a good answer is given to those who come after it has landed. A cache entry is seen elsewhere only after
# up to a minute; the platform forgets an idle object after about this time anyway.
LINGER_S = 10.0

_Piece = TypeVar("_Piece", contravariant=True)
_Sent = TypeVar("_Sent")


class Reader(Protocol[_Piece]):
    """Someone who reads along. No method raises or waits."""

    def send(self, piece: _Piece) -> None: ...

    def end(self) -> None:
        """Nothing more comes."""
        ...

    def unread_bytes(self) -> int:
        """Sent and not read yet."""
        ...


class Broadcast(Generic[_Sent]):
    """One answer on its way to its readers, its first one being the one who keeps it.

    pack: makes of bytes what readers take, once for all of them. What is kept for later readers stays bytes: packed
    pieces would be as many JavaScript objects, held until JavaScript's collector finds the object of the flight.
    keep_mark: tells a reader that the keeping has fallen to it, because the one who had it left.
    on_deserted: called when the last reader leaves before the end.
    """

    def __init__(
        self, pack: Callable[[bytes], _Sent], clock: Clock, *, keep_mark: bytes, on_deserted: Callable[[], None]
    ) -> None:
        self._pack = pack
        self._clock = clock
        self._keep_mark = keep_mark
        self._on_deserted = on_deserted
        self._readers: list[Reader[_Sent]] = []
        self._replay: bytearray | None = bytearray()
        self._sent_bytes = 0
        self._last_sent_s = 0.0
        self._has_ended = False

    @property
    def has_begun(self) -> bool:
        return self._sent_bytes > 0

    @property
    def is_joinable(self) -> bool:
        """Whether one who comes now can have the whole answer."""
        if self._replay is None:
            return False
        if not self.has_begun:
            return True  # the model still thinks
        silent_s = self._clock.now_s() - self._last_sent_s
        return silent_s < (LINGER_S if self._has_ended else JOIN_SILENCE_S)

    def join(self, reader: Reader[_Sent]) -> None:
        """Only while `is_joinable`."""
        if self._replay:
            reader.send(self._pack(bytes(self._replay)))
        if self._has_ended:
            reader.end()
        else:
            self._readers.append(reader)

    def send(self, data: bytes) -> Awaitable[None] | None:
        """What it returns, if anything, ends when there is room for more."""
        piece = self._pack(data)
        self._sent_bytes += len(data)
        self._last_sent_s = self._clock.now_s()
        if self._replay is not None:
            self._replay += data
            if self._sent_bytes > MAX_REPLAY_BYTES:
                self._replay = None
        for reader in tuple(self._readers):
            reader.send(piece)
        if self._sent_bytes <= MAX_UNREAD_BYTES:  # nobody can lag so much yet, and looking costs
            return None
        slow = self._slow_readers()
        if not slow:
            return None
        if len(slow) == len(self._readers):
            return asyncio.ensure_future(self._until_room())
        for reader in slow:
            reader.end()
            self.leave(reader)
        return None

    def _slow_readers(self) -> list[Reader[_Sent]]:
        return [reader for reader in self._readers if reader.unread_bytes() > MAX_UNREAD_BYTES]

    async def _until_room(self) -> None:
        while self._readers and len(self._slow_readers()) == len(self._readers):
            await pause(self._clock, LOOK_EVERY_S)

    def leave(self, reader: Reader[_Sent]) -> None:
        """The reader went away; harmless after the end."""
        if reader not in self._readers:
            return
        kept = self._readers[0] is reader
        self._readers.remove(reader)
        if not self._readers:
            self._replay = None
            self._on_deserted()
        elif kept:
            self._readers[0].send(self._pack(self._keep_mark))

    def end(self, *, linger: bool) -> None:
        """linger: whether the answer is good enough for those who come later."""
        readers, self._readers = self._readers, []
        self._has_ended = True
        if not linger:
            self._replay = None
        for reader in readers:
            reader.end()

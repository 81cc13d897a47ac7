"""How many lines of a batch are answered at a time: as many as fit into memory together."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from ..embeddings import MAX_TEXTS

# In texts to be embedded, which weigh most: each is about 30 KB for a moment, as numbers, as JSON and as a result line.
ROOM = MAX_TEXTS
CONCURRENT_LINES = 4  # of light ones; a Worker may wait for six connections at a time


class Room:
    """Lets in what fits, in the order of asking; what is heavier than the whole room goes alone. Scope: delivery."""

    def __init__(self, size: int = ROOM) -> None:
        self._size = self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def taken(self, weight: int) -> AsyncIterator[None]:
        weight = min(weight, self._size)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((weight, turn))
        self._let_in()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._free += weight
            else:
                self._waiting.remove((weight, turn))
            self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            weight, turn = self._waiting.popleft()
            self._free -= weight
            turn.set_result(None)


def weight_of(path: str, body: Mapping[str, Any]) -> int:
    """Of the answer to one line."""
    texts = body.get("input") if path == "/v1/embeddings" else None
    return max(ROOM // CONCURRENT_LINES, len(texts) if isinstance(texts, list) else 1)

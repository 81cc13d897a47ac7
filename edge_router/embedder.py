"""Asks Workers AI's embedder. What it is asked and what it answers: embeddings.py."""

from collections.abc import Mapping, Sequence
from typing import Any

from . import embeddings, workers_ai
from .errors import UpstreamTimeout
from .ports import Clock, EdgeModels
from .timers import Deadline


class Embedder:
    """Holds no state of a request. Scope: isolate."""

    def __init__(self, edge: EdgeModels, clock: Clock) -> None:
        self._edge = edge
        self._clock = clock

    async def embed(self, texts: Sequence[str], *, timeout_s: float) -> list[list[float]]:
        """A vector of DIMENSIONS finite numbers for each text, at most TEXTS_PER_CALL of them. Raises UpstreamError."""
        try:
            async with Deadline(self._clock, timeout_s):
                status, text = await self._run(embeddings.inputs(texts))
        except TimeoutError as exc:
            raise UpstreamTimeout("The embedder took too long.") from exc
        if status != 200:
            raise workers_ai.parse_error(status, text)
        return embeddings.parse_vectors(text, count=len(texts))

    async def _run(self, inputs: Mapping[str, Any]) -> tuple[int, str]:
        response = await self._edge.run(embeddings.MODEL, inputs)
        try:
            return response.status, await response.text()
        except BaseException:
            await response.cancel()
            raise

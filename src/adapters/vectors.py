"""`Vectors` on a Vectorize index. Scope: global, eventually consistent; writes are found after seconds to minutes."""

from collections.abc import Mapping, Sequence
from typing import Any

from pyodide.ffi import JsException

from adapters.javascript import from_object, to_object
from adapters.runtime import CLOCK
from edge_router.errors import StoreError
from edge_router.timers import Deadline

WRITE_TIMEOUT_S = 10.0


class VectorizeIndex:
    """Reads are as long as whoever asks lets them be."""

    def __init__(self, index: Any) -> None:
        self._index = index

    async def query(self, vector: Sequence[float], *, namespace: str, filters: Mapping[str, str], limit: int) -> Any:
        options = {"topK": limit, "namespace": namespace, "filter": dict(filters), "returnMetadata": "all"}
        try:
            return from_object(await self._index.query(to_object(vector), to_object(options)))
        except JsException as exc:
            raise StoreError(f"Vectorize query failed: {exc.name}") from exc

    async def upsert(
        self, vector_id: str, vector: Sequence[float], *, namespace: str, metadata: Mapping[str, str | int]
    ) -> None:
        row = {"id": vector_id, "values": vector, "namespace": namespace, "metadata": dict(metadata)}
        try:
            async with Deadline(CLOCK, WRITE_TIMEOUT_S):
                await self._index.upsert(to_object([row]))
        except (JsException, TimeoutError) as exc:
            raise StoreError(f"Vectorize upsert failed: {type(exc).__name__}") from exc

    async def delete(self, vector_ids: Sequence[str]) -> None:
        try:
            async with Deadline(CLOCK, WRITE_TIMEOUT_S):
                await self._index.deleteByIds(to_object(list(vector_ids)))
        except (JsException, TimeoutError) as exc:
            raise StoreError(f"Vectorize delete failed: {type(exc).__name__}") from exc

    async def is_reachable(self) -> bool:
        """Whether the index answers."""
        try:
            await self._index.describe()
        except JsException:
            return False
        return True

"""An emulated Vectorize index (v2): cosine, 384 dimensions, writes visible late. Rules: facts, section 5."""

import json
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

DIMENSIONS = 384
DEFAULT_TOP_K = 5
MAX_TOP_K = 100
MAX_TOP_K_WITH_DATA = 50
MAX_BATCH = 1000
MAX_GET_BY_IDS = 20
MAX_NAME_BYTES = 64
MAX_METADATA_BYTES = 10 * 1024
MAX_FILTER_BYTES = 2048
MAX_INDEXED_BYTES = 64
DEFAULT_VISIBLE_AFTER_S = 0.5

Json = dict[str, Any]
Vector = npt.NDArray[np.float32]

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda value, wanted: bool(value == wanted),
    "$ne": lambda value, wanted: bool(value != wanted),
    "$lt": lambda value, wanted: _comparable(value, wanted) and value < wanted,
    "$lte": lambda value, wanted: _comparable(value, wanted) and value <= wanted,
    "$gt": lambda value, wanted: _comparable(value, wanted) and value > wanted,
    "$gte": lambda value, wanted: _comparable(value, wanted) and value >= wanted,
    "$in": lambda value, wanted: value in wanted,
    "$nin": lambda value, wanted: value not in wanted,
}


class VectorizeError(Exception):
    """The binding's caller must change the call; `code` as in `(code = 40006)`."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Stored:
    id: str
    values: Vector
    unit: Vector
    namespace: str | None
    metadata: Json | None

    def as_json(self, *, values: bool, metadata: Json | None) -> Json:
        parts: Json = {"id": self.id}
        if values:
            parts["values"] = self.values.tolist()
        if self.namespace is not None:
            parts["namespace"] = self.namespace
        if metadata is not None:
            parts["metadata"] = metadata
        return parts


@dataclass(frozen=True, slots=True)
class Mutation:
    id: str
    visible_at_s: float
    rows: tuple[Stored, ...] = ()
    deleted_ids: tuple[str, ...] = ()
    overwrites: bool = True


class VectorizeIndex:
    """One index. Any metadata field can be filtered on. Scope: process.

    now_s: the clock writes wait by. visible_after_s may be changed at any time.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self.visible_after_s = DEFAULT_VISIBLE_AFTER_S
        self._now_s = now_s
        self._rows: dict[str, Stored] = {}
        self._pending: deque[Mutation] = deque()
        self._processed: Mutation | None = None
        self._processed_at: datetime | None = None

    def call(self, op: str, args: list[Any]) -> Any:
        """What the binding's method answers. Raises VectorizeError; LookupError for an unknown op."""
        methods: dict[str, Callable[..., Any]] = {
            "query": self.query,
            "queryById": self.query_by_id,
            "insert": self.insert,
            "upsert": self.upsert,
            "deleteByIds": self.delete_by_ids,
            "getByIds": self.get_by_ids,
            "describe": self.describe,
        }
        method = methods[op]
        try:
            return method(*args)
        except TypeError as exc:
            raise VectorizeError(40001, f"{op}: wrong arguments: {exc}") from exc

    def restore_delay(self) -> None:
        self.visible_after_s = DEFAULT_VISIBLE_AFTER_S

    def clear(self) -> None:
        self._rows.clear()
        self._pending.clear()

    def query(self, vector: list[float], options: Json | None = None) -> Json:
        return self._matches(_checked_values(vector, "query vector", code=40006), options or {})

    def query_by_id(self, vector_id: str, options: Json | None = None) -> Json:
        self._settle()
        if vector_id not in self._rows:
            raise VectorizeError(40025, f"vector with id {vector_id!r} not found")
        return self._matches(self._rows[vector_id].values, options or {})

    def insert(self, vectors: list[Json]) -> Json:
        """Ids that exist already keep their vector."""
        return self._write(vectors, overwrites=False)

    def upsert(self, vectors: list[Json]) -> Json:
        return self._write(vectors, overwrites=True)

    def delete_by_ids(self, ids: list[str]) -> Json:
        return self._enqueue(deleted_ids=tuple(ids))

    def get_by_ids(self, ids: list[str]) -> list[Json]:
        if len(ids) > MAX_GET_BY_IDS:
            raise VectorizeError(40007, f"too many ids in payload; max is {MAX_GET_BY_IDS}, got {len(ids)}")
        self._settle()
        found = [self._rows[each] for each in ids if each in self._rows]
        return [row.as_json(values=True, metadata=row.metadata) for row in found]

    def describe(self) -> Json:
        self._settle()
        return {
            "vectorCount": len(self._rows),
            "dimensions": DIMENSIONS,
            "processedUpToDatetime": None if self._processed_at is None else self._processed_at.isoformat(),
            "processedUpToMutation": None if self._processed is None else self._processed.id,
        }

    def _matches(self, vector: Vector, options: Json) -> Json:
        self._settle()
        level = options.get("returnMetadata") or "none"
        level = "all" if level is True else level
        if level not in ("none", "indexed", "all"):
            raise VectorizeError(
                40024, f'returnMetadata: expected true, false, "none", "indexed" or "all"; got: {level}'
            )
        with_values = bool(options.get("returnValues"))
        top_k = _checked_top_k(options.get("topK", DEFAULT_TOP_K), has_data=with_values or level == "all")
        wanted = _checked_filter(options.get("filter"))
        namespace = options.get("namespace")
        rows = [
            row
            for row in self._rows.values()
            if (namespace is None or row.namespace == namespace) and _passes(row.metadata or {}, wanted)
        ]
        if not rows:
            return {"matches": [], "count": 0}
        scores = np.stack([row.unit for row in rows]) @ _unit(vector)
        matches = []
        for position in np.argsort(-scores, kind="stable")[:top_k]:
            row = rows[position]
            metadata = None
            if level != "none":
                metadata = _indexed(row.metadata) if level == "indexed" else row.metadata
            match = row.as_json(values=with_values, metadata=metadata)
            matches.append({**match, "score": float(scores[position])})
        return {"matches": matches, "count": len(matches)}

    def _write(self, vectors: list[Json], *, overwrites: bool) -> Json:
        if not isinstance(vectors, list) or not vectors:
            raise VectorizeError(40002, "expected a non-empty array of vectors")
        if len(vectors) > MAX_BATCH:
            raise VectorizeError(40009, f"too many vectors in payload; max is {MAX_BATCH}, got {len(vectors)}")
        return self._enqueue(rows=tuple(_checked_vector(each) for each in vectors), overwrites=overwrites)

    def _enqueue(
        self, *, rows: tuple[Stored, ...] = (), deleted_ids: tuple[str, ...] = (), overwrites: bool = True
    ) -> Json:
        visible_at_s = self._now_s() + self.visible_after_s
        mutation = Mutation(str(uuid.uuid4()), visible_at_s, rows, deleted_ids, overwrites)
        self._pending.append(mutation)
        return {"mutationId": mutation.id}

    def _settle(self) -> None:
        """Apply, in order, the mutations whose time has come."""
        now_s = self._now_s()
        while self._pending and self._pending[0].visible_at_s <= now_s:
            mutation = self._pending.popleft()
            for row in mutation.rows:
                if mutation.overwrites or row.id not in self._rows:
                    self._rows[row.id] = row
            for each in mutation.deleted_ids:
                self._rows.pop(each, None)
            self._processed = mutation
            self._processed_at = datetime.now(UTC)


def _checked_vector(vector: Json) -> Stored:
    vector_id = str(vector.get("id", ""))
    if not vector_id:
        raise VectorizeError(40003, "vector id is missing")
    _check_name(vector_id, "id", code=40008)
    namespace = vector.get("namespace")
    if namespace is not None:
        _check_name(str(namespace), "namespace", code=40010)
    metadata = vector.get("metadata")
    if metadata is not None:
        _check_metadata(metadata, vector_id)
    values = _checked_values(vector.get("values"), f'vector for id="{vector_id}"', code=40012)
    return Stored(vector_id, values, _unit(values), namespace, metadata)


def _checked_values(values: Any, what: str, *, code: int) -> Vector:
    if not isinstance(values, list) or len(values) != DIMENSIONS:
        count = len(values) if isinstance(values, list) else "none"
        raise VectorizeError(code, f"invalid {what}, expected {DIMENSIONS} dimensions, and got {count} dimensions")
    try:
        return np.asarray(values, np.float32)
    except (TypeError, ValueError) as exc:
        raise VectorizeError(code, f"invalid {what}, expected numbers") from exc


def _check_name(name: str, what: str, *, code: int) -> None:
    size = len(name.encode())
    if size > MAX_NAME_BYTES:
        raise VectorizeError(code, f"{what} too long; max is {MAX_NAME_BYTES} bytes, got {size} bytes")


def _check_metadata(metadata: Any, vector_id: str) -> None:
    if not isinstance(metadata, dict):
        raise VectorizeError(40013, f'metadata of id="{vector_id}" must be an object')
    for key in metadata:
        if not key or "." in key or '"' in key or key.startswith("$"):
            raise VectorizeError(
                40013, f'metadata key {key!r} may not be empty, contain "." or a quote, or start with "$"'
            )
    size = len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_METADATA_BYTES:
        raise VectorizeError(40011, f"metadata too large; max is {MAX_METADATA_BYTES} bytes, got {size} bytes")


def _checked_top_k(top_k: Any, *, has_data: bool) -> int:
    limit = MAX_TOP_K_WITH_DATA if has_data else MAX_TOP_K
    if not isinstance(top_k, int | float) or not 1 <= top_k <= limit:
        suffix = " when returning values or all metadata" if has_data else ""
        raise VectorizeError(40005, f"topK must be from 1 to {limit}{suffix}, got {top_k}")
    return int(top_k)


def _checked_filter(wanted: Any) -> Json:
    if wanted is None:
        return {}
    if not isinstance(wanted, dict):
        raise VectorizeError(40021, "filter must be an object")
    if len(json.dumps(wanted, separators=(",", ":")).encode()) > MAX_FILTER_BYTES:
        raise VectorizeError(40021, f"filter too large; max is {MAX_FILTER_BYTES} bytes")
    for key, condition in wanted.items():
        if not key or '"' in key or key.startswith("$"):
            raise VectorizeError(40021, f"filter key {key!r} is not valid")
        operators = condition if isinstance(condition, dict) else {"$eq": condition}
        for operator, operand in operators.items():
            if operator not in COMPARISONS:
                raise VectorizeError(40021, f"filter operator {operator!r} is unknown; use {', '.join(COMPARISONS)}")
            if operator in ("$in", "$nin") and not isinstance(operand, list):
                raise VectorizeError(40021, f"filter operator {operator} needs an array")
    return wanted


def _passes(metadata: Json, wanted: Json) -> bool:
    for key, condition in wanted.items():
        value: Any = metadata
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        operators = condition if isinstance(condition, dict) else {"$eq": condition}
        if not all(COMPARISONS[operator](value, operand) for operator, operand in operators.items()):
            return False
    return True


def _indexed(metadata: Json | None) -> Json | None:
    """What an index keeps of the metadata: numbers, booleans and the first 64 bytes of strings."""
    if metadata is None:
        return None
    kept: Json = {}
    for key, value in metadata.items():
        if isinstance(value, str):
            kept[key] = value.encode()[:MAX_INDEXED_BYTES].decode(errors="ignore")
        elif isinstance(value, int | float):
            kept[key] = value
    return kept


def _comparable(value: Any, wanted: Any) -> bool:
    both_numbers = isinstance(value, int | float) and isinstance(wanted, int | float)
    return both_numbers or (isinstance(value, str) and isinstance(wanted, str))


def _unit(values: Vector) -> Vector:
    norm = float(np.linalg.norm(values))
    return values if norm == 0.0 else (values / norm).astype(np.float32)

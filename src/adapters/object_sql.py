"""`Sql` on a Durable Object's storage."""

from collections.abc import Mapping, Sequence
from typing import Any


class ObjectSql:
    """The storage's wrapper gives rows as dictionaries."""

    def __init__(self, storage: Any) -> None:
        self._sql = storage.sql

    def exec(self, query: str, *values: str | int | float | None) -> Sequence[Mapping[str, Any]]:
        rows: list[Mapping[str, Any]] = self._sql.exec(query, *values).toArray()
        return rows

"""`Sql` on a Durable Object's storage."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.border import BORDER
from adapters.javascript import encode


class ObjectSql:
    """A statement's values cross as one text, and so do its rows. The SDK's wrapper takes each value across by itself,
    which costs more than SQLite does; only what is said before the border is open goes that way.

    storage: the SDK's.
    """

    def __init__(self, storage: Any) -> None:
        self._wrapped = storage.sql
        self._sql = storage._binding.sql

    def exec(self, query: str, *values: str | int | float | None) -> Sequence[Mapping[str, Any]]:
        rows: list[Mapping[str, Any]]
        if BORDER.js is None:
            rows = self._wrapped.exec(query, *values).toArray()
        else:
            rows = json.loads(BORDER.js.query(self._sql, query, encode(values)))
        return rows

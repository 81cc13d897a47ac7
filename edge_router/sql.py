"""SQLite as a Durable Object has it, so that what is kept in one is tested on CPython's."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Sql(Protocol):
    """One SQLite database; statements run at once and in order."""

    def exec(self, query: str, *values: str | int | float | None) -> Sequence[Mapping[str, Any]]:
        """The rows of the result."""
        ...

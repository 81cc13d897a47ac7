"""One tenant's answers and their ratings in SQLite: what is kept of an answer, for how long, and how much of it.

The SQL runs in a Durable Object in the Worker and on CPython's sqlite3 in tests.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal
from zlib import crc32

from .sql import Sql
from .threshold_offset import WINDOW, offset_of

HASH_BITS = 20
MAX_UNRATED = 10_000  # the newest; a rating comes soon or never
MAX_LABELLED = 10_000
UNRATED_S = 30 * 86_400.0
LABELLED_S = 365 * 86_400.0

Rating = Literal["good", "bad"]


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """What is kept of one answer; no text of it and none of its question.

    score: complexity in [0, 1], None where nothing was decided. shape: the kind of question (`text_features`).
    features: hashes of the question's words and pairs; empty for what a cache answered. cache_key: the entry that
    answered. escalated: why the verifier did not accept the edge model's answer. rating: the caller's.
    """

    request_id: str
    at_s: float
    served_by: str = ""
    model: str = ""
    tier: str = ""
    score: float | None = None
    shape: str = ""
    features: list[int] = field(default_factory=list)
    cache_key: str = ""
    escalated: str = ""
    rating: str = ""

    def facts(self) -> dict[str, Any]:
        """As JSON-like data."""
        return {name: getattr(self, name) for name in _FIELDS}

    @property
    def is_labelled(self) -> bool:
        """Whether anything can be learned from it."""
        return bool(self.rating or self.escalated)


_FIELDS = tuple(each.name for each in fields(AnswerRecord))


def hashed_terms(terms: Iterable[str]) -> list[int]:
    """Words and pairs as numbers below 2 ** HASH_BITS, each once, sorted: their order is not kept.

    It hides a text from a reader, not from someone who tries out words: docs/feedback.md.
    """
    mask = (1 << HASH_BITS) - 1
    return sorted({crc32(term.encode("utf-8", "replace")) & mask for term in terms})


class FeedbackTable:
    """The records of one tenant. Rows are numbered as they come, so the oldest have the lowest numbers."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql
        for table in ("unrated", "labelled"):
            sql.exec(
                f"CREATE TABLE IF NOT EXISTS {table}"
                " (number INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT UNIQUE, at_s REAL, facts TEXT)"
            )

    def add(self, records: Sequence[AnswerRecord]) -> None:
        """A request id that comes again names the later answer."""
        self._put([record for record in records if record.is_labelled], "labelled", "unrated")
        self._put([record for record in records if not record.is_labelled], "unrated", "labelled")
        self._keep_newest("unrated", MAX_UNRATED)
        self._keep_newest("labelled", MAX_LABELLED)

    def rate(self, request_id: str, rating: Rating) -> AnswerRecord | None:
        """The record with its new rating; None when there is none."""
        for table in ("labelled", "unrated"):
            for row in self._sql.exec(f"SELECT facts FROM {table} WHERE request_id = ?", request_id):
                rated = AnswerRecord(**{**json.loads(row["facts"]), "rating": rating})
                self._put([rated], "labelled", "unrated")
                return rated
        return None

    def labelled(self) -> str:
        """Records with a rating or an escalation as JSON Lines, oldest first, without what names a request."""
        lines = []
        for row in self._sql.exec("SELECT facts FROM labelled ORDER BY number"):
            facts = json.loads(row["facts"])
            del facts["request_id"], facts["cache_key"]
            lines.append(json.dumps(facts, separators=(",", ":")) + "\n")
        return "".join(lines)

    def offset(self) -> float:
        """What the tenant's latest ratings of the edge's answers, and escalations, move the thresholds by."""
        (counts,) = self._sql.exec(
            "SELECT COUNT(*) AS rated,"
            " SUM(json_extract(facts, '$.rating') = 'bad' OR json_extract(facts, '$.escalated') != '') AS bad"
            " FROM (SELECT facts FROM labelled ORDER BY number DESC LIMIT ?)"
            " WHERE json_extract(facts, '$.served_by') = 'edge-model' OR json_extract(facts, '$.escalated') != ''",
            WINDOW,
        )
        return offset_of(int(counts["bad"] or 0), int(counts["rated"]))

    def forget_old(self, now_s: float) -> float | None:
        """Removes what is too old. When to come again, as Unix time; None when nothing is left."""
        ends: list[float] = []
        for table, age_s in (("unrated", UNRATED_S), ("labelled", LABELLED_S)):
            self._sql.exec(f"DELETE FROM {table} WHERE at_s <= ?", now_s - age_s)
            oldest = self._sql.exec(f"SELECT MIN(at_s) AS at_s FROM {table}")
            ends += [row["at_s"] + age_s for row in oldest if row["at_s"] is not None]
        return min(ends, default=None)

    def _put(self, records: Sequence[AnswerRecord], into: str, out_of: str) -> None:
        """All of them in two statements: each costs the Worker more than what it does."""
        if not records:
            return
        batch = json.dumps([record.facts() for record in records], separators=(",", ":"))
        request_ids = "SELECT json_extract(value, '$.request_id') FROM json_each(?)"
        self._sql.exec(f"DELETE FROM {out_of} WHERE request_id IN ({request_ids})", batch)
        self._sql.exec(
            f"INSERT OR REPLACE INTO {into} (request_id, at_s, facts)"
            " SELECT json_extract(value, '$.request_id'), json_extract(value, '$.at_s'), value FROM json_each(?)",
            batch,
        )

    def _keep_newest(self, table: str, rows: int) -> None:
        self._sql.exec(f"DELETE FROM {table} WHERE number <= (SELECT MAX(number) FROM {table}) - ?", rows)

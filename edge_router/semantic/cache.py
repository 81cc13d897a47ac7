"""Finds the stored answer of a question that asks the same in other words: embed, look for near ones, verify.

The index only points: a vector's id is the key of an entry in the exact cache, so that freshness and purging are the
entry's, and no text of a prompt stands in the index. A look-up is never waited for longer than its timeout.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, Protocol

from ..caching.entries import Entry
from ..chat_call import ChatCall
from ..embedder import Embedder
from ..errors import GatewayError, StoreError, UpstreamError
from ..ports import Clock, Log, Vectors
from ..report import SemanticOutcome
from ..timers import STEP_SHARE, Deadline
from .question import Question

CANDIDATES = 5
# Of the collected pairs none below 0.76 is a hit by default; at LOOSE_THRESHOLD one hit in a hundred lies below this.
MIN_COSINE = 0.7
# A vector may be seen before the entry it points to, which takes KV up to a minute. After that the entry is gone.
GONE_AFTER_S = 120.0


class Entries(Protocol):
    """The exact cache's entries. Every method may raise StoreError."""

    async def read(self, tenant: str, key: str) -> Entry | None:
        """The entry, fresh or not; None when there is none or it was purged."""
        ...

    async def remove(self, tenant: str, key: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Embedded:
    """A question with its vector, which is written together with the answer: nothing is embedded twice."""

    question: Question
    vector: list[float]


@dataclass(frozen=True, slots=True)
class Hit:
    """An entry whose question asks the same. cosine: of the two questions' embeddings."""

    key: str
    entry: Entry
    cosine: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the index says of a near question. key: of its entry; at_s: when it was written."""

    key: str
    cosine: float
    context: str
    at_s: float


class SemanticCache:
    """Holds no state of a request. Scope: isolate. timeout_s: how much later than without it an answer may come."""

    def __init__(
        self, entries: Entries, *, embedder: Embedder, vectors: Vectors, timeout_s: float, clock: Clock, log: Log
    ) -> None:
        self._entries = entries
        self._embedder = embedder
        self._vectors = vectors
        self._timeout_s = timeout_s
        self._clock = clock
        self._log = log

    async def look_up(
        self, call: ChatCall, question: Question, *, accepts: Callable[[Entry], bool]
    ) -> tuple[Hit | None, Embedded | None]:
        """The hit, and what `remember` needs once there is an answer. Whatever fails is noted in the report.

        accepts: whether an entry is fresh enough for this request.
        """
        # Imported at the first look-up and before its time runs: a Worker whose tenants don't use it should not pay for
        # the word lists at its start. What it costs: docs/semantic-cache.md.
        from .verifier import shipped

        shipped()
        report, started_ms = call.report, self._clock.elapsed_ms()
        try:
            embedded = Embedded(question, await self._vector(question))
        except GatewayError as exc:
            self._fail(call, "embed_failed", exc.code)
            return None, None
        finally:
            report.timings_ms["embed"] = self._clock.elapsed_ms() - started_ms
        try:
            async with Deadline(self._clock, self._timeout_s - report.timings_ms["embed"] / 1000):
                candidates = await self._near(call, embedded)
                hit = await self._same(call, question, candidates, accepts)
        except TimeoutError:
            self._fail(call, "vector_failed", "timeout")
            return None, embedded
        except StoreError as exc:
            self._fail(call, "vector_failed", exc.message)
            return None, embedded
        report.semantic = "hit" if hit else "miss"
        return hit, embedded

    async def remember(self, embedded: Embedded, key: str, request_id: str) -> None:
        """After the entry was written. key: the entry's."""
        question = embedded.question
        metadata: dict[str, str | int] = {"context": question.context, "at": int(self._clock.now_s())}
        try:
            await self._vectors.upsert(key, embedded.vector, namespace=question.namespace, metadata=metadata)
        except StoreError as exc:
            self._log.event("semantic_write_failed", request_id=request_id, reason=exc.message)

    async def forget(self, tenant: str, key: str) -> None:
        """For an answer that was given to a question it does not answer. Gone as soon as KV and the index say so."""
        self._log.event("semantic_false_hit", tenant=tenant)
        for removal in (self._entries.remove(tenant, key), self._vectors.delete([key])):
            try:
                await removal
            except StoreError as exc:
                self._log.event("semantic_write_failed", reason=exc.message)

    async def _vector(self, question: Question) -> list[float]:
        """Raises UpstreamError."""
        [vector] = await self._embedder.embed([question.text], timeout_s=self._timeout_s * STEP_SHARE)
        if not any(vector):
            raise UpstreamError("The embedder's answer has no direction.")
        return vector

    async def _near(self, call: ChatCall, embedded: Embedded) -> list[Candidate]:
        """Nearest first; those that are too far to ask the same left out."""
        started_ms = self._clock.elapsed_ms()
        question = embedded.question
        try:
            answer = await self._vectors.query(
                embedded.vector,
                namespace=question.namespace,
                filters={"context": question.context},
                limit=CANDIDATES,
            )
        finally:
            call.report.timings_ms["vector"] = self._clock.elapsed_ms() - started_ms
        return [
            candidate
            for candidate in read_candidates(answer)
            if candidate.cosine >= MIN_COSINE and candidate.context == question.context
        ]

    async def _same(
        self, call: ChatCall, question: Question, candidates: Sequence[Candidate], accepts: Callable[[Entry], bool]
    ) -> Hit | None:
        """Of the candidates that ask the same, the surest."""
        if not candidates:
            return None
        started_ms = self._clock.elapsed_ms()
        found = await asyncio.gather(*(self._read(call.tenant.id, candidate) for candidate in candidates))
        timings_ms = call.report.timings_ms
        timings_ms["cache"] = timings_ms.get("cache", 0.0) + self._clock.elapsed_ms() - started_ms
        gone_before_s = self._clock.now_s() - GONE_AFTER_S
        gone = [each.key for each, entry in found if entry is None and each.at_s < gone_before_s]
        if gone:
            call.background.run(self._drop(gone))
        hits = [Hit(each.key, entry, each.cosine) for each, entry in found if entry and accepts(entry)]
        return surest(question.text, hits, call.tenant.semantic_threshold)

    async def _read(self, tenant: str, candidate: Candidate) -> tuple[Candidate, Entry | Literal[False] | None]:
        """The entry; None when it is gone, False when nobody can tell."""
        try:
            return candidate, await self._entries.read(tenant, candidate.key)
        except StoreError:
            return candidate, False

    async def _drop(self, keys: Sequence[str]) -> None:
        """Vectors whose entries are gone."""
        try:
            await self._vectors.delete(keys)
        except StoreError as exc:
            self._log.event("semantic_write_failed", reason=exc.message)

    def _fail(self, call: ChatCall, outcome: SemanticOutcome, reason: str | None) -> None:
        call.report.semantic = outcome
        self._log.event("semantic_failed", request_id=call.report.request_id, outcome=outcome, reason=reason)


def surest(question: str, hits: Iterable[Hit], threshold: float | None) -> Hit | None:
    """Of those that ask the same. threshold: None for the default."""
    from .verifier import DEFAULT_THRESHOLD, is_same, verify

    best, best_score = None, 0.0
    for hit in hits:
        if hit.entry.question is not None:
            verdict = verify(question, hit.entry.question, hit.cosine)
            if is_same(verdict, threshold or DEFAULT_THRESHOLD) and verdict.score > best_score:
                best, best_score = hit, verdict.score
    return best


def read_candidates(answer: Any) -> list[Candidate]:
    """From an index's answer; raises StoreError for garbage."""
    try:
        candidates = [
            Candidate(
                key=str(match["id"]),
                cosine=float(match["score"]),
                context=str(match["metadata"]["context"]),
                at_s=float(match["metadata"]["at"]),
            )
            for match in answer["matches"]
        ]
    except (KeyError, TypeError, ValueError, OverflowError) as exc:
        raise StoreError("The vector index's answer can't be read.") from exc
    if not all(isfinite(candidate.cosine) for candidate in candidates):
        raise StoreError("The vector index's answer has a score that is no number.")
    return sorted(candidates, key=lambda candidate: -candidate.cosine)[:CANDIDATES]

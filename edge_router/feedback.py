"""Learning from use: which answers were good, kept per tenant without any text of a prompt or an answer.

An answer is noted after it was given and written in batches, so that it costs its request nothing but the memory of
one question. A rating, `POST /v1/feedback`, finds it by its request id.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import islice

from . import text_features
from .chat_call import ChatCall
from .complexity import HEAD_CHARACTERS, TAIL_CHARACTERS
from .errors import GatewayError, NotFound, StoreError
from .feedback_records import AnswerRecord, Rating, hashed_terms
from .flushing import FLUSH_AFTER_S, FlushTimer
from .ports import Background, Clock, FeedbackStore, Log
from .settings import Settings

MAX_FEATURES = 96  # of one question: its first words and pairs
MAX_WAITING = 100  # notes of an isolate; then they are written at once
MOST_TENANTS = 1000  # whose offsets an isolate remembers


@dataclass(frozen=True, slots=True)
class _Note:
    tenant: str
    question: str
    record: AnswerRecord


class FeedbackBook:
    """Notes answers and takes ratings. Scope: isolate; notes of all tenants wait here for a second.

    on_bad_hit: told the tenant and the key of an entry of the semantic cache whose answer was rated bad.
    """

    def __init__(self, store: FeedbackStore, *, clock: Clock, log: Log, flush_after_s: float = FLUSH_AFTER_S) -> None:
        self._store = store
        self._clock = clock
        self._log = log
        self._timer = FlushTimer(self._flush, clock, after_s=flush_after_s)
        self._waiting: list[_Note] = []
        self._offsets: dict[str, float] = {}
        self.on_bad_hit: Callable[[str, str], Awaitable[None]] | None = None

    def note(self, call: ChatCall, *, cache_key: str = "") -> None:
        """After an answer was given. Not for one of several prompts, whose request id names no single answer, and
        not where residency is asked for: the store lies wherever the tenant was first seen.

        cache_key: the entry that answered, when a cache did.
        """
        report = call.report
        if call.is_part or call.request.residency is not None:
            return
        record = AnswerRecord(
            request_id=report.request_id,
            at_s=self._clock.now_s(),
            served_by=report.served_by or "",
            model=report.model or "",
            tier=report.tier or "",
            score=report.complexity,
            cache_key=cache_key,
            escalated=report.cascade.complaint if report.cascade else "",
        )
        question = "" if cache_key else _bounded(call.request.last_user_text)
        self._waiting.append(_Note(call.tenant.id, question, record))
        self._flush_later(call.background)

    async def rate(self, tenant: str, request_id: str, rating: Rating) -> AnswerRecord:
        """The answer that was rated. A later rating replaces an earlier one.

        Raises NotFound for a request that is not this tenant's, too old, or not kept; GatewayError (503) when the
        store is down.
        """
        await self._flush()  # the answer may still wait here
        try:
            found = await self._store.rate(tenant, request_id, rating)
        except StoreError as exc:
            raise _unavailable() from exc
        if found is None:
            message = "No answer with this request_id is kept. An answer can be rated about a second after its end."
            raise NotFound(message, param="request_id", code="unknown_request_id")
        if rating == "bad" and found.served_by == "semantic-cache" and self.on_bad_hit is not None:
            await self.on_bad_hit(tenant, found.cache_key)
        return found

    async def export(self, tenant: str) -> str:
        """Rated and escalated answers as JSON Lines, oldest first. Raises GatewayError (503)."""
        await self._flush()
        try:
            return await self._store.labelled(tenant)
        except StoreError as exc:
            raise _unavailable() from exc

    def offset(self, tenant: str) -> float:
        """What the tenant's ratings move the router's thresholds by, as this isolate was told last; 0 until then."""
        return self._offsets.get(tenant, 0.0)

    def _note_offset(self, tenant: str, offset: float) -> None:
        if len(self._offsets) >= MOST_TENANTS:
            self._offsets.clear()
        self._offsets[tenant] = offset

    def _flush_later(self, background: Background) -> None:
        if len(self._waiting) >= MAX_WAITING:
            background.run(self._flush())
        else:
            self._timer.start(background)

    async def _flush(self) -> None:
        """Writes what waits. A store that fails loses these notes, which is logged: never an error of a request."""
        notes, self._waiting = self._waiting, []
        by_tenant: dict[str, list[AnswerRecord]] = {}
        for note in notes:
            by_tenant.setdefault(note.tenant, []).append(_with_features(note))
        for tenant, records in by_tenant.items():
            try:
                self._note_offset(tenant, await self._store.add(tenant, records))
            except StoreError as exc:
                self._log.event("feedback_lost", answers=len(records), reason=exc.message)


def offsets(settings: Settings, book: FeedbackBook | None) -> Callable[[str], float]:
    """By tenant, what ratings move the thresholds by: nothing unless THRESHOLD_OFFSET is on."""
    return book.offset if book is not None and settings.threshold_offset == "on" else lambda tenant: 0.0


def _with_features(note: _Note) -> AnswerRecord:
    if not note.question:
        return note.record
    read = text_features.read(note.question)
    return replace(note.record, shape=read.shape, features=hashed_terms(islice(read.terms(), MAX_FEATURES)))


def _bounded(text: str) -> str:
    """As much of a question as its features are read from."""
    if len(text) <= HEAD_CHARACTERS + TAIL_CHARACTERS:
        return text
    return f"{text[:HEAD_CHARACTERS]} {text[-TAIL_CHARACTERS:]}"


def _unavailable() -> GatewayError:
    message = "Feedback can't be kept right now; try again."
    return GatewayError(message, code="feedback_unavailable", status=503, retry_after_s=1)

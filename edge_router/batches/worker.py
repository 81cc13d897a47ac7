"""Works on what the queue brings: checks a batch's file, answers a chunk of its lines, puts its results together."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import GatewayError, RequestRejected, StoreError
from ..ports import Background, Bucket, Clock, Log, QueueMessage, TenantBooks
from ..replies import Reply
from ..report import Report
from .lines import MAX_ERRORS, MAX_LINES, Chunk, InputCheck, LineError, LineReader, parse_line
from .results import Outcome, Unanswered, answered_line, decode_part, encode_part, result_prefix, unanswered_line
from .room import Room, weight_of
from .storing import HELD_BYTES, RESULT_FILES, PartWriter, file_key, parts_prefix, stored_lines, written_files

if TYPE_CHECKING:
    from .whole import WholeBatches

MAX_ATTEMPTS = 5  # of one line
RETRY_FACTOR = 4  # from one attempt's delay to the next one's
WORK_S = 600.0  # after that no further line is begun: a delivery may take 15 minutes
REDELIVER_S = 5  # when storage fails
CHUNKS_PER_CALL = 500
CHUNKS_TOGETHER = 8  # whose results are read at a time, when they are put together

Json = dict[str, Any]


class LineAnswerer(Protocol):
    """The gateway, for a request that was left with it earlier."""

    async def answer_later(
        self, key_id: str | None, tenant_id: str, path: str, body: dict[str, Any], background: Background
    ) -> tuple[Reply, Report]:
        """Any outcome. key_id: of the key that left it; None: the gateway was open. Never raises."""
        ...


class BatchWorker:
    """Scope: isolate. retry_s: before the second attempt of a line."""

    def __init__(
        self,
        bucket: Bucket,
        books: TenantBooks,
        answerer: LineAnswerer,
        whole: "WholeBatches",
        *,
        clock: Clock,
        log: Log,
        new_id: Callable[[], str],
        retry_s: float,
    ) -> None:
        self._bucket = bucket
        self._books = books
        self._answerer = answerer
        self._whole = whole
        self._clock = clock
        self._log = log
        self._new_id = new_id
        self._retry_s = retry_s

    async def take(self, messages: Sequence[QueueMessage], background: Background) -> None:
        """One delivery. Each message is done with by itself: one that fails comes again. Never raises."""
        delivery = _Delivery(background, Room(), self._clock.elapsed_ms() + WORK_S * 1000)
        await asyncio.gather(*(self._take(message, delivery) for message in messages))

    async def bury(self, messages: Sequence[QueueMessage]) -> None:
        """Messages that were delivered as often as the queue does, in vain. Never raises."""
        for message in messages:
            body = message.body
            try:
                if body["op"] == "answer":
                    await self._books.ask(body["tenant"], "give_up", batch_id=body["batch"], number=body["chunk"])
                elif body["op"] == "validate":
                    error = LineError("server_error", "The file could not be read.").to_body()
                    await self._books.ask(body["tenant"], "fail", batch_id=body["batch"], errors=[error])
                # All else is given out again by the book itself, for as long as it takes.
                message.ack()
            except StoreError as exc:
                self._log.event("batch_failed", op=body["op"], reason=exc.message)
                message.retry(REDELIVER_S)

    async def _take(self, message: QueueMessage, delivery: "_Delivery") -> None:
        work = {
            "validate": self._validate,
            "answer": self._answer,
            "hand_over": self._hand_over,
            "poll": self._poll,
            "assemble": self._assemble,
        }
        try:
            await work[message.body["op"]](message.body, delivery)
            message.ack()
        except StoreError as exc:
            self._log.event("batch_failed", op=message.body["op"], reason=exc.message)
            message.retry(REDELIVER_S)
        except Exception as exc:  # a background task: nobody else would tell
            self._log.event("crash", op=str(message.body.get("op")), reason=type(exc).__name__)
            message.retry(REDELIVER_S)

    async def _validate(self, order: Mapping[str, Any], _: "_Delivery") -> None:
        tenant, batch_id = order["tenant"], order["batch"]
        batch = await self._books.ask(tenant, "task", batch_id=batch_id, task="validate")
        if batch is None:
            return
        await self._books.ask(tenant, "begin_chunks", batch_id=batch_id)
        whole = self._whole.check(batch["endpoint"])
        check, chunks = InputCheck(batch["endpoint"], whole.see if whole else None), []
        file = await self._books.ask(tenant, "file", file_id=batch["input_file_id"])
        key, size = file_key(tenant, batch["input_file_id"]), file["bytes"] if file else 0
        async for lines in stored_lines(self._bucket, key, size):
            chunks += [chunk for line in lines if (chunk := check.take(line)) is not None]
            while len(chunks) >= CHUNKS_PER_CALL:
                await self._add_chunks(tenant, batch_id, chunks[:CHUNKS_PER_CALL])
                del chunks[:CHUNKS_PER_CALL]
            if len(check.errors) >= MAX_ERRORS or check.total > MAX_LINES:
                break
        last = check.close()
        if check.errors:
            errors = [error.to_body() for error in check.errors]
            await self._books.ask(tenant, "fail", batch_id=batch_id, errors=errors)
            return
        await self._add_chunks(tenant, batch_id, [*chunks, *([last] if last else [])])
        upstream = await self._whole.chosen(whole, tenant, batch)
        await self._books.ask(tenant, "start", batch_id=batch_id, total=check.total, upstream=upstream)

    async def _hand_over(self, order: Mapping[str, Any], _: "_Delivery") -> None:
        await self._whole.hand_over(order["tenant"], order["batch"])

    async def _poll(self, order: Mapping[str, Any], _: "_Delivery") -> None:
        await self._whole.poll(order["tenant"], order["batch"])

    async def _add_chunks(self, tenant: str, batch_id: str, chunks: Sequence[Chunk]) -> None:
        await self._books.ask(tenant, "add_chunks", batch_id=batch_id, chunks=[chunk.to_facts() for chunk in chunks])

    async def _answer(self, order: Mapping[str, Any], delivery: "_Delivery") -> None:
        tenant, batch_id, number = order["tenant"], order["batch"], order["chunk"]
        claim = await self._books.ask(tenant, "claim", batch_id=batch_id, number=number, sent=order["sent"])
        if claim is None:
            return
        lines = await self._lines(tenant, claim["input_file_id"], claim)
        job = _Job(claim["key_id"], tenant, claim["endpoint"], result_prefix(batch_id), claim["first"], delivery)
        answers = await asyncio.gather(*(self._answer_line(place, lines[place], job) for place in claim["open"]))
        outcomes, retries = [], {}
        for answer in answers:
            if isinstance(answer, _Failed):
                attempts = claim["attempts"].get(str(answer.outcome.place), 0) + 1
                if attempts < MAX_ATTEMPTS:
                    delay_s = self._retry_s * RETRY_FACTOR ** (attempts - 1)
                    retries[str(answer.outcome.place)] = max(delay_s, answer.retry_after_s)
                else:
                    outcomes.append(answer.outcome)
            elif answer is not None:
                outcomes.append(answer)
        part, data = f"{number}-{self._new_id()}", encode_part(outcomes)
        if data:
            await self._bucket.put(parts_prefix(tenant, batch_id) + part, data)
        delivery.held_bytes -= sum(len(each.text) for each in outcomes)
        await self._books.ask(
            tenant,
            "record",
            batch_id=batch_id,
            number=number,
            part=part,
            part_bytes=len(data),
            results=[[each.place, int(each.is_ok), each.input_tokens, each.output_tokens] for each in outcomes],
            retries=retries,
        )

    async def _lines(self, tenant: str, file_id: str, chunk: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The requests of a chunk."""
        data = await self._bucket.read(file_key(tenant, file_id), chunk["offset"], chunk["bytes"])
        reader = LineReader()
        texts = [line.text or b"" for line in (*reader.feed(data), *reader.close())]
        lines = [parse_line(text) for text in texts]
        if len(lines) != chunk["lines"] or None in lines:
            raise StoreError(f"The file {file_id} is not the one that was checked.")
        return [line for line in lines if line is not None]

    async def _answer_line(self, place: int, line: Mapping[str, Any], job: "_Job") -> "Outcome | _Failed | None":
        """None when there is no time or room left to begin with it."""
        async with job.delivery.room.taken(weight_of(job.endpoint, line["body"])):
            if self._clock.elapsed_ms() > job.delivery.ends_ms or job.delivery.held_bytes >= HELD_BYTES:
                return None
            refusal = _refusal(line["body"])
            if refusal is not None:
                reply, report = Reply(refusal.status, json.dumps(refusal.to_body())), Report(f"req_{self._new_id()}")
            else:
                reply, report = await self._answerer.answer_later(
                    job.key_id, job.tenant, job.endpoint, dict(line["body"]), job.delivery.background
                )
        assert isinstance(reply.body, str)
        text = answered_line(
            line["custom_id"], f"{job.result_prefix}{job.first + place}", reply.status, report.request_id, reply.body
        ).encode()
        is_ok = reply.status < 400
        outcome = Outcome(place, is_ok, text, report.input_tokens, report.output_tokens)
        if is_ok or not _is_passing(reply):
            job.delivery.held_bytes += len(text)
            return outcome
        return _Failed(outcome, float(reply.headers.get("retry-after", 0)))

    async def _assemble(self, order: Mapping[str, Any], _: "_Delivery") -> None:
        """Writes both result files. Doing it twice writes the same again."""
        tenant, batch_id = order["tenant"], order["batch"]
        batch = await self._books.ask(tenant, "task", batch_id=batch_id, task="assemble")
        if batch is None:
            return
        if batch["internal"].get("upstream"):
            await self._whole.collect(tenant, batch)
            await self._clear(tenant, batch_id)
            return
        writers = [PartWriter(self._bucket, file_key(tenant, batch["internal"][name])) for name in RESULT_FILES]
        failed, last = 0, -1
        while chunks := await self._books.ask(tenant, "progress", batch_id=batch_id, after=last, limit=CHUNKS_TOGETHER):
            last = chunks[-1]["number"]
            for group in _groups(chunks):
                async for is_ok, line in self._results(tenant, batch, group):
                    failed += not is_ok
                    await writers[0 if is_ok else 1].write(line + b"\n")
        files = await written_files(batch, writers, self._clock.now_s())
        await self._books.ask(tenant, "finish", batch_id=batch_id, files=files, failed=failed)
        await self._clear(tenant, batch_id)

    async def _clear(self, tenant: str, batch_id: str) -> None:
        """What was kept while the batch ran."""
        while keys := await self._bucket.keys(parts_prefix(tenant, batch_id)):
            await self._bucket.delete(keys)

    async def _results(self, tenant: str, batch: Json, chunks: Sequence[Json]) -> AsyncIterator[tuple[bool, bytes]]:
        """Of each line, in order: whether it was a success, and its line of the result file."""
        if len(chunks) == 1:
            async for result in self._result_lines(tenant, batch, chunks[0]):
                yield result
            return

        async def read(chunk: Json) -> list[tuple[bool, bytes]]:
            return [result async for result in self._result_lines(tenant, batch, chunk)]

        for results in await asyncio.gather(*map(read, chunks)):
            for result in results:
                yield result

    async def _result_lines(self, tenant: str, batch: Json, chunk: Json) -> AsyncIterator[tuple[bool, bytes]]:
        """Those of one chunk. Of large ones no more than one part is in memory, which may be read more than once."""
        prefix = parts_prefix(tenant, batch["id"])
        parts: dict[int, dict[int, bytes]] = {}
        inputs: list[Mapping[str, Any]] | None = None
        for place in range(chunk["lines"]):
            part, is_ok = chunk["done"].get(str(place), (-1, 0))
            if part >= 0:
                if part not in parts:
                    if chunk["parts_bytes"] > HELD_BYTES:
                        parts.clear()
                    parts[part] = decode_part(await self._bucket.read(prefix + chunk["parts"][part]))
                yield bool(is_ok), parts[part][place]
                continue
            if inputs is None:
                inputs = await self._lines(tenant, batch["input_file_id"], chunk)
            why: Unanswered = "dead" if str(place) in chunk["done"] else batch["internal"]["ending"]
            result_id = f"{result_prefix(batch['id'])}{chunk['first'] + place}"
            yield False, unanswered_line(inputs[place]["custom_id"], result_id, why).encode()


class _Delivery:
    """What the messages of one delivery share. ends_ms: on the clock for durations. held_bytes: of results that are not
    stored yet.
    """

    def __init__(self, background: Background, room: Room, ends_ms: float) -> None:
        self.background = background
        self.room = room
        self.ends_ms = ends_ms
        self.held_bytes = 0


class _Job:
    """What the lines of one chunk share."""

    def __init__(
        self, key_id: str | None, tenant: str, endpoint: str, result_prefix: str, first: int, delivery: _Delivery
    ) -> None:
        self.key_id = key_id
        self.tenant = tenant
        self.endpoint = endpoint
        self.result_prefix = result_prefix
        self.first = first
        self.delivery = delivery


class _Failed:
    """An answer that may be better another time."""

    def __init__(self, outcome: Outcome, retry_after_s: float) -> None:
        self.outcome = outcome
        self.retry_after_s = retry_after_s


def _groups(chunks: Sequence[Json]) -> Iterator[list[Json]]:
    """Chunks that follow each other, as many as fit into memory together; one too large for that is by itself."""
    group: list[Json] = []
    size = 0
    for chunk in chunks:
        if group and size + chunk["parts_bytes"] > HELD_BYTES:
            yield group
            group, size = [], 0
        group.append(chunk)
        size += chunk["parts_bytes"]
    yield group


def _refusal(body: Mapping[str, Any]) -> GatewayError | None:
    """What a request can't ask for in a batch."""
    if body.get("stream"):
        return RequestRejected("A request in a batch can't be streamed.", param="stream", code="invalid_value")
    if body.get("residency") is not None:
        message = "A batch can't be kept in one area; send this request by itself."
        return RequestRejected(message, param="residency", code="residency_not_available", status=403)
    return None


def _is_passing(reply: Reply) -> bool:
    """Whether the same request may well succeed later."""
    return reply.status in (408, 425, 429) or reply.status >= 500

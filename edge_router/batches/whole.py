"""Batches that a provider with OpenAI's batch API answers whole: handed over, watched, and collected in input order.

Source: OpenAI API reference, "Batch". Everything here may be done twice: the queue delivers at least once.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ..auth import Tenant
from ..budgets.charging import Budgets
from ..budgets.money import Cost, nano_usd
from ..budgets.worst_case import TEMPLATE_TOKENS
from ..catalog import Catalog, Model
from ..errors import GatewayError, RequestRejected, StoreError, UpstreamError
from ..ports import BatchProviders, Bucket, Clock, Log, TenantBooks, UpstreamResponse
from ..relay import MAX_CHOICES
from ..requests import Controls, parse_json_object
from ..settings import BatchUpstream
from ..timers import Deadline
from .lines import Line, LineReader, digest_of, parse_line, repeats_a_name
from .results import Unanswered, result_prefix, unanswered_line
from .storing import (
    HELD_BYTES,
    RANGE_BYTES,
    RESULT_FILES,
    PartWriter,
    file_key,
    parts_prefix,
    stored_lines,
    written_files,
)

ENDPOINT = "/v1/chat/completions"
CALL_S = 60.0  # for the beginning of an answer, and for the rest of one that is not a file
PIECE_S = 60.0  # for each piece of a file that comes
UPLOAD_S = 600.0  # for a file that goes there: 100 MiB at 1.4 Mbit/s; a delivery may take 15 minutes
HAND_OVERS = 5  # that may fail before the batch is answered here
END_GRACE_S = 1800.0  # for a provider to stop; OpenAI's "cancelling" takes up to ten minutes
MAX_RESULT_BYTES = 16 * 1024 * 1024  # of one line
GAP_BYTES = 64 * 1024  # between two results that are still read together
LISTED = 100  # of the provider's newest batches, to find one that was handed over already
TAG = "nearside_batch"  # in the provider's metadata

Json = dict[str, Any]
_ENDED = {"completed": None, "expired": "expired", "cancelled": "cancelled"}  # there -> how ours ends, if not yet known


class Holders(Protocol):
    async def holder_of(self, key_id: str | None, tenant_id: str) -> Tenant:
        """As `Gateway.holder_of`."""
        ...


class WholeCheck:
    """Whether all requests of a batch may go to one provider as they are, and what they may cost there at most."""

    def __init__(self, upstreams: Sequence[BatchUpstream], catalog: Catalog) -> None:
        self._by_model = {model: upstream for upstream in upstreams for model in upstream.models}
        self._catalog = catalog
        self._models: set[object] = set()
        self._is_plain = True
        self._has_limits = True
        self._input_tokens = self._output_tokens = 0

    def see(self, body: Mapping[str, Any], text: bytes) -> None:
        if not self._is_plain or len(self._models) > 1:
            return
        model_id = body.get("model")
        model = self._catalog.find(model_id) if isinstance(model_id, str) and model_id in self._by_model else None
        # What is ours to do with a request, a provider would not do.
        is_ours = bool(body.get("stream")) or not Controls.model_fields.keys().isdisjoint(body)
        if model is None or is_ours or repeats_a_name(text):
            self._is_plain = False
            return
        self._models.add(model_id)
        limits = [body[name] for name in ("max_completion_tokens", "max_tokens") if body.get(name) is not None]
        # Of two limits nobody knows which one the provider takes.
        limit, choices = _count(limits[0]) if len(limits) == 1 else 0, _count(body.get("n") or 1)
        if 0 < limit <= model.context_window_tokens and 0 < choices <= MAX_CHOICES:
            self._output_tokens += limit * choices
        else:
            self._has_limits = False
        self._input_tokens += _most_input_tokens(body, len(text), model)

    def found(self, tenant: Tenant) -> Json | None:
        """The provider, the model, and the most that it may cost; None when it is not to go there."""
        if not self._is_plain or len(self._models) != 1:
            return None
        (model_id,) = self._models
        model = self._catalog.find(str(model_id))
        assert model is not None  # it was seen
        is_bounded = tenant.budget is None or self._has_limits
        if not is_bounded or not _may_give(tenant, model):
            return None
        upstream = self._by_model[model.id]
        most = _cost(model, upstream, self._input_tokens, self._output_tokens)
        return {
            "id": upstream.id,
            "model": model.id,
            "most": [most.nano_usd, most.tokens],
            "has_budget": tenant.budget is not None,
            "failures": 0,
        }


class WholeBatches:
    """Scope: isolate. poll_s: between two questions how far a batch is."""

    def __init__(
        self,
        upstreams: Sequence[BatchUpstream],
        catalog: Catalog,
        providers: BatchProviders,
        bucket: Bucket,
        books: TenantBooks,
        budgets: Budgets,
        holders: Holders,
        *,
        clock: Clock,
        log: Log,
        poll_s: float,
    ) -> None:
        self._upstreams = {upstream.id: upstream for upstream in upstreams}
        self._catalog = catalog
        self._providers = providers
        self._bucket = bucket
        self._books = books
        self._budgets = budgets
        self._holders = holders
        self._clock = clock
        self._log = log
        self._poll_s = poll_s

    def check(self, endpoint: str) -> WholeCheck | None:
        """None where no provider comes into question."""
        return WholeCheck([*self._upstreams.values()], self._catalog) if endpoint == ENDPOINT else None

    async def chosen(self, check: WholeCheck | None, tenant: str, batch: Json) -> Json | None:
        """Of a batch whose lines were all seen: where it may go whole."""
        if check is None or not self._upstreams:
            return None
        try:
            return check.found(await self._holders.holder_of(batch["internal"]["key_id"], tenant))
        except GatewayError:
            return None  # each of its lines will say why

    async def hand_over(self, tenant: str, batch_id: str) -> None:
        batch = await self._books.ask(tenant, "task", batch_id=batch_id, task="hand_over")
        if batch is None:
            return
        facts = batch["internal"]["upstream"]
        upstream = self._upstreams.get(facts["id"])
        is_wanted = batch["internal"]["ending"] == "completed"
        try:
            remote = None if upstream is None else await self._found_there(upstream, batch_id)
            if remote is None and not is_wanted:
                await self._end(tenant, batch, {})
            elif upstream is None or (remote is None and not await self._reserved(tenant, batch)):
                await self._take_back(tenant, batch, "not_possible")
            else:
                remote = remote or await self._create(upstream, tenant, batch)
                noted = {"batch": remote["id"], "file": remote.get("input_file_id"), "failures": 0}
                if not await self._note(tenant, batch_id, noted):
                    await self._stop(upstream, remote["id"])
        except _Refused as exc:
            await self._take_back(tenant, batch, exc.reason)
        except UpstreamError as exc:
            if facts["failures"] + 1 >= HAND_OVERS and is_wanted:
                await self._take_back(tenant, batch, exc.message)
            else:
                await self._put_off(tenant, batch, exc.message)

    async def poll(self, tenant: str, batch_id: str) -> None:
        batch = await self._books.ask(tenant, "task", batch_id=batch_id, task="poll")
        if batch is None:
            return
        facts = batch["internal"]["upstream"]
        upstream = self._upstreams.get(facts["id"])
        if upstream is None:
            await self._take_back(tenant, batch, "not_configured")
            return
        try:
            batch = await self._cancelled_without_holder(tenant, batch)
            is_wanted = batch["internal"]["ending"] == "completed"
            remote = await self._json(upstream, "GET", f"/batches/{facts['batch']}")
            status = str(remote.get("status"))
            if status in _ENDED:
                files = {name: remote[name] for name in RESULT_FILES if isinstance(remote.get(name), str)}
                await self._end(tenant, batch, {"files": files}, _ENDED[status])
                return
            if status == "failed":
                raise _Refused("failed_there")
            if not is_wanted and status != "cancelling":
                await self._stop(upstream, facts["batch"])
            if self._is_too_late(batch):
                await self._end(tenant, batch, {})
                return
            await self._note(tenant, batch_id, {"counts": _counts(remote), "failures": 0})
        except _Refused as exc:
            await self._take_back(tenant, batch, exc.reason)
        except UpstreamError as exc:
            if self._is_too_late(batch):
                await self._end(tenant, batch, {})
            else:
                await self._put_off(tenant, batch, exc.message)

    async def collect(self, tenant: str, batch: Json) -> None:
        """Writes both result files, one line a request, in the order of the requests."""
        facts, internal = batch["internal"]["upstream"], batch["internal"]
        upstream = self._upstreams.get(facts["id"])
        found = _Found(await self._places(tenant, batch))
        if facts.get("files"):
            if upstream is None:
                raise StoreError(f"BATCH_UPSTREAMS has no {facts['id']} any more, which has the results of a batch.")
            for name, file_id in facts["files"].items():
                await self._fetch(upstream, file_id, found, self._copy_key(tenant, batch, name))
        writers = [PartWriter(self._bucket, file_key(tenant, internal[name])) for name in RESULT_FILES]
        counts = [0, 0]
        async for is_ok, line in self._in_order(tenant, batch, found):
            counts[0 if is_ok else 1] += 1
            await writers[0 if is_ok else 1].write(line + b"\n")
        files = await written_files(batch, writers, self._clock.now_s())
        tokens = (found.input_tokens, found.output_tokens)
        is_first = await self._books.ask(
            tenant, "finish", batch_id=batch["id"], files=files, failed=counts[1], completed=counts[0], tokens=tokens
        )
        if not is_first:
            return
        # Only once: a worker that dies here leaves the reservation, which then counts as spent.
        await self._settle(tenant, batch, tokens)
        self._log.event("batch_collected", upstream=facts["id"], completed=counts[0], failed=counts[1])
        if upstream is not None:
            await self._forget_there(upstream, [facts.get("file"), *facts.get("files", {}).values()])

    # At the provider

    async def _found_there(self, upstream: BatchUpstream, batch_id: str) -> Json | None:
        """The batch, if it was created there and nobody lived to note that."""
        listed = (await self._json(upstream, "GET", f"/batches?limit={LISTED}")).get("data")
        for each in map(_mapping, listed if isinstance(listed, list) else ()):
            if _mapping(each.get("metadata")).get(TAG) == batch_id and isinstance(each.get("id"), str):
                return each
        return None

    async def _create(self, upstream: BatchUpstream, tenant: str, batch: Json) -> Json:
        file = await self._books.ask(tenant, "file", file_id=batch["input_file_id"])
        content = await self._bucket.body(file_key(tenant, batch["input_file_id"]))
        if file is None or content is None:
            raise _Refused("no_input_file")
        async with self._in_time(upstream, UPLOAD_S):
            answer = await self._providers.upload(upstream, content, file["bytes"], f"{batch['id']}.jsonl")
        uploaded = await self._object_of(upstream, answer)
        asked = {"input_file_id": uploaded.get("id"), "endpoint": ENDPOINT, "completion_window": "24h"}
        created = await self._json(upstream, "POST", "/batches", {**asked, "metadata": {TAG: batch["id"]}})
        if not isinstance(created.get("id"), str):
            raise UpstreamError("The provider's answer can't be read.")
        return {**created, "input_file_id": uploaded.get("id")}

    async def _stop(self, upstream: BatchUpstream, remote_id: str) -> None:
        """One that has ended meanwhile can't be stopped, which is as well."""
        response = await self._asked(upstream, "POST", f"/batches/{remote_id}/cancel")
        await response.cancel()

    async def _forget_there(self, upstream: BatchUpstream, file_ids: Sequence[str | None]) -> None:
        """What the provider keeps of it; it deletes files by itself at some time as well."""
        for file_id in filter(None, file_ids):
            try:
                await (await self._asked(upstream, "DELETE", f"/files/{file_id}")).cancel()
            except UpstreamError as exc:
                self._log.event("batch_upstream_failed", upstream=upstream.id, reason=exc.message)

    async def _json(self, upstream: BatchUpstream, method: str, path: str, body: Json | None = None) -> Json:
        """Raises _Refused for a status that will not change, UpstreamError for others."""
        return await self._object_of(upstream, await self._asked(upstream, method, path, body))

    async def _object_of(self, upstream: BatchUpstream, response: UpstreamResponse) -> Json:
        try:
            async with self._in_time(upstream, CALL_S):
                text = await response.text()
        finally:
            await response.cancel()  # harmless after the end
        status = response.status
        if status >= 500 or status in (408, 409, 425, 429):
            raise UpstreamError(f"The provider failed (status {status}).")
        if status >= 400:
            raise _Refused(f"status_{status}")
        try:
            return parse_json_object(text)
        except RequestRejected as exc:
            raise UpstreamError("The provider's answer can't be read.") from exc

    async def _asked(
        self, upstream: BatchUpstream, method: str, path: str, body: Json | None = None
    ) -> UpstreamResponse:
        async with self._in_time(upstream, CALL_S):
            return await self._providers.ask(upstream, method, path, body)

    @asynccontextmanager
    async def _in_time(self, upstream: BatchUpstream, delay_s: float) -> AsyncIterator[None]:
        """Raises UpstreamError when the block takes longer."""
        try:
            async with Deadline(self._clock, delay_s):
                yield
        except TimeoutError as exc:
            raise UpstreamError(f"No answer from {upstream.id} in time.") from exc

    # In the book

    async def _note(self, tenant: str, batch_id: str, facts: Json) -> bool:
        noted: bool = await self._books.ask(
            tenant, "note_upstream", batch_id=batch_id, facts=facts, delay_s=self._poll_s
        )
        return noted

    async def _put_off(self, tenant: str, batch: Json, reason: str) -> None:
        facts = batch["internal"]["upstream"]
        self._log.event("batch_upstream_failed", upstream=facts["id"], reason=reason)
        await self._note(tenant, batch["id"], {"failures": facts["failures"] + 1})

    async def _end(self, tenant: str, batch: Json, facts: Json, ending: str | None = None) -> None:
        await self._books.ask(tenant, "end_upstream", batch_id=batch["id"], facts=facts, ending=ending)

    async def _take_back(self, tenant: str, batch: Json, reason: str) -> None:
        """Our own queue answers it. First the reservation goes: the lines make their own."""
        self._log.event("batch_taken_back", upstream=batch["internal"]["upstream"]["id"], reason=reason)
        if batch["internal"]["upstream"]["has_budget"]:
            await self._budgets.settle_batch(tenant, batch["id"], None)
        await self._books.ask(tenant, "take_back", batch_id=batch["id"])

    async def _reserved(self, tenant: str, batch: Json) -> bool:
        """Whether the batch may still go there, as its key is now, and is in its tenant's means."""
        facts = batch["internal"]["upstream"]
        model = self._catalog.find(facts["model"])
        try:
            holder = await self._holders.holder_of(batch["internal"]["key_id"], tenant)
        except RequestRejected:
            return False
        except GatewayError as exc:
            raise StoreError(exc.message) from exc
        if model is None or not _may_give(holder, model):
            return False
        if holder.budget is not None and not facts["has_budget"]:
            return False  # nobody has looked what it may cost
        return await self._budgets.reserve_for_batch(holder, batch["id"], Cost(*facts["most"]))

    async def _settle(self, tenant: str, batch: Json, tokens: tuple[int, int]) -> None:
        """What nobody can tell the price of stays reserved, and counts as spent."""
        facts = batch["internal"]["upstream"]
        model, upstream = self._catalog.find(facts["model"]), self._upstreams.get(facts["id"])
        if not facts["has_budget"]:
            return
        if model is not None and upstream is not None and any(tokens):
            await self._budgets.settle_batch(tenant, batch["id"], (_cost(model, upstream, *tokens), model.id))
        elif "batch" not in facts or facts.get("files") == {}:
            await self._budgets.settle_batch(tenant, batch["id"], None)

    async def _cancelled_without_holder(self, tenant: str, batch: Json) -> Json:
        """The batch, cancelled if the key that left it may no longer ask."""
        try:
            await self._holders.holder_of(batch["internal"]["key_id"], tenant)
        except RequestRejected:
            batch = await self._books.ask(tenant, "cancel", batch_id=batch["id"])
        except GatewayError as exc:
            self._log.event("batch_upstream_failed", reason=exc.message)
        return batch

    def _is_too_late(self, batch: Json) -> bool:
        """Whether a batch that is to end was waited for long enough."""
        if batch["internal"]["ending"] == "completed":
            return False
        ends_at_s: float = batch["cancelling_at"] or batch["expires_at"]
        return self._clock.now_s() > ends_at_s + END_GRACE_S

    # Results

    def _copy_key(self, tenant: str, batch: Json, name: str) -> str:
        """Of a result file of the provider, as it came."""
        return f"{parts_prefix(tenant, batch['id'])}{name}"

    async def _places(self, tenant: str, batch: Json) -> dict[bytes, int]:
        """Of each request, by the digest of its custom_id."""
        return {digest_of(custom_id): place async for place, custom_id in self._requests(tenant, batch)}

    async def _requests(self, tenant: str, batch: Json) -> AsyncIterator[tuple[int, str]]:
        """Place and custom_id of each, in order."""
        file = await self._books.ask(tenant, "file", file_id=batch["input_file_id"])
        key, size, place = file_key(tenant, batch["input_file_id"]), file["bytes"] if file else 0, 0
        async for lines in stored_lines(self._bucket, key, size):
            for line in lines:
                request = parse_line(line.text or b"")
                if request is None:
                    raise StoreError(f"The file {batch['input_file_id']} is not the one that was checked.")
                yield place, request["custom_id"]
                place += 1

    async def _fetch(self, upstream: BatchUpstream, file_id: str, found: "_Found", copy_key: str) -> None:
        """Copies a result file as it comes, and notes what stands where."""
        writer, reader = PartWriter(self._bucket, copy_key), LineReader(MAX_RESULT_BYTES)
        try:
            response = await self._asked(upstream, "GET", f"/files/{file_id}/content")
            try:
                if response.status != 200:
                    raise UpstreamError(f"The results can't be read at {upstream.id} (status {response.status}).")
                while (piece := await self._piece(upstream, response)) is not None:
                    await writer.write(piece)
                    for line in reader.feed(piece):
                        found.note(line, copy_key)
            finally:
                await response.cancel()  # harmless after the end
        except UpstreamError as exc:
            await writer.abort()
            raise StoreError(exc.message) from exc  # the queue brings the task again
        for line in reader.close():
            found.note(line, copy_key)
        await writer.close()

    async def _piece(self, upstream: BatchUpstream, response: UpstreamResponse) -> bytes | None:
        async with self._in_time(upstream, PIECE_S):
            return await response.read()

    async def _in_order(self, tenant: str, batch: Json, found: "_Found") -> AsyncIterator[tuple[bool, bytes]]:
        """Of each request, in order: whether it succeeded, and its line."""
        ending = batch["internal"]["ending"]
        why: Unanswered = "missing" if ending == "completed" else ending
        prefix = result_prefix(batch["id"])
        group: list[tuple[int, str]] = []
        size = 0

        async def lines_of_group() -> AsyncIterator[tuple[bool, bytes]]:
            texts = await self._read_results([found.results[place] for place, _ in group if place in found.results])
            for place, custom_id in group:
                result = found.results.get(place)
                if result is None:
                    yield False, unanswered_line(custom_id, f"{prefix}{place}", why).encode()
                else:
                    yield result.is_ok, texts[result]

        async for place, custom_id in self._requests(tenant, batch):
            result = found.results.get(place)
            length = result.end - result.offset if result else 0
            if group and size + length > HELD_BYTES:
                async for line in lines_of_group():
                    yield line
                group, size = [], 0
            group.append((place, custom_id))
            size += length
        async for line in lines_of_group():
            yield line

    async def _read_results(self, results: Sequence["_Result"]) -> dict["_Result", bytes]:
        """The lines, read in as few pieces as lie near each other."""
        texts: dict[_Result, bytes] = {}
        span: list[_Result] = []
        for result in [*sorted(results, key=lambda each: (each.key, each.offset)), None]:
            if span and (result is None or not _lies_near(span, result)):
                start = span[0].offset
                data = await self._bucket.read(span[0].key, start, span[-1].end - start)
                texts |= {each: data[each.offset - start : each.end - start].strip() for each in span}
                span = []
            if result is not None:
                span.append(result)
        return texts


class _Refused(Exception):
    """The provider will not do it, however often it is asked. reason: for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Result:
    """Where a result line lies: object, and bytes from `offset` to `end`."""

    key: str
    offset: int
    end: int
    is_ok: bool


class _Found:
    """The results that came, by the places of their requests. The first one for a request counts; what nobody asked
    for is left out.
    """

    def __init__(self, places: Mapping[bytes, int]) -> None:
        self._places = places
        self.results: dict[int, _Result] = {}
        self.input_tokens = self.output_tokens = 0

    def note(self, line: Line, key: str) -> None:
        result = parse_line(line.text or b"")
        if result is None or not isinstance(result.get("custom_id"), str):
            return
        place = self._places.get(digest_of(result["custom_id"]))
        if place is None or place in self.results:
            return
        response = _mapping(result.get("response"))
        status, usage = response.get("status_code"), _mapping(_mapping(response.get("body")).get("usage"))
        is_ok = result.get("error") is None and isinstance(status, int) and status < 400
        self.results[place] = _Result(key, line.offset, line.end, is_ok)
        self.input_tokens += _count(usage.get("prompt_tokens"))
        self.output_tokens += _count(usage.get("completion_tokens"))


def _lies_near(span: Sequence[_Result], result: _Result) -> bool:
    first, last = span[0], span[-1]
    is_small = result.end - first.offset <= RANGE_BYTES
    return result.key == first.key and result.offset - last.end <= GAP_BYTES and is_small


def _may_give(tenant: Tenant, model: Model) -> bool:
    """Whether a provider of the model may get this tenant's requests as they are."""
    is_allowed = tenant.models is None or tenant.models.allows(model.id, model.side)
    return is_allowed and tenant.prompts is None


def _most_input_tokens(body: Mapping[str, Any], size_bytes: int, model: Model) -> int:
    """No tokenizer makes more tokens than there are bytes. What stands for an image, only its model knows."""
    messages = body.get("messages")
    has_parts = not isinstance(messages, list) or any(
        not isinstance(each, dict) or isinstance(each.get("content"), list) for each in messages
    )
    window = model.context_window_tokens
    return window if has_parts else min(window, size_bytes + TEMPLATE_TOKENS)


def _cost(model: Model, upstream: BatchUpstream, input_tokens: int, output_tokens: int) -> Cost:
    price_usd = model.cost_usd(input_tokens, output_tokens) * upstream.price_factor
    return Cost(nano_usd(price_usd), input_tokens + output_tokens)


def _counts(remote: Mapping[str, Any]) -> dict[str, int]:
    counts = _mapping(remote.get("request_counts"))
    return {name: _count(counts.get(name)) for name in ("completed", "failed")}


def _mapping(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0

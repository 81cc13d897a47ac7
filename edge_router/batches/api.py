"""`/v1/files` and `/v1/batches` in OpenAI's shapes. Source: OpenAI API reference, "Files" and "Batch"."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict, Field

from .. import completions
from ..auth import Tenant
from ..errors import BodyTooLarge, GatewayError, MethodNotAllowed, NotFound, RequestRejected, StoreError
from ..ports import Bucket, Clock, TenantBooks
from ..replies import Reply, json_reply
from ..report import Report
from ..requests import parse_json_object, validated
from .book import WINDOW_S, file_record
from .lines import MAX_LINES
from .multipart import FormReader, PartBegins, PartData, read_boundary
from .storing import PartWriter, file_key

MAX_FILE_BYTES = 100 * 1024 * 1024
MAX_FILE_LINES = 2 * MAX_LINES  # blank ones counted: each is looked at, whatever is in it
MAX_FORM_BYTES = 16 * 1024  # of everything else in the form
MAX_FORM_PARTS = 32
MAX_DISCARDED_BYTES = 2 * MAX_FILE_BYTES  # of a declared upload that is refused; a longer one is not waited for
EXPIRES_AFTER_S = 30 * 24 * 3600  # by default, as OpenAI's files for batches
PURPOSE = "batch"
MAX_FILES_LISTED = 10_000
MAX_BATCHES_LISTED = 100

Json = dict[str, Any]


class BatchRequest(Protocol):
    """What of a request is read here."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]

    async def body(self) -> str: ...

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives."""
        ...

    async def discard(self) -> None:
        """Reads the rest of the body for nobody: a connection with unread bytes is reset, and nobody sees why."""
        ...


class _ExpiresAfter(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class CreateBatch(BaseModel):
    """`POST /v1/batches`."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

    input_file_id: str
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
    completion_window: Literal["24h"]
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
        ]
        | None
    ) = None
    output_expires_after: _ExpiresAfter | None = None


class _Content:
    """A file's contents as the runtime sends them."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream


class BatchApi:
    """Scope: isolate; holds no state of a request."""

    def __init__(self, bucket: Bucket, books: TenantBooks, clock: Clock, new_id: Callable[[], str]) -> None:
        self._bucket = bucket
        self._books = books
        self._clock = clock
        self._new_id = new_id

    async def handle(self, request: BatchRequest, tenant: Tenant, key_id: str | None, report: Report) -> Reply:
        """key_id: of the key whose tenant asks; None when the gateway is open. Raises GatewayError."""
        if tenant.residency is not None:
            message = f"Files and batches can't be kept in '{tenant.residency}', where this key's data stays."
            raise RequestRejected(message, code="residency_not_available", status=403)
        method = "GET" if request.method == "HEAD" else request.method
        try:
            body = await self._answer(method, request.path.removeprefix("/v1/").split("/"), request, tenant.id, key_id)
        except StoreError as exc:
            message = "Files and batches can't be reached right now; try again."
            raise GatewayError(message, code="batches_unavailable", status=503, retry_after_s=5) from exc
        if isinstance(body, _Content):
            return Reply(200, "", {**report.headers(), "content-type": "application/octet-stream"}, raw=body.stream)
        return json_reply(completions.dump(body), report)

    async def _answer(
        self, method: str, path: Sequence[str], request: BatchRequest, tenant: str, key_id: str | None
    ) -> Json | _Content:
        match (method, *path):
            case ("POST", "files"):
                return await self._upload(request, tenant)
            case ("GET", "files"):
                return await self._files(request.query, tenant)
            case ("GET", "files", file_id):
                return await self._file(tenant, file_id)
            case ("DELETE", "files", file_id):
                return await self._delete(tenant, file_id)
            case ("GET", "files", file_id, "content"):
                return await self._content(tenant, file_id)
            case ("POST", "batches"):
                return await self._create(await request.body(), tenant, key_id)
            case ("GET", "batches"):
                return await self._batches(request.query, tenant)
            case ("GET", "batches", batch_id):
                return _shown(await self._batch(tenant, batch_id))
            case ("POST", "batches", batch_id, "cancel"):
                return await self._cancel(tenant, batch_id)
        allowed = _allowed(path)
        if allowed is None:
            raise NotFound("Unknown path. The API is under /v1, see the README.", code="unknown_path")
        raise MethodNotAllowed(f"This path takes {allowed}.", allow=allowed)

    async def _upload(self, request: BatchRequest, tenant: str) -> Json:
        file_id = f"file-{self._new_id()}"
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > MAX_FILE_BYTES + MAX_FORM_BYTES:
            if int(length) <= MAX_DISCARDED_BYTES:
                await request.discard()
            raise _too_large()
        writer = PartWriter(self._bucket, file_key(tenant, file_id))
        try:
            form = await _read_form(request, writer)
            seconds = _checked(form)
            await writer.close()
        except BaseException as exc:
            await writer.abort()
            if isinstance(exc, RequestRejected):
                await request.discard()
            raise
        now_s = self._clock.now_s()
        file = file_record(
            file_id,
            filename=form["file"],
            size_bytes=writer.size_bytes,
            purpose=PURPOSE,
            created_s=now_s,
            expires_s=now_s + seconds,
        )
        await self._books.ask(tenant, "add_file", file=file)
        return file

    async def _files(self, query: str, tenant: str) -> Json:
        asked = parse_qs(query)
        order = _choice(asked, "order", ("asc", "desc"), "desc")
        limit = _limit(asked, MAX_FILES_LISTED, MAX_FILES_LISTED)
        files, has_more = await self._books.ask(
            tenant,
            "files",
            after=_first(asked, "after"),
            limit=limit,
            is_ascending=order == "asc",
            purpose=_first(asked, "purpose"),
        )
        return _page(files, has_more)

    async def _file(self, tenant: str, file_id: str, param: str = "file_id") -> Json:
        file: Json | None = await self._books.ask(tenant, "file", file_id=file_id)
        if file is None:
            raise _no_such_file(param)
        return file

    async def _delete(self, tenant: str, file_id: str) -> Json:
        outcome = await self._books.ask(tenant, "delete_file", file_id=file_id)
        if outcome == "unknown":
            raise _no_such_file("file_id")
        if outcome == "in_use":
            message = "A batch still reads this file; cancel the batch or wait for its end."
            raise RequestRejected(message, param="file_id", code="file_in_use", status=409)
        await self._bucket.delete([file_key(tenant, file_id)])
        return {"id": file_id, "object": "file", "deleted": True}

    async def _content(self, tenant: str, file_id: str) -> _Content:
        await self._file(tenant, file_id)
        stream = await self._bucket.body(file_key(tenant, file_id))
        if stream is None:
            raise _no_such_file("file_id")
        return _Content(stream)

    async def _create(self, text: str, tenant: str, key_id: str | None) -> Json:
        asked = validated(CreateBatch, parse_json_object(text))
        await self._file(tenant, asked.input_file_id, "input_file_id")
        now_s = int(self._clock.now_s())
        expiry = asked.output_expires_after
        batch_id = f"batch_{self._new_id()}"
        batch: Json = {
            "id": batch_id,
            "object": "batch",
            "endpoint": asked.endpoint,
            "errors": None,
            "input_file_id": asked.input_file_id,
            "completion_window": asked.completion_window,
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": now_s,
            "in_progress_at": None,
            "expires_at": now_s + WINDOW_S,
            "finalizing_at": None,
            "completed_at": None,
            "failed_at": None,
            "expired_at": None,
            "cancelling_at": None,
            "cancelled_at": None,
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "usage": {
                "input_tokens": 0,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 0,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 0,
            },
            "metadata": asked.metadata,
            "internal": {
                "key_id": key_id,
                "ending": "completed",
                "output_file_id": f"file-{self._new_id()}",
                "error_file_id": f"file-{self._new_id()}",
                "output_expires_s": expiry.seconds if expiry else EXPIRES_AFTER_S,
            },
        }
        return _shown(await self._books.ask(tenant, "create", batch=batch))

    async def _batches(self, query: str, tenant: str) -> Json:
        asked = parse_qs(query)
        limit = _limit(asked, 20, MAX_BATCHES_LISTED)
        batches, has_more = await self._books.ask(tenant, "batches", after=_first(asked, "after"), limit=limit)
        return _page([_shown(batch) for batch in batches], has_more)

    async def _batch(self, tenant: str, batch_id: str) -> Json:
        batch: Json | None = await self._books.ask(tenant, "batch", batch_id=batch_id)
        if batch is None:
            raise _no_such_batch()
        return batch

    async def _cancel(self, tenant: str, batch_id: str) -> Json:
        batch: Json | None = await self._books.ask(tenant, "cancel", batch_id=batch_id)
        if batch is None:
            raise _no_such_batch()
        if batch["status"] not in ("cancelling", "cancelled"):
            message = f"Cannot cancel a batch with status '{batch['status']}'."
            raise RequestRejected(message, param="batch_id", code="batch_not_cancellable", status=409)
        return _shown(batch)


async def _read_form(request: BatchRequest, writer: PartWriter) -> dict[str, str]:
    """The form's fields by their names; of the file its name, while its bytes went to `writer`."""
    reader = FormReader(read_boundary(request.headers.get("content-type")))
    fields: dict[str, bytearray] = {}
    current, filename = "", None
    other_bytes = parts = line_breaks = 0
    async for piece in request.pieces():
        for event in reader.feed(piece):
            if isinstance(event, PartBegins):
                current = event.name
                parts += 1
                if current == "file":
                    if filename is not None:
                        raise RequestRejected("Send one file at a time.", param="file", code="invalid_value")
                    filename = event.filename or "upload.jsonl"
                fields.setdefault(current, bytearray())
                other_bytes += len(current)
            elif isinstance(event, PartData) and current == "file":
                if writer.size_bytes + len(event.data) > MAX_FILE_BYTES:
                    raise _too_large()
                line_breaks += event.data.count(b"\n")
                if line_breaks > MAX_FILE_LINES:
                    message = f"The file has more than {MAX_FILE_LINES} lines, blank ones counted; split it."
                    raise RequestRejected(message, param="file", code="too_many_lines")
                await writer.write(event.data)
            else:
                fields[current] += event.data
                other_bytes += len(event.data)
            if other_bytes > MAX_FORM_BYTES or parts > MAX_FORM_PARTS:
                raise RequestRejected("The form's other fields are too long, or too many.", code="invalid_multipart")
    if not reader.is_complete:
        raise RequestRejected("The form broke off before its end.", code="invalid_multipart")
    texts = {name: bytes(value).decode("utf-8", "replace") for name, value in fields.items()}
    return texts if filename is None else {**texts, "file": filename}


def _checked(form: Mapping[str, str]) -> int:
    """Seconds until the file expires. Raises RequestRejected that names the first wrong field."""
    for name in ("file", "purpose"):
        if name not in form:
            raise RequestRejected(
                f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter"
            )
    if form["purpose"] != PURPOSE:
        message = f"Invalid 'purpose': files are kept for '{PURPOSE}' only."
        raise RequestRejected(message, param="purpose", code="invalid_value")
    anchor, seconds = form.get("expires_after[anchor]"), form.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return EXPIRES_AFTER_S
    as_number = int(seconds) if seconds and seconds.isdecimal() and len(seconds) < 10 else None
    return validated(_ExpiresAfter, {"anchor": anchor, "seconds": as_number}).seconds


def _allowed(path: Sequence[str]) -> str | None:
    """The methods of a path; None when there is no such path."""
    match path:
        case ["files" | "batches"]:
            return "GET, HEAD, POST"
        case ["files", _]:
            return "GET, HEAD, DELETE"
        case ["files", _, "content"] | ["batches", _]:
            return "GET, HEAD"
        case ["batches", _, "cancel"]:
            return "POST"
    return None


def _shown(batch: Json) -> Json:
    """Without what callers are not told."""
    return {name: value for name, value in batch.items() if name != "internal"}


def _page(items: list[Json], has_more: bool) -> Json:
    first, last = (items[0]["id"], items[-1]["id"]) if items else (None, None)
    return {"object": "list", "data": items, "first_id": first, "last_id": last, "has_more": has_more}


def _first(asked: Mapping[str, list[str]], name: str) -> str | None:
    return asked[name][0] if name in asked else None


def _choice(asked: Mapping[str, list[str]], name: str, choices: Sequence[str], default: str) -> str:
    value = _first(asked, name) or default
    if value not in choices:
        message = f"Invalid '{name}': expected one of {', '.join(choices)}."
        raise RequestRejected(message, param=name, code="invalid_value")
    return value


def _limit(asked: Mapping[str, list[str]], default: int, most: int) -> int:
    text = _first(asked, "limit") or str(default)
    if not (text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most):
        raise RequestRejected(f"Invalid 'limit': expected 1 to {most}.", param="limit", code="invalid_value")
    return int(text)


def _no_such_file(param: str) -> NotFound:
    return NotFound("No such File object.", param=param)


def _no_such_batch() -> NotFound:
    return NotFound("No such Batch object.", param="batch_id")


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"The file is larger than {MAX_FILE_BYTES} bytes.", param="file")

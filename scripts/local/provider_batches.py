"""Files and batches of the simulated provider, in memory: OpenAI's batch API for chat completions."""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from scripts.local.conditions import Conditions
from scripts.local.faulty_response import Answer, PlainAnswer, respond
from scripts.local.openai_shape import OpenAIDialect, error_answer, json_bytes
from scripts.local.openai_validation import InvalidRequest

TARGET = "upstream"
Json = dict[str, Any]
Make = Callable[[web.Request], Awaitable[PlainAnswer]]


class ProviderBatches:
    """answer_chat: of a line's body. key: the bearer token that callers must present; None accepts any caller."""

    def __init__(self, conditions: Conditions, answer_chat: Callable[[Json], Awaitable[Answer]], key: str | None):
        self._conditions = conditions
        self._answer_chat = answer_chat
        self._key = key
        self._files: dict[str, bytes] = {}
        self._batches: dict[str, Json] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._dialect = OpenAIDialect()

    def handling(self, make: Make) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """A handler that counts the call and sends the answer, or what its fault makes of it."""

        async def handle(request: web.Request) -> web.StreamResponse:
            fault = self._conditions.faults.take(TARGET)
            # The time to a first token is that of a line, not of these calls.
            latency = self._conditions.latency(TARGET).merged_with(ttft_s=0, itl_s=0, rtt_s=None)
            return await respond(
                request, lambda: self._made(request, make), fault=fault, latency=latency, dialect=self._dialect
            )

        async def counted(request: web.Request) -> web.StreamResponse:
            return await self._conditions.counted(TARGET, request, handle)

        return counted

    async def upload(self, request: web.Request) -> PlainAnswer:
        form = await request.post()
        file = form.get("file")
        if form.get("purpose") != "batch" or not isinstance(file, web.FileField):
            return error_answer(400, "A file and its purpose are needed.", param="purpose")
        content = file.file.read()
        return PlainAnswer(json_bytes(self._kept(content, file.filename)))

    async def content(self, request: web.Request) -> PlainAnswer:
        content = self._files.get(request.match_info["id"])
        return _unknown() if content is None else PlainAnswer(content, content_type="application/octet-stream")

    async def delete(self, request: web.Request) -> PlainAnswer:
        file_id = request.match_info["id"]
        if self._files.pop(file_id, None) is None:
            return _unknown()
        return PlainAnswer(json_bytes({"id": file_id, "object": "file", "deleted": True}))

    async def create(self, request: web.Request) -> PlainAnswer:
        asked = await request.json()
        if asked.get("input_file_id") not in self._files or asked.get("endpoint") != "/v1/chat/completions":
            return error_answer(400, "No such file, or an endpoint that is not simulated.", param="input_file_id")
        batch = {
            "id": f"batch_{uuid.uuid4().hex}",
            "object": "batch",
            "simulated": True,
            "endpoint": asked["endpoint"],
            "input_file_id": asked["input_file_id"],
            "completion_window": asked.get("completion_window"),
            "status": "in_progress",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": int(time.time()),
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "metadata": asked.get("metadata"),
        }
        self._batches[batch["id"]] = batch
        running = asyncio.create_task(self._run(batch))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return PlainAnswer(json_bytes(batch))

    async def listed(self, request: web.Request) -> PlainAnswer:
        newest_first = [*reversed(self._batches.values())][: int(request.query.get("limit", "20"))]
        return PlainAnswer(json_bytes({"object": "list", "data": newest_first, "has_more": False}))

    async def retrieve(self, request: web.Request) -> PlainAnswer:
        batch = self._batches.get(request.match_info["id"])
        return _unknown() if batch is None else PlainAnswer(json_bytes(batch))

    async def cancel(self, request: web.Request) -> PlainAnswer:
        batch = self._batches.get(request.match_info["id"])
        if batch is None:
            return _unknown()
        if batch["status"] == "in_progress":
            batch["status"] = "cancelling"
        return PlainAnswer(json_bytes(batch))

    async def stop(self, _: web.Application) -> None:
        for running in self._running:
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _made(self, request: web.Request, make: Make) -> PlainAnswer:
        if self._key is not None and request.headers.get("Authorization") != f"Bearer {self._key}":
            return error_answer(401, "Incorrect API key provided.", code="invalid_api_key")
        return await make(request)

    def _kept(self, content: bytes, filename: str) -> Json:
        file_id = f"file-{uuid.uuid4().hex}"
        self._files[file_id] = content
        return {
            "id": file_id,
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": filename,
            "purpose": "batch",
        }

    async def _run(self, batch: Json) -> None:
        lines = [json.loads(text) for text in self._files[batch["input_file_id"]].splitlines() if text.strip()]
        batch["request_counts"]["total"] = len(lines)
        results: dict[bool, list[bytes]] = {True: [], False: []}
        for line in reversed(lines):
            await asyncio.sleep(self._conditions.latency(TARGET).ttft_s)
            if batch["status"] != "in_progress":
                break
            status, body = await self._answered(line["body"])
            response = {"status_code": status, "request_id": f"req_{uuid.uuid4().hex}", "body": body}
            head = {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": line["custom_id"]}
            results[status < 400].append(json_bytes({**head, "response": response, "error": None}))
            batch["request_counts"]["completed" if status < 400 else "failed"] += 1
        for name, is_ok in (("output_file_id", True), ("error_file_id", False)):
            if results[is_ok]:
                batch[name] = self._kept(b"".join(each + b"\n" for each in results[is_ok]), f"{name}.jsonl")["id"]
        batch["status"] = "completed" if batch["status"] == "in_progress" else "cancelled"

    async def _answered(self, body: Json) -> tuple[int, Any]:
        try:
            answer = await self._answer_chat(body)
        except InvalidRequest as exc:
            answer = exc.answer
        assert isinstance(answer, PlainAnswer)
        return answer.status, json.loads(answer.body)


def add_batches(app: web.Application, batches: ProviderBatches) -> None:
    app.router.add_post("/v1/files", batches.handling(batches.upload))
    app.router.add_get("/v1/files/{id}/content", batches.handling(batches.content))
    app.router.add_delete("/v1/files/{id}", batches.handling(batches.delete))
    app.router.add_post("/v1/batches", batches.handling(batches.create))
    app.router.add_get("/v1/batches", batches.handling(batches.listed))
    app.router.add_get("/v1/batches/{id}", batches.handling(batches.retrieve))
    app.router.add_post("/v1/batches/{id}/cancel", batches.handling(batches.cancel))
    app.on_cleanup.append(batches.stop)


def _unknown() -> PlainAnswer:
    return error_answer(404, "There is no such file or batch here.", code="not_found")

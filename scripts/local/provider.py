"""A simulated model provider that speaks OpenAI's API, with faults from the control port and from model names."""

import base64
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import numpy as np
from aiohttp import web

from scripts.local.conditions import Conditions, Latency
from scripts.local.faults import KINDS, Fault
from scripts.local.faulty_response import Answer, PlainAnswer, StreamAnswer, in_turn, respond
from scripts.local.minilm import DIMENSIONS, Embedder
from scripts.local.openai_shape import (
    OpenAIDialect,
    Reply,
    chat_body,
    chat_content,
    chat_events,
    error_answer,
    json_bytes,
    text_body,
    text_content,
    text_events,
)
from scripts.local.openai_validation import InvalidRequest, check_chat, check_completion, check_embeddings
from scripts.local.prompt_cache import PromptCache
from scripts.local.provider_batches import ProviderBatches, add_batches
from scripts.local.simulated_chat import chat_task, completed, usage

TARGET = "upstream"
MAX_BODY_BYTES = 128 * 2**20  # files of batches are the largest
MODELS = ("sim-small", "sim-large", "gpt-4o-mini", "text-embedding-3-small")

SLOW_NAME = re.compile(r"sim-slow-(?P<part>ttft|itl)-(?P<ms>\d+)")
RETRY_NAME = re.compile(r"sim-429-retry-after-(?P<seconds>\d+)")
FAULT_NAME = re.compile(r"sim-(?P<kind>.+?)(?:-after-(?P<chunks>\d+))?")
SHORT_KINDS = {"empty": "empty-stream"}

Body = dict[str, Any]
Answering = Callable[[Body], Awaitable[Answer]]


def provider_app(conditions: Conditions, embedder: Embedder, *, key: str | None = None) -> web.Application:
    """key: the bearer token that callers must present; None accepts any caller."""
    provider = Provider(conditions, embedder, key)
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_get("/health", provider.health)
    app.router.add_get("/v1/models", provider.models)
    app.router.add_post("/v1/chat/completions", provider.answering(provider.chat))
    app.router.add_post("/v1/completions", provider.answering(provider.completion))
    app.router.add_post("/v1/embeddings", provider.answering(provider.embeddings))
    add_batches(app, ProviderBatches(conditions, provider.chat, key))
    return app


def named_fault(model: str) -> Fault | None:
    """The fault that the model's name asks for: `sim-<kind>` or `sim-<kind>-after-<n>`."""
    if match := RETRY_NAME.fullmatch(model):
        return Fault("429-retry-after", retry_after_s=int(match["seconds"]))
    if model == "sim-429-retry-after":
        return Fault("429-retry-after")
    if match := FAULT_NAME.fullmatch(model):
        kind = SHORT_KINDS.get(match["kind"], match["kind"])
        if kind in KINDS:
            return Fault(kind, None if match["chunks"] is None else int(match["chunks"]))
    return None


def named_latency(model: str, latency: Latency) -> Latency:
    """The latency with `sim-slow-ttft-<ms>` or `sim-slow-itl-<ms>` applied."""
    match = SLOW_NAME.fullmatch(model)
    if match is None:
        return latency
    seconds = int(match["ms"]) / 1000
    return replace(latency, ttft_s=seconds) if match["part"] == "ttft" else replace(latency, itl_s=seconds)


class Provider:
    def __init__(self, conditions: Conditions, embedder: Embedder, key: str | None) -> None:
        self._conditions = conditions
        self._embedder = embedder
        self._key = key
        self._prompt_cache = PromptCache()
        self._dialect = OpenAIDialect()

    async def health(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def models(self, request: web.Request) -> web.StreamResponse:
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "simulated"} for name in MODELS]
        return web.json_response({"object": "list", "data": data})

    def answering(self, answer: Answering) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """A handler that counts the call and sends the answer, or what its fault makes of it."""

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._conditions.counted(TARGET, request, lambda r: self._handle(r, answer))

        return handle

    async def chat(self, body: Body) -> Answer:
        check_chat(body)
        task = chat_task(body, model=body["model"])
        outcomes = [completed(task, choice_index=i) for i in range(body.get("n") or 1)]
        counts = usage(task.input_tokens, outcomes, cached_tokens=self._prompt_cache.seen(task.model, task.prompt))
        reply = Reply(f"simulated/{task.model}")
        if not body.get("stream"):
            total = sum(outcome.output_tokens for outcome in outcomes)
            return PlainAnswer(json_bytes(chat_body(reply, outcomes, counts)), output_tokens=total)
        events = chat_events(reply, outcomes, counts if _wants_usage(body) else None)
        return StreamAnswer(in_turn(events), lambda text: chat_content(reply, text))

    async def completion(self, body: Body) -> Answer:
        check_completion(body)
        prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        if prompts and isinstance(prompts[0], int):
            prompts = [prompts]
        tasks = [chat_task({**body, "prompt": str(prompt)}, model=body["model"]) for prompt in prompts]
        limit = body.get("max_tokens") or 16  # OpenAI's default for this endpoint
        outcomes = [
            completed(replace(task, max_tokens=limit), choice_index=i)
            for task in tasks
            for i in range(body.get("n") or 1)
        ]
        counts = usage(sum(task.input_tokens for task in tasks), outcomes)
        reply = Reply(f"simulated/{body['model']}", prefix="cmpl")
        if not body.get("stream"):
            total = sum(outcome.output_tokens for outcome in outcomes)
            return PlainAnswer(json_bytes(text_body(reply, outcomes, counts)), output_tokens=total)
        events = text_events(reply, outcomes, counts if _wants_usage(body) else None)
        return StreamAnswer(in_turn(events), lambda text: text_content(reply, text))

    async def embeddings(self, body: Body) -> Answer:
        check_embeddings(body, max_dimensions=DIMENSIONS)
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        if inputs and isinstance(inputs[0], int):
            inputs = [inputs]
        texts = [each if isinstance(each, str) else " ".join(map(str, each)) for each in inputs]
        vectors = await self._embedder.embed(texts)
        size = body.get("dimensions") or DIMENSIONS
        if size < DIMENSIONS:
            vectors = vectors[:, :size] / np.linalg.norm(vectors[:, :size], axis=1, keepdims=True)
        is_base64 = body.get("encoding_format") == "base64"
        data = [
            {
                "object": "embedding",
                "index": i,
                "embedding": base64.b64encode(v.astype("<f4").tobytes()).decode() if is_base64 else v.tolist(),
            }
            for i, v in enumerate(vectors)
        ]
        count = await self._embedder.count_tokens(texts)
        answer = {
            "object": "list",
            "data": data,
            "model": f"simulated/{body['model']}",
            "usage": {"prompt_tokens": count, "total_tokens": count},
        }
        return PlainAnswer(json_bytes(answer))

    async def _handle(self, request: web.Request, answer: Answering) -> web.StreamResponse:
        fault = self._conditions.faults.take(TARGET)
        latency = self._conditions.latency(TARGET)
        problem: PlainAnswer | None = None
        body: Body = {}
        try:
            body = await self._accepted_body(request)
        except InvalidRequest as exc:
            problem = exc.answer
        model = body.get("model")
        if isinstance(model, str):
            fault = fault or named_fault(model)
            latency = named_latency(model, latency)

        async def make() -> Answer:
            if problem is not None:
                return problem
            try:
                made = await answer(body)
            except InvalidRequest as exc:
                return exc.answer
            return replace(made, headers={**made.headers, "x-request-id": f"req_{uuid.uuid4().hex}"})

        return await respond(request, make, fault=fault, latency=latency, dialect=self._dialect)

    async def _accepted_body(self, request: web.Request) -> Body:
        if self._key is not None and request.headers.get("Authorization") != f"Bearer {self._key}":
            raise InvalidRequest(error_answer(401, "Incorrect API key provided.", code="invalid_api_key"))
        try:
            body = await request.json()
        except ValueError as exc:
            raise InvalidRequest(error_answer(400, "We could not parse the JSON body of your request.")) from exc
        if not isinstance(body, dict):
            raise InvalidRequest(error_answer(400, "The request's body must be a JSON object."))
        return body


def _wants_usage(body: Body) -> bool:
    return bool((body.get("stream_options") or {}).get("include_usage"))

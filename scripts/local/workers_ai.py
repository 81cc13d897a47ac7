"""The emulated services behind the AI and Vectorize bindings, as the Worker's local shims call them."""

import json
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import aiohttp
from aiohttp import web

from scripts.local.ai_catalog import MODELS, NATIVE_MAX_TOKENS, AiModel
from scripts.local.ai_upstream import AiUpstream, upstream_answer
from scripts.local.conditions import Conditions
from scripts.local.faulty_response import Answer, PlainAnswer, StreamAnswer, in_turn, respond
from scripts.local.minilm import Embedder
from scripts.local.native_shape import AiDialect, ai_error, native_body, native_content, native_events, native_problem
from scripts.local.openai_shape import Reply, chat_body, chat_content, chat_events, json_bytes
from scripts.local.openai_validation import InvalidRequest, check_sampling
from scripts.local.prompt_cache import PromptCache
from scripts.local.simulated_chat import chat_task, completed, usage
from scripts.local.vectorize import VectorizeError, VectorizeIndex

MAX_BODY_BYTES = 64 * 2**20
MAX_EMBEDDED_TEXTS = 100
AFFINITY_HEADER = "x-session-affinity"
MODEL_HEADER = "cf-consn-model-id"  # where the real binding puts the model

Json = dict[str, Any]
Cached = Callable[[str], int]  # how many tokens of a prompt the instance has seen before


def workers_ai_app(
    conditions: Conditions, embedder: Embedder, index: VectorizeIndex, *, upstream: AiUpstream | None = None
) -> web.Application:
    """upstream: answers the chat models; None simulates them."""
    service = WorkersAi(conditions, embedder, upstream)
    vectors = VectorizeService(conditions, index)
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.cleanup_ctx.append(service.session_lifetime)
    app.router.add_get("/health", service.health)
    for path in ("/ai/run", "/run", "/ai-gateway/run"):  # the last two are the real binding's own
        app.router.add_post(path, service.run)
    app.router.add_post("/vectorize/{op}", vectors.call)
    return app


class WorkersAi:
    def __init__(self, conditions: Conditions, embedder: Embedder, upstream: AiUpstream | None) -> None:
        self._conditions = conditions
        self._embedder = embedder
        self._upstream = upstream
        self._dialect = AiDialect()
        self._prompt_cache = PromptCache()
        self._session: aiohttp.ClientSession

    async def session_lifetime(self, app: web.Application) -> AsyncIterator[None]:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        yield
        await self._session.close()

    async def health(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def run(self, request: web.Request) -> web.StreamResponse:
        body = await _json_object(request)
        name = str(body.get("model") or request.headers.get(MODEL_HEADER, ""))
        model = MODELS.get(name)
        target = "embed" if model is not None and model.shape == "embedding" else "ai"

        async def handle(request: web.Request) -> web.StreamResponse:
            fault = self._conditions.faults.take(target)

            async def make() -> Answer:
                inputs = body.get("inputs")
                if model is None:
                    return _identified(ai_error(5007, f"No such model {name} or task"))
                if not isinstance(inputs, dict):
                    return _identified(ai_error(3003, "Incomplete request: `inputs` must be an object"))
                affinity = ((body.get("options") or {}).get("extraHeaders") or {}).get(AFFINITY_HEADER)
                return _identified(await self._answer(name, model, inputs, fault.kind if fault else "", affinity))

            latency = self._conditions.latency(target)
            return await respond(request, make, fault=fault, latency=latency, dialect=self._dialect)

        return await self._conditions.counted(target, request, handle)

    async def _answer(self, name: str, model: AiModel, inputs: Json, fault_kind: str, affinity: str | None) -> Answer:
        if model.shape == "embedding":
            return await self._embedded(inputs)
        if problem := _problem(name, model, inputs):
            return problem
        if self._upstream is not None:
            is_native = model.shape == "native"
            if is_native:
                inputs = {"max_tokens": NATIVE_MAX_TOKENS, **inputs}
            return await upstream_answer(self._session, self._upstream, name, inputs, is_native=is_native)
        simulate = _native if model.shape == "native" else _openai
        return simulate(name, model, inputs, fault_kind, partial(self._cached_tokens, name, affinity))

    def _cached_tokens(self, name: str, affinity: str | None, prompt: str) -> int:
        """Each session has an instance of its own here, and each instance a prompt cache of its own."""
        return 0 if affinity is None else self._prompt_cache.seen(f"{affinity} {name}", prompt)

    async def _embedded(self, inputs: Json) -> Answer:
        texts = inputs.get("text")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not texts or not all(isinstance(each, str) for each in texts):
            return ai_error(5006, "required properties at '/' are 'text', a string or an array of strings")
        if len(texts) > MAX_EMBEDDED_TEXTS:
            return ai_error(5006, f"'/text' must have at most {MAX_EMBEDDED_TEXTS} items, got {len(texts)}")
        pooling = inputs.get("pooling", "mean")
        if pooling not in ("mean", "cls"):
            return ai_error(5006, "'/pooling' must be 'mean' or 'cls'")
        vectors = await self._embedder.embed(texts)
        # The weights at hand were trained for mean pooling; the asked pooling is echoed, not applied.
        body = {"shape": list(vectors.shape), "data": vectors.tolist(), "pooling": pooling}
        return PlainAnswer(json_bytes(body))


class VectorizeService:
    def __init__(self, conditions: Conditions, index: VectorizeIndex) -> None:
        self._conditions = conditions
        self._index = index
        self._dialect = VectorizeDialect()

    async def call(self, request: web.Request) -> web.StreamResponse:
        async def make() -> Answer:
            args = (await _json_object(request)).get("args", [])
            if not isinstance(args, list):
                return _vectorize_error(400, 40001, "args must be an array")
            try:
                return PlainAnswer(json_bytes(self._index.call(request.match_info["op"], args)))
            except LookupError as exc:
                return _vectorize_error(404, 40000, f"unknown operation {exc}")
            except VectorizeError as exc:
                return _vectorize_error(400, exc.code, str(exc))

        async def handle(request: web.Request) -> web.StreamResponse:
            fault = self._conditions.faults.take("vectorize")
            latency = self._conditions.latency("vectorize")
            return await respond(request, make, fault=fault, latency=latency, dialect=self._dialect)

        return await self._conditions.counted("vectorize", request, handle)


class VectorizeDialect:
    """Failures as the binding reads them: `{code, error}`."""

    def failure(self, kind: str, *, retry_after_s: int) -> PlainAnswer:
        if kind in ("capacity", "429", "429-retry-after"):
            headers = {"Retry-After": str(retry_after_s)} if kind == "429-retry-after" else {}
            return replace(_vectorize_error(429, 10429, "rate limited: simulated fault"), headers=headers)
        return _vectorize_error(503 if kind == "503" else 500, 10000, "internal error: simulated fault")


def _vectorize_error(status: int, code: int, message: str) -> PlainAnswer:
    return PlainAnswer(json_bytes({"code": code, "error": message}), status=status)


def _native(name: str, model: AiModel, inputs: Json, fault_kind: str, cached: Cached) -> Answer:
    task = chat_task({"max_tokens": NATIVE_MAX_TOKENS, **inputs}, model=name)
    outcome = completed(task, fault_kind=fault_kind)
    counts = usage(task.input_tokens, [outcome], cached_tokens=cached(task.prompt))
    shown = f"simulated/{name}"
    if inputs.get("stream"):
        return StreamAnswer(in_turn(native_events(shown, outcome, counts)), lambda text: native_content(shown, text))
    body = native_body(shown, outcome, counts, is_json=task.json_schema is not None)
    return PlainAnswer(json_bytes(body), output_tokens=outcome.output_tokens)


def _openai(name: str, model: AiModel, inputs: Json, fault_kind: str, cached: Cached) -> Answer:
    task = chat_task(inputs, model=name, is_thinking=model.is_thinking and _may_think(inputs))
    outcomes = [completed(task, choice_index=i, fault_kind=fault_kind) for i in range(inputs.get("n") or 1)]
    counts = usage(task.input_tokens, outcomes, cached_tokens=cached(task.prompt))
    reply = Reply(f"simulated/{name}")
    if not inputs.get("stream"):
        total = sum(outcome.output_tokens for outcome in outcomes)
        return PlainAnswer(json_bytes(chat_body(reply, outcomes, counts)), output_tokens=total)
    wants_usage = bool((inputs.get("stream_options") or {}).get("include_usage"))
    events = chat_events(reply, outcomes, counts if wants_usage else None)
    return StreamAnswer(in_turn(events), lambda text: chat_content(reply, text))


def _problem(name: str, model: AiModel, inputs: Json) -> PlainAnswer | None:
    """What the service refuses, or None."""
    messages, prompt = inputs.get("messages"), inputs.get("prompt")
    are_messages = isinstance(messages, list) and messages and all(isinstance(each, dict) for each in messages)
    if not are_messages and not (isinstance(prompt, str) and prompt):
        return ai_error(5006, "Error: oneOf at '/' not met: required properties are 'prompt' or 'messages'")
    if model.shape == "native":
        if problem := native_problem(inputs):
            return problem
    else:
        try:
            check_sampling(inputs)
        except InvalidRequest as exc:
            return ai_error(5006, json.loads(exc.answer.body)["error"]["message"])
    max_tokens = inputs.get("max_completion_tokens") or inputs.get("max_tokens") or 0
    wanted = chat_task(inputs, model=name).input_tokens + max_tokens
    if wanted > model.context_tokens:
        return ai_error(
            5021,
            f"The estimated number of input and maximum output tokens ({wanted}) exceeded this model "
            f"context window limit ({model.context_tokens}).",
        )
    return None


def _may_think(inputs: Json) -> bool:
    settings = inputs.get("chat_template_kwargs") or {}
    return settings.get("enable_thinking") is not False and inputs.get("reasoning_effort") != "none"


def _identified(answer: Answer) -> Answer:
    return replace(answer, headers={**answer.headers, "cf-ai-req-id": str(uuid.uuid4())})


async def _json_object(request: web.Request) -> Json:
    """The body; an empty object for anything else, which the service then finds incomplete."""
    try:
        body = json.loads(await request.read())
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}

"""The control port: counters to read, faults and latencies to set. Contract: design, section 6."""

from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scripts.local.conditions import Conditions
from scripts.local.faults import KINDS, Fault, Rule
from scripts.local.vectorize import VectorizeIndex

INTERCEPTED = ("kv", "do", "ledger")


class FaultRequest(BaseModel):
    """Body of POST /faults. rate: probability; count: calls it hits before it removes itself."""

    model_config = ConfigDict(extra="forbid")
    target: str
    kind: str
    after_chunks: int | None = Field(default=None, ge=0)
    retry_after_s: int = Field(default=1, ge=0)
    rate: float = Field(default=1.0, gt=0, le=1)
    count: int | None = Field(default=None, ge=1)


class LatencyRequest(BaseModel):
    """Body of POST /latency, in milliseconds; parts left out stay as they are."""

    model_config = ConfigDict(extra="forbid")
    target: str
    ttft_ms: float | None = Field(default=None, ge=0)
    itl_ms: float | None = Field(default=None, ge=0)
    rtt_ms: float | None = Field(default=None, ge=0)
    visible_after_ms: float | None = Field(default=None, ge=0)


class InterceptRequest(BaseModel):
    """Body of POST /intercept, sent before each operation on the real KV or Durable Object."""

    target: str
    op: str = ""


def control_app(conditions: Conditions, index: VectorizeIndex) -> web.Application:
    control = Control(conditions, index)
    app = web.Application(middlewares=[_explained])
    app.router.add_get("/health", control.health)
    app.router.add_get("/counters", control.counters)
    app.router.add_post("/reset", control.reset)
    app.router.add_get("/faults", control.list_faults)
    app.router.add_post("/faults", control.add_fault)
    app.router.add_delete("/faults", control.clear_faults)
    app.router.add_get("/latency", control.list_latencies)
    app.router.add_post("/latency", control.change_latency)
    app.router.add_delete("/latency", control.restore_latencies)
    app.router.add_get("/vectors", control.describe_vectors)
    app.router.add_delete("/vectors", control.clear_vectors)
    app.router.add_post("/intercept", control.intercept)
    return app


class Control:
    def __init__(self, conditions: Conditions, index: VectorizeIndex) -> None:
        self._conditions = conditions
        self._index = index

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def counters(self, request: web.Request) -> web.Response:
        return web.json_response(self._conditions.counters_as_json())

    async def reset(self, request: web.Request) -> web.Response:
        self._conditions.counters.reset()
        return web.json_response(self._conditions.counters_as_json())

    async def list_faults(self, request: web.Request) -> web.Response:
        return web.json_response({"faults": self._conditions.faults.as_json()})

    async def add_fault(self, request: web.Request) -> web.Response:
        wanted = FaultRequest.model_validate_json(await request.read())
        self._check_target(wanted.target, self._conditions.targets)
        if wanted.kind not in KINDS:
            raise ValueError(f"unknown kind {wanted.kind!r}; use one of: {', '.join(KINDS)}")
        fault = Fault(wanted.kind, wanted.after_chunks, wanted.retry_after_s)
        self._conditions.faults.add(Rule(wanted.target, fault, wanted.rate, wanted.count))
        return await self.list_faults(request)

    async def clear_faults(self, request: web.Request) -> web.Response:
        target = request.query.get("target")
        if target is not None:
            self._check_target(target, self._conditions.targets)
        self._conditions.faults.clear(target)
        return await self.list_faults(request)

    async def list_latencies(self, request: web.Request) -> web.Response:
        latencies: dict[str, Any] = {}
        for target in self._conditions.targets:
            if target != "cloud":
                latency = self._conditions.latency(target)
                latencies[target] = {
                    "ttft_ms": latency.ttft_s * 1000,
                    "itl_ms": latency.itl_s * 1000,
                    "rtt_ms": latency.rtt_s * 1000,
                }
        latencies["vectorize"]["visible_after_ms"] = self._index.visible_after_s * 1000
        return web.json_response({"latency": latencies})

    async def change_latency(self, request: web.Request) -> web.Response:
        wanted = LatencyRequest.model_validate_json(await request.read())
        self._check_target(wanted.target, self._conditions.targets)
        if wanted.visible_after_ms is not None:
            if wanted.target != "vectorize":
                raise ValueError("visible_after_ms applies to the target vectorize only")
            self._index.visible_after_s = wanted.visible_after_ms / 1000
        self._conditions.change_latency(
            wanted.target,
            ttft_s=_seconds(wanted.ttft_ms),
            itl_s=_seconds(wanted.itl_ms),
            rtt_s=_seconds(wanted.rtt_ms),
        )
        return await self.list_latencies(request)

    async def restore_latencies(self, request: web.Request) -> web.Response:
        self._conditions.restore_latencies()
        self._index.restore_delay()
        return await self.list_latencies(request)

    async def describe_vectors(self, request: web.Request) -> web.Response:
        """As the binding's `describe`: `vectorCount` counts what queries can find by now."""
        return web.json_response(self._index.describe())

    async def clear_vectors(self, request: web.Request) -> web.Response:
        self._index.clear()
        return web.json_response(self._index.describe())

    async def intercept(self, request: web.Request) -> web.Response:
        """Counts the operation and says what the shim should do to it, and after how long."""
        wanted = InterceptRequest.model_validate_json(await request.read())
        self._check_target(wanted.target, INTERCEPTED)
        self._conditions.counters.arrived[wanted.target] += 1
        fault = self._conditions.faults.take(wanted.target)
        delay_s = self._conditions.latency(wanted.target).under(fault).before_first_byte_s
        answer = {"fault": None if fault is None else fault.kind, "delay_ms": delay_s * 1000}
        if fault is not None and fault.kind == "cut":
            answer["after_chunks"] = fault.healthy_chunks
        return web.json_response(answer)

    def _check_target(self, target: str, known: tuple[str, ...]) -> None:
        if target not in known:
            raise ValueError(f"unknown target {target!r}; use one of: {', '.join(known)}")


@web.middleware
async def _explained(request: web.Request, handler: Any) -> web.StreamResponse:
    """A refused body as 400 with the reason."""
    try:
        response: web.StreamResponse = await handler(request)
    except ValidationError as exc:
        reasons = [f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in exc.errors()]
        return web.json_response({"error": "; ".join(reasons)}, status=400)
    except ValueError as exc:
        return web.json_response({"error": str(exc)}, status=400)
    return response


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000

"""Clock, ids, log and background work of a Worker."""

import json
import secrets
import time
from collections.abc import Coroutine
from typing import Any


class WorkerClock:
    """`Clock` of the runtime. In production it only moves at I/O, against timing attacks."""

    def now_s(self) -> float:
        return time.time()

    def elapsed_ms(self) -> float:
        return time.perf_counter() * 1000


class ConsoleLog:
    """`Log` as JSON lines on the console, where Workers Logs and `wrangler tail` pick them up."""

    def event(self, name: str, **facts: str | int | float | None) -> None:
        print(json.dumps({"event": name, **facts}))


class WaitUntil:
    """`Background` on `ctx.waitUntil`: at most 30 s after the response. Scope: request."""

    def __init__(self, ctx: Any) -> None:
        self._ctx = ctx

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self._ctx.waitUntil(work)


def new_id() -> str:
    """24 random hex digits. Only inside a request: the runtime forbids randomness at import."""
    return secrets.token_hex(12)

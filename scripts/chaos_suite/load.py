"""Callers that ask without pause, and the record of what became of every request."""

import asyncio
import contextlib
import math
import ssl
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from scripts.chaos_suite.judge import Asked, breaches, cost_nano_usd, error_code
from scripts.chaos_suite.questions import TEXTS, Script, Step
from scripts.fault_matrix.transcript import Transcript, read_stream, report_of

# Far beyond what the Worker's own limits add up to, so that only a hang reaches them. A stream beats every second: one
# that is slow because many share a core is no hang, one that says nothing is.
HEADERS_S, SILENCE_S, WHOLE_S = 90.0, 45.0, 600.0
DOWN_PAUSE_S = 0.5  # callers who get no connection don't try without pause
NO_CONNECTION = "no connection"
MAX_SHOWN = 50


@dataclass(slots=True)
class Record:
    """What became of the requests. told_nano, unknown: by tenant; see judge.ledger_breaches.

    took_s: of each, from when it was sent to its end, whatever that was.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    told_nano: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    took_s: list[float] = field(default_factory=list)
    requests: int = 0

    def percentiles_s(self) -> dict[str, float]:
        """Of took_s, by nearest rank."""
        took_s = sorted(self.took_s) or [0.0]
        ranks = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
        return {name: round(took_s[math.ceil(share * len(took_s)) - 1], 3) for name, share in ranks.items()}

    def add_breach(self, phrase: str, where: str) -> None:
        self.broken[phrase] += 1
        if len(self.examples) < MAX_SHOWN:
            self.examples.append(f"{where}: {phrase}")


class Load:
    """keys: the header of each tenant. doing: names the action that goes on, for the record. Scope: one run.

    callers: each takes one step after the other. connections: the most at once, because a crowd needs several; twice
    as many as callers, if not given.
    """

    def __init__(
        self,
        url: str,
        keys: Mapping[str, Mapping[str, str]],
        *,
        seed: int,
        callers: int,
        connections: int | None = None,
    ) -> None:
        self._url = url
        self.keys = keys
        self._seed = seed
        self._callers = callers
        self._connections = connections or 2 * callers
        self.run = uuid.uuid4().hex[:8]
        self.record = Record()
        self.doing = ""
        self.steps = 0
        self._phase = 0
        self._vectors: dict[str, Sequence[float]] = {}
        self._asked: Counter[tuple[str, str]] = Counter()
        self._down: list[list[float]] = []
        self._may_ask = asyncio.Event()
        self._may_ask.set()
        self._in_flight = 0
        self._is_idle = asyncio.Event()

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        limits = httpx.Limits(max_connections=self._connections, max_keepalive_connections=self._connections)
        timeout = httpx.Timeout(HEADERS_S, pool=None)  # to wait for a connection is the load's own affair
        async with httpx.AsyncClient(
            base_url=self._url, timeout=timeout, limits=limits, trust_env=False, verify=ssl.create_default_context()
        ) as client:
            yield client

    @contextlib.contextmanager
    def worker_down(self) -> Iterator[None]:
        """While workerd itself is not there, connections may break."""
        span = [time.monotonic(), float("inf")]
        self._down.append(span)
        try:
            yield
        finally:
            span[1] = time.monotonic()

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """All that was asked has been answered, and nothing is asked meanwhile."""
        self._may_ask.clear()
        try:
            if self._in_flight:
                self._is_idle.clear()
                await self._is_idle.wait()
            yield
        finally:
            self._may_ask.set()

    async def learn_vectors(self) -> None:
        """While nothing fails yet."""
        async with self.client() as client:
            for text in TEXTS:
                response = await client.post("/v1/embeddings", json=_embed_body(text), headers=self._any_key())
                response.raise_for_status()
                self._vectors[text] = response.json()["data"][0]["embedding"]
                for tenant, headers in self.keys.items():
                    if headers == self._any_key():
                        cost = response.json().get("nearside", {}).get("cost_usd") or 0
                        self.record.told_nano[tenant] += round(cost * 1e9)

    async def keep_asking(
        self,
        until: asyncio.Event,
        *,
        callers: int | None = None,
        max_requests: int | None = None,
        interval_s: float = 0,
    ) -> None:
        """callers: all, if not given. interval_s: between the starts of one caller's steps, where the load is not to be
        as much as possible.
        """
        self._phase += 1
        async with self.client() as client:

            async def call(number: int) -> None:
                script = Script(f"{self._seed}-{self._phase}-{number}", tuple(self.keys), self.run)
                while not until.is_set() and (max_requests is None or self.record.requests < max_requests):
                    await self._may_ask.wait()
                    started_s = time.monotonic()
                    self._in_flight += 1
                    try:
                        await self._take(client, script.next_step())
                    finally:
                        self._in_flight -= 1
                        if not self._in_flight:
                            self._is_idle.set()
                    await asyncio.sleep(max(0.0, started_s + interval_s - time.monotonic()))

            await asyncio.gather(*(call(number) for number in range(callers or self._callers)))

    async def _take(self, client: httpx.AsyncClient, step: Step) -> None:
        self.steps += 1
        asked = []
        for place, tenant in enumerate(step.tenants):
            is_stream = step.kind == "stream" or (step.kind == "crowd" and place % 2 == 1)
            asked.append(Asked(step, tenant, self.run, is_stream))
            self._asked.update((tenant, question.prompt) for question in step.questions)
        await asyncio.gather(*(self._ask(client, each) for each in asked))

    async def _ask(self, client: httpx.AsyncClient, asked: Asked) -> None:
        self.record.requests += 1
        doing, started_s = self.doing, time.monotonic()
        transcript = await self._exchange(client, asked)
        during = doing if doing == self.doing else f"{doing} > {self.doing}"
        if transcript.trouble is not None:
            self.record.unknown[asked.tenant] += transcript.trouble != NO_CONNECTION
            if any(start <= time.monotonic() and started_s <= end for start, end in self._down):
                self.record.outcomes[f"{transcript.trouble} while workerd was down"] += 1
                await asyncio.sleep(DOWN_PAUSE_S)
                return
        else:
            self.record.told_nano[asked.tenant] += cost_nano_usd(transcript)
        code = error_code(transcript) if transcript.trouble is None else None
        self.record.outcomes[_outcome(transcript, code)] += 1
        where = f"[{during}] {asked.tenant} {asked.step.kind}{' stream' if asked.is_stream else ''}"
        where += f" {asked.step.questions[0].model} {transcript.request_id}: {asked.step.questions[0].prompt!r}"
        # Judged now: who asked after it may have been answered before it.
        was_asked = all(self._asked[asked.tenant, question.prompt] > 1 for question in asked.step.questions)
        found = breaches(replace(asked, was_asked=was_asked), transcript, self._vectors)
        if found:  # one request, one example: simulated text, so it may be shown
            self.record.add_breach("; ".join(found), f"{where}, status {transcript.status}, {_shown(transcript)}")

    async def _exchange(self, client: httpx.AsyncClient, asked: Asked) -> Transcript:
        request_id = f"chaos-{self.run}-{self.record.requests}"
        path, body = _request(asked)
        headers = {**self.keys[asked.tenant], "x-request-id": request_id}
        status, answered, parts = 0, dict[str, str](), list[bytes]()
        now_s = asyncio.get_running_loop().time
        sent_s = now_s()

        async def trace(event: str, facts: object) -> None:
            nonlocal sent_s
            if event == "http11.send_request_headers.started":  # no longer waiting for a connection
                sent_s = now_s()
                limit.reschedule(sent_s + HEADERS_S)

        trouble = None
        try:
            async with (
                asyncio.timeout(None) as limit,
                client.stream("POST", path, json=body, headers=headers, extensions={"trace": trace}) as response,
            ):
                status, answered = response.status_code, dict(response.headers)
                async for part in response.aiter_bytes():
                    parts.append(part)
                    limit.reschedule(min(now_s() + SILENCE_S, sent_s + WHOLE_S))
        except (httpx.ConnectError, httpx.ConnectTimeout):
            trouble = NO_CONNECTION
        except (TimeoutError, httpx.TimeoutException):
            trouble = "it hangs" if now_s() < sent_s + WHOLE_S else f"no end within {WHOLE_S:g} s"
        except httpx.TransportError as exc:
            trouble = f"the connection broke: {type(exc).__name__}"
        self.record.took_s.append(now_s() - sent_s)
        return Transcript(request_id, status, answered, b"".join(parts), trouble)

    def _any_key(self) -> Mapping[str, str]:
        return next(iter(self.keys.values()))


def _request(asked: Asked) -> tuple[str, dict[str, Any]]:
    questions = asked.step.questions
    if asked.step.kind == "embeddings":
        return "/v1/embeddings", _embed_body(questions[0].prompt)
    if asked.step.kind == "batch":
        body = questions[0].body(stream=False)
        del body["messages"]
        return "/v1/completions/batch", {**body, "prompts": [question.prompt for question in questions]}
    return "/v1/chat/completions", questions[0].body(stream=asked.is_stream)


def _embed_body(text: str) -> dict[str, Any]:
    return {"model": "@cf/baai/bge-small-en-v1.5", "input": text}


def _outcome(transcript: Transcript, code: str | None) -> str:
    if transcript.trouble is not None:
        return transcript.trouble
    if transcript.status != 200:
        return f"{transcript.status} {code}"
    if code is not None:
        return f"stream ended with {code}"
    # A stream whose first token takes longer than a heartbeat sends its headers before it knows.
    told = report_of(chunks[-1]) if transcript.is_stream and (chunks := read_stream(transcript.body).chunks) else {}
    return transcript.headers.get("nearside-served-by") or told.get("served_by") or "answered"


def _shown(transcript: Transcript) -> str:
    """What there is of the body: its beginning and its end."""
    body = transcript.body
    return f"body {body!r}" if len(body) < 600 else f"body {body[:200]!r} ... {body[-300:]!r}, {len(body)} bytes"

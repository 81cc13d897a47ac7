"""Runs the matrix against a running local stack: sets faults at its control port, asks, and judges what came back."""

import asyncio
import itertools
import ssl
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import httpx

from scripts.fault_matrix.cases import FAULTS, RETRY_AFTER_S, ROUTES, Case, Fault, Group, lanes
from scripts.fault_matrix.law import Expectation, outcome, violations
from scripts.fault_matrix.oracle import complete_answers
from scripts.fault_matrix.transcript import Transcript

# The Worker's variables in the stack that is started for the matrix: the proportions of production's, but short.
# A stream that is paced by PACE_MS sends 50 tokens a second, a crawling one less than two.
SHORT_LIMITS: dict[str, float | str] = {
    "EDGE_TIMEOUT_S": 1.2,
    "CLOUD_TIMEOUT_S": 1.2,
    "HEARTBEAT_S": 0.4,
    "STREAM_IDLE_S": 1,
    "SLOW_GRACE_S": 1,
    "MIN_TOKENS_PER_S": 4,
    # Each fault by itself: what many of them lead to is tested with regions that die (tests/edge/test_regions.py).
    "BREAKERS": "off",
    "HEDGING": "off",
}
CLOUD_VARIABLES = {"CLOUD_BREAKERS": "off"}
DEADLINE_S = 40.0  # against hangs: no case needs more than two attempts and one stream
CONCURRENT_REPEATS = 6
FAR_MS = 60
_CHAT = "/v1/chat/completions"


class CannotRun(Exception):
    """The stack does not answer, or not as the simulated models do; the message says what to do."""


@dataclass(frozen=True)
class Result:
    """One cell. `repeated`: what the same question got afterwards, without faults.

    Judging 10,000 chunks takes a second: `violations` is worked out once.
    """

    case: Case
    prompt: str
    transcript: Transcript
    has_struck: bool
    repeated: Transcript | None = None

    @property
    def outcome(self) -> str:
        return outcome(self.transcript)

    @cached_property
    def violations(self) -> list[str]:
        expected = _expectation(self.case, self.prompt)
        found = violations(self.transcript, expected)
        if not self.has_struck:
            found.append("the fault did not strike, so nothing is proven")
        if self.repeated is not None:
            again = replace(expected, is_stream=False, must_answer=True, may_break=False)
            found += [f"asked again: {violation}" for violation in violations(self.repeated, again)]
        return found


class Runner:
    """url: the gateway. control_url: the control port of its stack, of which nobody else may make use meanwhile.

    on_result: called as each case ends. Scope: one run.
    """

    def __init__(
        self, url: str, control_url: str, *, key: str | None = None, on_result: Callable[[Result], None] | None = None
    ) -> None:
        self._url = url
        self._headers = {"accept-encoding": "identity"} | ({"authorization": f"Bearer {key}"} if key else {})
        self._ssl = ssl.create_default_context()  # costs 20 ms a client otherwise
        self._control = httpx.AsyncClient(base_url=control_url, timeout=10, trust_env=False, verify=self._ssl)
        self._on_result = on_result or (lambda result: None)
        self._run = uuid.uuid4().hex[:8]
        self._numbers = itertools.count(1)

    async def run(self, faults: Sequence[Fault] = FAULTS) -> list[Result]:
        """In the order in which the cases ran. Raises CannotRun."""
        async with self._control:
            try:
                await self._delete("/faults")
                await self._delete("/latency")
                await self._put_others_far()
                await self._rehearse()
                done = await asyncio.gather(*(self._run_lane(groups) for groups in lanes(faults).values()))
            except httpx.TransportError as exc:
                raise CannotRun(f"The stack does not answer: {exc or type(exc).__name__}") from exc
        # At the very end: whatever was stored after a response has been written by then.
        gate = asyncio.Semaphore(CONCURRENT_REPEATS)

        async def with_repeat(result: Result) -> Result:
            async with gate:
                return await self._repeat(result) if result.repeated is None else result

        return list(await asyncio.gather(*map(with_repeat, itertools.chain.from_iterable(done))))

    async def _rehearse(self) -> None:
        """Warms every upstream up, and makes sure that the answers are those of the simulated models."""
        for group in itertools.chain.from_iterable(lanes(FAULTS[:1]).values()):
            for case in group.cases:
                prompt = self._prompt()
                transcript = await self._ask(case.body(prompt))
                expected = replace(_expectation(case, prompt), must_answer=True)
                found = violations(transcript, expected)
                if found:
                    raise CannotRun(f"Without any fault, {case.route.id} {case.mode} fails: {'; '.join(found)}")

    async def _put_others_far(self) -> None:
        """So that the region that the faults strike is the nearest by every measurement as well."""
        near = {route.other_target for route in ROUTES}
        for region in (await self._control.get("/counters")).json()["cloud"]:
            if f"cloud:{region}" not in near:
                await self._post("/latency", {"target": f"cloud:{region}", "rtt_ms": FAR_MS})

    async def _run_lane(self, groups: Sequence[Group]) -> list[Result]:
        results = []
        for group in groups:
            try:
                done = await self._run_group(group)
            finally:
                await self._clear(group.cases[0])
            for result in await asyncio.gather(*map(self._repeat_failed, done)):
                results.append(result)
                self._on_result(result)
        return results

    async def _run_group(self, group: Group) -> list[Result]:
        first = group.cases[0]
        await self._set_latency(first)
        batches: Iterable[tuple[Case, ...]] = [group.cases] if group.run_together else [(c,) for c in group.cases]
        results: list[Result] = []
        for batch in batches:
            count = {"count": len(batch)} if first.is_counted else {}
            before = await self._arrived(first.target)
            fault = {"target": first.target, "kind": first.fault.kind, **first.fault.options, **count}
            await self._post("/faults", fault)
            prompts = [self._prompt() for _ in batch]
            asked = zip(batch, prompts, strict=True)
            transcripts = await asyncio.gather(*(self._ask(case.body(prompt)) for case, prompt in asked))
            has_struck = await self._arrived(first.target) - before >= len(batch)
            if first.is_counted:
                has_struck = has_struck and not await self._is_set(first.target)
            for case, prompt, transcript in zip(batch, prompts, transcripts, strict=True):
                results.append(Result(case, prompt, transcript, has_struck))
        return results

    async def _repeat(self, result: Result) -> Result:
        """With the same question asked again."""
        return replace(result, repeated=await self._ask(result.case.plain_body(result.prompt)))

    async def _repeat_failed(self, result: Result) -> Result:
        """At once, where nothing can have been stored: a call that hangs must not hold up those that come after it."""
        return result if result.transcript.status == 200 else await self._repeat(result)

    async def _ask(self, body: dict[str, Any]) -> Transcript:
        """One request and, on the same connection, a second one."""
        request_id = f"matrix-{self._run}-{next(self._numbers)}"
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(
            base_url=self._url,
            headers=self._headers,
            timeout=DEADLINE_S,
            limits=limits,
            trust_env=False,
            verify=self._ssl,
        ) as client:
            try:
                async with asyncio.timeout(DEADLINE_S):
                    return await _exchange(client, body, request_id)
            except TimeoutError:
                return Transcript(request_id, 0, {}, b"", f"no end within {DEADLINE_S:g} s")
            except httpx.TransportError as exc:
                return Transcript(request_id, 0, {}, b"", f"the connection broke: {type(exc).__name__}")

    def _prompt(self) -> str:
        """A simple question that nobody has asked before."""
        return f"What is café number {next(self._numbers)} of {self._run}?"

    async def _set_latency(self, case: Case) -> None:
        fault = case.fault
        pace_ms = fault.pace_ms if case.mode == "stream" else None
        if fault.late_ms or pace_ms:
            latency = {"ttft_ms": fault.late_ms or 0, "itl_ms": pace_ms or 0}
            await self._post("/latency", {"target": case.target, **latency})

    async def _clear(self, case: Case) -> None:
        await self._delete("/faults", target=case.target)
        if case.fault.late_ms or case.fault.pace_ms:
            await self._post("/latency", {"target": case.target, "ttft_ms": 0, "itl_ms": 0})

    async def _delete(self, path: str, **query: str) -> None:
        (await self._control.delete(path, params=query)).raise_for_status()

    async def _post(self, path: str, body: dict[str, Any]) -> None:
        (await self._control.post(path, json=body)).raise_for_status()

    async def _arrived(self, target: str) -> int:
        """Calls that have arrived at the target."""
        counters = (await self._control.get("/counters")).json()
        if target == "cloud":
            return sum(counters["cloud"].values())
        region = target.removeprefix("cloud:")
        return int(counters["cloud"][region] if region != target else counters[target])

    async def _is_set(self, target: str) -> bool:
        faults = (await self._control.get("/faults")).json()["faults"]
        return any(fault["target"] == target for fault in faults)


def _expectation(case: Case, prompt: str) -> Expectation:
    fault = case.fault
    return Expectation(
        is_stream=case.mode == "stream",
        complete=partial(complete_answers, case, prompt),
        statuses=fault.statuses,
        retry_after=str(RETRY_AFTER_S) if "retry_after_s" in fault.options else None,
        must_answer=case.has_other or case.mode in fault.must_answer,
        may_break=fault.may_break and case.mode == "stream",
    )


async def _exchange(client: httpx.AsyncClient, body: dict[str, Any], request_id: str) -> Transcript:
    parts: list[bytes] = []
    async with client.stream("POST", _CHAT, json=body, headers={"x-request-id": request_id}) as response:
        place = _place(response)
        parts.extend([part async for part in response.aiter_raw()])
    following = await client.get("/v1/models")
    return Transcript(
        request_id,
        response.status_code,
        dict(response.headers),
        b"".join(parts),
        next_status=following.status_code if _place(following) == place else None,
    )


def _place(response: httpx.Response) -> object:
    """Our end of the connection: another one would have another port."""
    return response.extensions["network_stream"].get_extra_info("client_addr")

"""One request answered by the edge first, and by the cloud when the verifier does not accept that answer."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

from ..attempts import Attempt, Opened
from ..chat_call import ChatCall
from ..errors import GatewayError, UpstreamError
from ..ports import Clock
from ..report import Report
from ..routing import Route
from ..timers import Deadline
from ..upstreams import Upstreams
from . import policy
from .outcome import Outcome
from .policy import Mode
from .verifier import Check


class Answered(Opened, Protocol):
    """What an attempt gives that can be checked, delivered, or let go of."""

    def usage(self) -> Mapping[str, Any]:
        """Token counts so far."""
        ...


NO_LIMIT_S = 3600.0  # attempts have limits of their own

_Result = TypeVar("_Result", bound=Answered)
_Pair = tuple[Attempt, _Result]


class Cascade(Generic[_Result]):
    """Scope: request. The report of `call` is told what happened.

    make: one attempt, as `Upstreams` wants it. judge: the check that rejects what an edge model gave, or None.
    """

    def __init__(
        self,
        call: ChatCall,
        upstreams: Upstreams,
        make: Callable[[Attempt], Awaitable[_Result]],
        judge: Callable[[_Result], Awaitable[Check | None]],
        clock: Clock,
    ) -> None:
        self._call = call
        self._upstreams = upstreams
        self._make = make
        self._judge = judge
        self._clock = clock

    @cached_property
    def _aside(self) -> ChatCall:
        """Attempts in the cloud must not write into the report while the answer of the edge may still be delivered."""
        return replace(self._call, report=Report(self._call.report.request_id, self._call.report.location))

    async def first_good(self, route: Route, mode: Mode) -> _Pair[_Result]:
        """Raises GatewayError when nobody could answer."""
        if mode == "race":
            return await self._race(*policy.split(route))
        at, result = await self._upstreams.first_that_works(self._call, route, self._make)
        if mode == "off" or at.region is not None:
            return at, result
        check = await self._judged(result)
        if check is None:
            self._call.report.cascade = Outcome("accepted")
            return at, result
        cloud_route = policy.split(route)[1]
        soonest_ms = min((cloud_route.predicted_ms.get(model.id, 0.0) for model in cloud_route.models), default=0.0)
        if soonest_ms > self._left_ms():
            self._call.report.cascade = Outcome("kept", check, because="no-time")
            return at, result
        cloud = asyncio.ensure_future(self._ask_cloud(cloud_route))
        return await self._escalate(at, result, Outcome("escalated", check), cloud)

    async def _race(self, edge_route: Route, cloud_route: Route) -> _Pair[_Result]:
        """Both at once. A cloud answer that is there before the verdict on the edge's is taken: it is paid for."""
        edge = asyncio.ensure_future(self._ask_edge(edge_route))
        cloud = asyncio.ensure_future(self._ask_cloud(cloud_route))
        try:
            await asyncio.wait({edge, cloud}, return_when=asyncio.FIRST_COMPLETED)
            if edge.done() or cloud.exception() is not None:
                try:
                    at, result, check = await edge
                except UpstreamError:
                    pair = await cloud
                else:
                    if check is not None:
                        return await self._escalate(at, result, Outcome("escalated", check, raced=True), cloud)
                    outcome = Outcome("accepted", raced=True)
                    if not cloud.done():
                        self._pay_least(outcome, cloud_route)
                    elif cloud.exception() is None:
                        self._pay(outcome, *cloud.result())
                    self._call.report.cascade = outcome
                    await _let_go(cloud)
                    return at, result
            else:
                pair = cloud.result()
        except BaseException:
            await asyncio.gather(_let_go(edge), _let_go(cloud))
            raise
        await _let_go(edge)
        outcome = Outcome("overtaken", raced=True)
        self._pay_least(outcome, edge_route)
        return self._deliver(pair, outcome)

    async def _escalate(
        self, at: Attempt, result: _Result, outcome: Outcome, cloud: "asyncio.Future[_Pair[_Result]]"
    ) -> _Pair[_Result]:
        """The cloud's answer, or the edge's after all when the cloud has none in time."""
        self._call.report.cascade = outcome
        try:
            async with Deadline(self._clock, min(max(0.0, self._left_ms() / 1000), NO_LIMIT_S)):
                pair = await cloud
        except (GatewayError, TimeoutError) as exc:
            await _let_go(cloud)
            outcome.verdict, outcome.because = "kept", "no-time" if isinstance(exc, TimeoutError) else "cloud-failed"
            self._call.report.fallbacks += self._aside.report.fallbacks
            return at, result
        except BaseException:
            await asyncio.gather(_let_go(cloud), result.discard())
            raise
        self._pay(outcome, at, result)
        await result.discard()
        return self._deliver(pair, outcome)

    def _deliver(self, pair: _Pair[_Result], outcome: Outcome) -> _Pair[_Result]:
        report = self._call.report
        report.cascade = outcome
        report.route_reason = "escalated" if outcome.verdict == "escalated" else "raced"
        report.take_over(self._aside.report)
        return pair

    async def _ask_edge(self, route: Route) -> tuple[Attempt, _Result, Check | None]:
        at, result = await self._upstreams.first_that_works(self._call, route, self._make)
        return at, result, await self._judged(result)

    async def _ask_cloud(self, route: Route) -> _Pair[_Result]:
        return await self._upstreams.first_that_works(self._aside, route, self._make)

    async def _judged(self, result: _Result) -> Check | None:
        try:
            return await self._judge(result)
        except BaseException:
            await result.discard()
            raise

    def _left_ms(self) -> float:
        """Of `max_latency_ms`; infinite without."""
        return self._call.left_ms(self._clock.elapsed_ms())

    def _pay(self, outcome: Outcome, at: Attempt, result: _Result) -> None:
        """For an answer, or the beginning of one, that is not delivered."""
        usage = result.usage()
        outcome.other_cost_usd = at.answered_by.cost_usd(usage["prompt_tokens"], usage["completion_tokens"])
        outcome.other_tokens = usage["total_tokens"]

    def _pay_least(self, outcome: Outcome, route: Route) -> None:
        """For a call that was ended before it answered: its input is paid for all the same."""
        outcome.other_tokens = self._call.input_tokens(route.first)
        outcome.other_cost_usd = route.first.cost_usd(outcome.other_tokens, 0)


async def _let_go(task: "asyncio.Future[Any]") -> None:
    """Ends what is no longer needed, and discards what it had in hand."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and task.exception() is None:
        await task.result()[1].discard()

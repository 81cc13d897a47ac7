"""Models and regions tried in order until one answers, and late calls doubled. Acts only through ports."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, TypeVar

from . import cloud_api, completions, workers_ai
from .attempts import Attempt, Opened, Tries
from .auth import Tenant
from .catalog import Model
from .chat_call import ChatCall
from .edge_allowance import EdgeAllowance, in_place_of
from .errors import CloudUnavailable, EdgeClosed, GatewayError, RegionFailed, StoreError, UpstreamError, UpstreamTimeout
from .fleet import Fleet, Outcome
from .ports import Clock, CloudRegions, EdgeModels, Flights, Log, UpstreamResponse
from .region_watch import RegionWatch
from .routing import Route, next_in_time, patience_ms
from .settings import Region, Settings
from .signing import sign
from .timers import Deadline, done_within

_Result = TypeVar("_Result", bound=Opened)
_Make = Callable[[Attempt], Awaitable[_Result]]


class Upstreams:
    """Everything that can answer. Scope: isolate."""

    def __init__(
        self,
        settings: Settings,
        *,
        edge: EdgeModels,
        cloud: CloudRegions,
        flights: Flights,
        fleet: Fleet,
        watch: RegionWatch,
        allowance: EdgeAllowance,
        clock: Clock,
        log: Log,
        new_id: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._edge = edge
        self._cloud = cloud
        self._flights = flights
        self._fleet = fleet
        self._watch = watch
        self._allowance = allowance
        self._clock = clock
        self._log = log
        self._new_id = new_id
        self._sharing: Counter[str] = Counter()  # flight -> requests of this isolate that wait for it

    async def first_that_works(self, call: ChatCall, route: Route, make: _Make[_Result]) -> tuple[Attempt, _Result]:
        """Tries models and regions in order; a failure that another one can't mend ends it.

        make: one attempt. A late one is doubled in another region, so that two may run at once: it must touch nothing
        that belongs to the request. The report is told here which one it was.
        Raises the last UpstreamError, or the RequestRejected of an upstream that refused the request.
        """
        tries = Tries(call, self._clock.elapsed_ms() + self._settings.answer_timeout_s * 1000)
        models = list(route.models)
        while models := self._usable(tries, models):
            at = self._next(models, tries, route.predicted_ms)
            if at is None:
                continue
            started_ms = self._clock.elapsed_ms()
            try:
                at, result = await self._raced(tries, at, make)
            except UpstreamError as exc:
                tries.failure = exc
            else:
                _name_place(call, at)
                return at, result
            finally:
                part = "ai" if at.region is None else "cloud"
                call.report.timings_ms[part] = self._clock.elapsed_ms() - started_ms
        raise tries.failure

    async def call(self, call: ChatCall, at: Attempt, *, flight_key: str | None = None) -> UpstreamResponse:
        """An answer with status 200 whose body is still to come; raises GatewayError for any other.

        flight_key: callers with the same key may share one call.
        """
        if at.region is None:
            return await self._call_edge(call, at, flight_key)
        started_ms = self._clock.elapsed_ms()
        body = cloud_api.chat_body(
            call.body, at.model.id, is_stream=bool(call.request.stream), limit_tokens=call.imposed_limit_tokens
        )
        response = await self._post(call, at, at.region, completions.dump(body), flight_key)
        at.has_answered = response.header(cloud_api.REGION_HEADER) is not None
        at.rtt_ms = cloud_api.rtt_ms(response, self._clock.elapsed_ms() - started_ms)
        if response.status != 200:
            try:
                raise await cloud_api.error_of(response, at.label)
            finally:
                await response.cancel()  # it may not be read to its end
        name = response.header(cloud_api.MODEL_HEADER) or at.model.id
        at.answered_by, at.is_fallback = at.model, name != at.model.id
        if at.is_fallback:
            await self._note_fallback(call, at, response, name)
        return response

    async def _note_fallback(self, call: ChatCall, at: Attempt, response: UpstreamResponse, name: str) -> None:
        """Raises UpstreamError when it is a model that the key may not use: a region of an older version, or behind a
        proxy that takes headers away, falls back although it was told not to.
        """
        at.answered_by, allowed = self._settings.catalog.find(name) or at.model, call.tenant.models
        if allowed is not None and not allowed.allows(name, "cloud"):
            await response.cancel()
            raise UpstreamError(f"{at.label} answered with a model that this key may not use.", code="wrong_model")

    async def _call_edge(self, call: ChatCall, at: Attempt, flight_key: str | None) -> UpstreamResponse:
        response = await self._run(call, at, flight_key)
        if response.status == 200:
            return response
        after_s = cloud_api.retry_after_s(response)
        try:
            error = workers_ai.parse_error(response.status, await response.text(), retry_after_s=after_s)
        finally:
            await response.cancel()
        if isinstance(error, EdgeClosed):
            self._allowance.use_up()
            raise self._allowance.error()
        raise error

    def _usable(self, tries: Tries, models: list[Model]) -> list[Model]:
        """What is left of the route; once the edge is found closed, what stands in for its models."""
        why_closed = self._allowance.why_closed()
        if why_closed is None or all(model.side == "cloud" for model in models):
            return models
        tries.call.report.route_reason = why_closed
        tries.failure = self._allowance.error()
        allowed = tries.call.tenant.models
        instead = in_place_of(models, self._settings.catalog)
        return [model for model in instead if allowed is None or allowed.allows(model.id, model.side)]

    def _next(self, models: list[Model], tries: Tries, predicted_ms: Mapping[str, float]) -> Attempt | None:
        """What to try now. A model that is not to be tried any more is taken out of the list, and None returned.

        predicted_ms: by model id where the caller has a deadline, else empty.
        """
        if not predicted_ms:
            at = self._place(models[0], tries)
            if at is None:
                del models[0]
            return at
        left_ms = tries.call.left_ms(self._clock.elapsed_ms())
        model = models[next_in_time(models, predicted_ms, left_ms)]
        at = self._place(model, tries)
        if at is None:
            models.remove(model)
        else:
            others = [each for each in models if each is not model]
            at.patience_s = patience_ms(model, others, predicted_ms, left_ms) / 1000
        return at

    def _place(self, model: Model, tries: Tries) -> Attempt | None:
        """Where to try this model now."""
        if not tries.may_try(model) or self._clock.elapsed_ms() >= tries.deadline_ms:
            return None
        if model.side == "edge":
            return Attempt(model, None)
        region = self._region(model, tries, at_any_cost=tries.needs_any_region)
        return None if region is None else Attempt(model, region)

    def _region(self, model: Model, tries: Tries, *, at_any_cost: bool) -> Region | None:
        report = tries.call.report
        residency = tries.call.request.residency
        allowed = (region for region in self._fleet.regions if residency in (None, region.residency))
        left = [region for region in allowed if not tries.is_tried(model, region)]
        seed = report.cache_key or report.request_id  # the same question goes the same way, or it could not be shared
        return self._fleet.choose(left, report.location, seed, at_any_cost=at_any_cost)

    async def _raced(self, tries: Tries, at: Attempt, make: _Make[_Result]) -> tuple[Attempt, _Result]:
        """The attempt's result, or that of its hedge when that is there first. Raises the error of what failed last."""
        if at.region is None or len(self._fleet.regions) < 2 or self._settings.hedging == "off":
            return at, await self._try(tries, at, make)
        first = asyncio.ensure_future(self._try(tries, at, make))
        racing = {first: at}
        try:
            hedge = await self._hedge(tries, at, first)
            if hedge is not None:
                racing[asyncio.ensure_future(self._try(tries, hedge, make))] = hedge
            while True:
                done, _ = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
                ended = first if first in done else done.pop()
                at = racing.pop(ended)
                if racing and isinstance(ended.exception(), UpstreamError):
                    continue
                for loser in racing.values():
                    loser.is_beaten = True
                return at, ended.result()
        finally:
            await _let_go(racing)

    async def _hedge(self, tries: Tries, at: Attempt, first: "asyncio.Future[Any]") -> Attempt | None:
        """Waits while the attempt may be late. Where to ask as well, None when it has ended or can't be doubled."""
        assert at.region is not None
        report = tries.call.report
        late_after_s = self._fleet.late_after_s(report.location, tries.call.kind, at.label)
        is_very_late = False
        while late_after_s is not None and not await done_within(self._clock, first, late_after_s):
            region = self._region(at.model, tries, at_any_cost=False)
            # Of those who share a late call only the one who made it may double it, and not where others wait as well.
            if region is None or at.collapsed or (at.flight and self._sharing[at.flight] > 1):
                break
            if self._fleet.may_hedge(at.region, is_very_late=is_very_late):
                report.hedged = True
                self._log.event("hedged", request_id=report.request_id, late=at.label, region=region.id)
                return Attempt(at.model, region, is_hedge=True)
            is_very_late = True
        return None

    async def _try(self, tries: Tries, at: Attempt, make: _Make[_Result]) -> _Result:
        """One attempt within its time; what it says about its region goes to the fleet."""
        tries.note(at)
        if at.region is None:
            return await self._try_edge(tries, at, make)
        passage = self._fleet.enter(at.region, is_hedge=at.is_hedge)
        self._watch.look_later(tries.call.report.location, tries.call.background)
        started_ms = self._clock.elapsed_ms()
        outcome: Outcome = "answered"
        is_timed = False
        try:
            result = await self._timed(tries, at, make, self._settings.cloud_timeout_s)
            is_timed = True
        except asyncio.CancelledError:
            # What was late enough to be doubled would have taken this long at least. A hedge had no such time.
            is_timed = at.is_beaten and not at.is_hedge
            outcome = "silent" if is_timed and not at.has_answered else "left"
            raise
        except GatewayError as exc:
            outcome = _outcome(at, exc)
            is_timed = isinstance(exc, UpstreamTimeout)
            raise
        else:
            return result
        finally:
            location = tries.call.report.location
            # A shared call counts once, for who made it: a hundred readers of one failure are no hundred failures.
            self._fleet.settle(at.region, passage, "left" if at.collapsed else outcome)
            self._leave_flight(at)
            if at.rtt_ms is not None and not at.collapsed:
                self._fleet.note_rtt(location, at.region, at.rtt_ms)
            if is_timed and not at.collapsed:
                took_ms = self._clock.elapsed_ms() - started_ms
                self._fleet.note_time(location, tries.call.kind, at.label, took_ms)

    async def _try_edge(self, tries: Tries, at: Attempt, make: _Make[_Result]) -> _Result:
        started_ms = self._clock.elapsed_ms()
        is_timed = False
        try:
            result = await self._timed(tries, at, make, self._settings.edge_timeout_s)
            is_timed = True
        except UpstreamTimeout:
            is_timed = True  # it takes that long at least
            raise
        else:
            return result
        finally:
            if is_timed and not at.collapsed:
                took_ms = self._clock.elapsed_ms() - started_ms
                self._fleet.note_time(tries.call.report.location, tries.call.kind, at.label, took_ms)

    async def _timed(self, tries: Tries, at: Attempt, make: _Make[_Result], limit_s: float) -> _Result:
        """Within the attempt's own time and the request's. A failure is noted in report and log."""
        limit_s = min(limit_s, at.patience_s, (tries.deadline_ms - self._clock.elapsed_ms()) / 1000)
        at.limit_s = limit_s
        failure: GatewayError
        try:
            async with Deadline(self._clock, limit_s):
                return await make(at)
        except TimeoutError:
            failure = UpstreamTimeout(f"No answer from {at.label} within {limit_s:.3g} s.")
        except UpstreamError as exc:
            failure = exc
        except GatewayError:
            _name_place(tries.call, at)  # it refused the request, and the caller is told who did
            raise
        report = tries.call.report
        _name_place(tries.call, at if at.has_answered else None)
        report.fallbacks.append(f"{at.label}: {failure.code}")
        self._log.event("attempt_failed", request_id=report.request_id, upstream=at.label, reason=failure.code)
        tries.note_failure(at, failure)
        raise failure

    async def _run(self, call: ChatCall, at: Attempt, flight_key: str | None) -> UpstreamResponse:
        model_id, affinity = at.model.id, workers_ai.affinity_of(call.tenant.id, call.body)
        inputs = workers_ai.build_inputs(at.model, call.request, call.body)
        if flight_key and self._settings.single_flight == "all":
            name = _flight_name(call, at, flight_key)
            try:
                return await self._flights.run(name, model_id, inputs, affinity=affinity, on_join=at.join)
            except StoreError as exc:
                self._note_failed_flight(call, exc)
        at.collapsed = False
        return await self._edge.run(model_id, inputs, affinity=affinity)

    async def _post(
        self, call: ChatCall, at: Attempt, region: Region, body: str, flight_key: str | None
    ) -> UpstreamResponse:
        if flight_key and self._settings.single_flight != "off":
            at.flight = _flight_name(call, at, flight_key)
            self._sharing[at.flight] += 1
            try:
                return await self._flights.post(
                    at.flight,
                    region,
                    cloud_api.CHAT_PATH,
                    body,
                    self._headers(call, body, self._settings.cloud_timeout_s),
                    on_join=at.join,
                )
            except StoreError as exc:
                self._note_failed_flight(call, exc)
        at.collapsed = False
        return await self._cloud.post(region, cloud_api.CHAT_PATH, body, self._headers(call, body, at.limit_s))

    def _leave_flight(self, at: Attempt) -> None:
        if at.flight is not None:
            self._sharing[at.flight] -= 1
            if not self._sharing[at.flight]:
                del self._sharing[at.flight]

    def _note_failed_flight(self, call: ChatCall, failure: GatewayError) -> None:
        """Flights that fail cost nobody an answer: the caller goes alone."""
        self._log.event("flight_failed", request_id=call.report.request_id, reason=failure.message)

    def _headers(self, call: ChatCall, body: str, limit_s: float) -> dict[str, str]:
        """What goes along, signed for one call: sent a second time, it is refused as a replay. limit_s: no retry over
        there is worth more time; a shared call has the time of all who share it.
        """
        headers = {
            **call.forwarded,
            cloud_api.DEADLINE_HEADER: str(max(1, int(1000 * min(limit_s, self._settings.cloud_timeout_s)))),
        }
        if not _may_fall_back(call.tenant):
            headers[cloud_api.FALLBACKS_HEADER] = "off"
        if not self._settings.fallback_keys:
            return headers
        signed = sign(
            self._settings.fallback_keys[0],
            method="POST",
            path=cloud_api.CHAT_PATH,
            request_id=call.report.request_id,
            body=body.encode(),
            nonce=self._new_id(),
            now_s=self._clock.now_s(),
        )
        return {**headers, **signed}


def _flight_name(call: ChatCall, at: Attempt, flight_key: str) -> str:
    """Who shares: the same question at the same upstream, in the same form, from the same part of the world, and of a
    tenant's keys those that leave the cloud the same choice of models.
    """
    place = call.report.location.continent or "anywhere"
    form = "stream" if call.request.stream else "plain"
    choice = "any" if at.region is None or _may_fall_back(call.tenant) else "one"
    return f"{place}:{form}:{choice}:{at.label}:{flight_key}"


def _may_fall_back(tenant: Tenant) -> bool:
    """Whether cloud_fallback may answer with another model: not where a list says which may, nor where the price of the
    model that is asked for was reserved.
    """
    return tenant.models is None and tenant.budget is None


def _name_place(call: ChatCall, at: Attempt | None) -> None:
    """Puts into the report who answered, None for nobody."""
    call.report.cloud_region = at.region.id if at and at.region else None
    call.report.cloud_rtt_ms = at.rtt_ms if at else None
    call.report.collapsed = at.collapsed if at else False


def _outcome(at: Attempt, error: GatewayError) -> Outcome:
    """What a failed call says about its region. That its service failed to get an answer from a model says nothing:
    who asks for a broken model must not close a region for all.
    """
    if isinstance(error, CloudUnavailable | RegionFailed) or error.code == "stream_cut":
        return "failed"
    return "silent" if isinstance(error, UpstreamTimeout) and not at.has_answered else "answered"


async def _let_go(tasks: Collection["asyncio.Future[_Result]"]) -> None:
    """Ends what is no longer needed, and discards what came too late."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled() and task.exception() is None:
            await task.result().discard()

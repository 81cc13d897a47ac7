"""Which upstream answers a call: equals by expected wait, retries with backoff, then the model's fallbacks.

All of it before the first byte goes to the caller, and before the caller's deadline.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Set
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from cloud_fallback.boundary import Exchange
from cloud_fallback.budgets import Budgets
from cloud_fallback.errors import (
    GatewayError,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamUnavailable,
    may_be_retried,
)
from cloud_fallback.metrics import Metrics
from cloud_fallback.models import Catalog, Model
from cloud_fallback.settings import Settings
from cloud_fallback.upstream import Lease, Upstream

T = TypeVar("T")
Attempt = Callable[[Model, Lease, float], Awaitable[T]]
"""Asks once. The float: until when, on the event loop's clock. Ends the lease, now or with the stream it returns,
unless it raises."""


class Dispatcher:
    """Scope: process."""

    def __init__(
        self,
        catalog: Catalog,
        upstreams: Mapping[str, Upstream],
        settings: Settings,
        budgets: Budgets,
        metrics: Metrics,
    ) -> None:
        self._catalog = catalog
        self._upstreams = upstreams
        self._settings = settings
        self._budgets = budgets
        self._metrics = metrics
        self._full_jitter = wait_random_exponential(multiplier=settings.backoff_s, max=settings.max_backoff_s)

    async def first_answer(
        self, model: Model, needs: Set[str], exchange: Exchange, deadline_s: float, attempt: Attempt[T]
    ) -> T:
        """needs: features without which no fallback is asked; nor is one whose budget of the day is spent. Raises
        GatewayError: a rejection of the call at once, or the last failure.
        """
        failure: GatewayError
        for candidate in self._catalog.chain(model, needs) if exchange.may_fall_back else [model]:
            if candidate is not model and self._budgets.is_spent(candidate):
                continue
            try:
                answer = await self._with_retries(candidate, exchange, deadline_s, attempt)
            except UpstreamError as exc:
                failure = exc
                if _now_s() >= deadline_s:
                    break
            else:
                exchange.answered_by = candidate.id
                return answer
        raise failure

    async def _with_retries(self, model: Model, exchange: Exchange, deadline_s: float, attempt: Attempt[T]) -> T:
        retrying = AsyncRetrying(
            retry=retry_if_exception(self._is_worth_waiting),
            stop=stop_after_attempt(self._settings.attempts) | stop_before_delay(max(0.0, deadline_s - _now_s())),
            wait=self._wait_s,
            reraise=True,
        )
        async for round_ in retrying:
            with round_:
                return await self._one_round(model, exchange, deadline_s, attempt)
        raise AssertionError("tenacity raises the last failure")

    async def _one_round(self, model: Model, exchange: Exchange, deadline_s: float, attempt: Attempt[T]) -> T:
        """Each upstream once, the one that is likely to be quickest first."""
        equals = [self._upstreams[name] for name in model.entry.upstreams]
        failure: UpstreamError = UpstreamUnavailable("No upstream was asked.")
        for upstream in sorted(equals, key=lambda each: each.cost(model.upstream_id)):
            try:
                return await self._once(model, upstream, exchange, deadline_s, attempt)
            except UpstreamError as exc:
                # One that was not asked says less than one that was, and never hides that a retry may help.
                if not (isinstance(exc, UpstreamUnavailable) and may_be_retried(failure)):
                    failure = exc
        raise failure

    async def _once(
        self, model: Model, upstream: Upstream, exchange: Exchange, deadline_s: float, attempt: Attempt[T]
    ) -> T:
        limit_s = model.entry.first_byte_timeout_s or self._settings.first_byte_timeout_s
        until_s = min(deadline_s, _now_s() + limit_s)
        count = self._metrics.attempts.labels
        try:
            lease = await upstream.enter(model.upstream_id, until_s)
        except UpstreamUnavailable as exc:
            count(upstream.id, model.entry.id, exc.code).inc()
            raise
        exchange.attempts += 1
        try:
            answer = await attempt(model, lease, until_s)
        except UpstreamError as exc:
            # Too many calls is what a bulkhead is for, not a sign of a sick upstream.
            lease.end(has_succeeded=None if isinstance(exc, UpstreamRateLimited) else False)
            count(upstream.id, model.entry.id, exc.code).inc()
            raise
        except GatewayError as exc:
            lease.end(has_succeeded=True)
            count(upstream.id, model.entry.id, "rejected" if exc.status < 500 else exc.code).inc()
            raise
        except BaseException:
            lease.end(has_succeeded=None)
            count(upstream.id, model.entry.id, "cancelled").inc()
            raise
        count(upstream.id, model.entry.id, "ok").inc()
        return answer

    def _is_worth_waiting(self, error: BaseException) -> bool:
        return may_be_retried(error) and (_retry_after_s(error) or 0.0) <= self._settings.max_backoff_s

    def _wait_s(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        return max(self._full_jitter(state), _retry_after_s(error) or 0.0)


def _retry_after_s(error: BaseException | None) -> float | None:
    """Seconds that the upstream asked for; a date is not waited for."""
    if not isinstance(error, UpstreamRateLimited) or error.retry_after is None:
        return None
    try:
        return float(error.retry_after)
    except ValueError:
        return float("inf")


def _now_s() -> float:
    return asyncio.get_running_loop().time()

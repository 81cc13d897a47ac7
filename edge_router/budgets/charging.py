"""One request's place in its tenant's ledger: reserved before a model is asked, settled or released after."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from ..auth import Tenant
from ..errors import BudgetExceeded, BudgetUnavailable, StoreError
from ..limits.telling import token_headers
from ..ports import Background, Clock, LedgerStore, Log
from ..report import Report
from ..timers import pause
from .ledger import TOKEN_LIMITS, Left, Refusal
from .money import NOTHING, Cost, usd
from .usage import usage

IN_FLIGHT_RETRY_S: Final = 5.0  # by then some requests may have given back what they did not need
UNAVAILABLE_RETRY_S: Final = 5.0
# Between the tries of a settlement. All of them fit into the 30 s that a Worker has after its response.
SETTLE_AGAIN_AFTER_S: Final = (0.5, 2.0, 8.0)


class Budgets:
    """Scope: isolate; holds no state of a request. new_id: of a reservation, because a caller who could choose its id
    would pay for one answer and get many.
    """

    def __init__(
        self,
        ledger: LedgerStore,
        clock: Clock,
        log: Log,
        new_id: Callable[[], str],
        *,
        settle_again_after_s: Sequence[float] = SETTLE_AGAIN_AFTER_S,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._log = log
        self._new_id = new_id
        self._settle_again_after_s = settle_again_after_s

    async def reserve(self, tenant: Tenant, most: Cost, report: Report, background: Background) -> "Charge | None":
        """Room for an answer that costs at most so much. None for a tenant without a budget: nobody is asked then.

        Raises BudgetExceeded; BudgetUnavailable when the ledger can't be reached and nothing is to be spent without it.
        """
        budget = tenant.budget
        if budget is None:
            return None
        reservation_id, started_ms = self._new_id(), self._clock.elapsed_ms()
        end = partial(self._end, tenant.id, reservation_id, report.request_id)
        ask = partial(self._ledger.reserve, tenant.id, reservation_id, most, budget.limits)
        try:
            answer = await _twice(ask)
        except StoreError as exc:
            report.budget = {"failed": True}
            self._log.event(
                "budget_unavailable", request_id=report.request_id, reason=exc.message, then=budget.on_failure
            )
            if budget.on_failure == "fail_open":
                return Charge(end, most, None, report, background, self._clock)
            background.run(end(None))  # it may have been granted all the same
            message = "What this key may still spend can't be checked right now; try again."
            raise BudgetUnavailable(message, retry_after_s=UNAVAILABLE_RETRY_S) from exc
        except asyncio.CancelledError:
            background.run(end(None))  # the ledger may grant it, or has done so, and nobody is there to settle it
            raise
        finally:
            report.timings_ms["budget"] = self._clock.elapsed_ms() - started_ms
        if isinstance(answer, Refusal):
            now_s = self._clock.now_s()
            if answer.limit in TOKEN_LIMITS:
                _tell_tokens(report, answer.allowed, answer.left, answer.resets_at_s - now_s)
            raise refusal_of(answer, now_s)
        return Charge(end, most, answer, report, background, self._clock)

    async def reserve_for_batch(self, tenant: Tenant, batch_id: str, most: Cost) -> bool:
        """Room for all of a batch that a provider answers whole; False when it is refused. Doing it twice is harmless.

        Raises StoreError when the ledger can't be reached and nothing is to be spent without it.
        """
        if tenant.budget is None:
            return True
        try:
            answer = await _twice(partial(self._ledger.reserve, tenant.id, batch_id, most, tenant.budget.limits))
        except StoreError:
            if tenant.budget.on_failure == "fail_open":
                return True
            raise
        return not isinstance(answer, Refusal)

    async def settle_batch(self, tenant: str, batch_id: str, spent: tuple[Cost, str] | None) -> None:
        """The end of such a reservation. spent: on which model; None: nothing. Never raises."""
        await self._end(tenant, batch_id, batch_id, spent)

    async def usage(self, tenant: Tenant) -> dict[str, Any]:
        """Raises BudgetUnavailable."""
        sums = None
        if tenant.budget is not None:
            try:
                sums = await self._ledger.sums(tenant.id)
            except StoreError as exc:
                message = "What was spent can't be read right now; try again."
                raise BudgetUnavailable(message, retry_after_s=UNAVAILABLE_RETRY_S) from exc
        return usage(sums, tenant.budget)

    async def _end(self, tenant: str, reservation_id: str, request_id: str, spent: "tuple[Cost, str] | None") -> None:
        """After the response. What can't be told stays reserved, and counts as spent when that expires."""
        waits_s = iter(self._settle_again_after_s)
        while True:
            try:
                if spent is None:
                    await self._ledger.release(tenant, reservation_id)
                else:
                    await self._ledger.settle(tenant, reservation_id, *spent)
            except StoreError as exc:
                wait_s = next(waits_s, None)
                if wait_s is None:
                    self._log.event("budget_not_settled", request_id=request_id, reason=exc.message)
                    return
                await pause(self._clock, wait_s)
            else:
                return


class Charge:
    """A reservation until it ends, once. Scope: request.

    It waits in the background from the beginning, so that a caller who leaves does not take its end along: a Worker
    goes on for 30 s while there is background work.
    """

    def __init__(
        self,
        end: "Callable[[tuple[Cost, str] | None], Awaitable[None]]",
        reserved: Cost,
        left: Left | None,
        report: Report,
        background: Background,
        clock: Clock,
    ) -> None:
        """left: None when nothing is reserved, because the ledger could not be reached."""
        self.reserved = reserved
        self._left = left
        self._report = report
        self._clock = clock
        self._outcome: asyncio.Future[tuple[Cost, str] | None] = asyncio.get_running_loop().create_future()
        self._tell(reserved)
        background.run(self._wait(end))

    def settle(self, cost: Cost, model: str) -> None:
        if not self._outcome.done():
            self._outcome.set_result((cost, model))
            self._tell(cost)

    def release(self) -> None:
        if not self._outcome.done():
            self._outcome.set_result(None)
            self._tell(NOTHING)

    async def _wait(self, end: "Callable[[tuple[Cost, str] | None], Awaitable[None]]") -> None:
        await end(await self._outcome)

    def _tell(self, cost: Cost) -> None:
        """What is left by what was known at the reservation, if this request costs so much."""
        if self._left is None:
            return
        facts: dict[str, Any] = {}
        if self._left.nano_usd is not None:
            facts["remaining_usd"] = usd(max(0, self._left.nano_usd + self.reserved.nano_usd - cost.nano_usd))
        if self._left.tokens is not None:
            tokens = facts["remaining_tokens"] = max(0, self._left.tokens + self.reserved.tokens - cost.tokens)
            assert self._left.tokens_allowed is not None
            assert self._left.tokens_reset_at_s is not None
            resets_in_s = self._left.tokens_reset_at_s - self._clock.now_s()
            _tell_tokens(self._report, self._left.tokens_allowed, tokens, resets_in_s)
        self._report.budget = facts


def _tell_tokens(report: Report, allowed: int, left: int, resets_in_s: float) -> None:
    """In the headers, beside what was told of requests."""
    report.limit_headers = {**report.limit_headers, **token_headers(allowed, left, max(0.0, resets_in_s))}


def refusal_of(refusal: Refusal, now_s: float) -> BudgetExceeded:
    """Says which limit, how much of it is left, and what helps: to ask for less, to wait a moment or for the reset."""
    unit, _, period = refusal.limit.partition("_")

    def shown(amount: int) -> str:
        return f"${usd(amount):.9f}".rstrip("0").rstrip(".") if unit == "usd" else f"{amount} tokens"

    message = (
        f"This key's budget for the {period} ({refusal.limit}) is {shown(refusal.allowed)}: {shown(refusal.left)} is"
        f" left, and this request may take up to {shown(refusal.asked)}."
    )
    retry_after_s: float | None = refusal.resets_at_s - now_s
    if refusal.asked > refusal.allowed:
        message += " That is more than the whole budget: lower 'max_tokens', or shorten the prompt."
        retry_after_s = None
    elif refusal.spent + refusal.asked <= refusal.allowed:
        message += f" {shown(refusal.reserved)} is reserved for requests in flight: try again in a moment."
        retry_after_s = IN_FLIGHT_RETRY_S
    else:
        resets_at = datetime.fromtimestamp(refusal.resets_at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        message += f" It is renewed at {resets_at}."
    return BudgetExceeded(message, retry_after_s=retry_after_s)


async def _twice(ask: Callable[[], Awaitable[Left | Refusal]]) -> Left | Refusal:
    """Objects move and restart; what is asked again is not reserved again."""
    try:
        return await ask()
    except StoreError:
        return await ask()

"""Lets a request in within its tenant's limits, and holds its place among those that run until it ends."""

from collections.abc import Callable

from ..auth import Tenant
from ..errors import GatewayError, RateLimited, StoreError
from ..ports import Background, Clock, LimitStore, Log
from ..report import Report
from ..timers import done_within
from .book import LimitBook, Verdict
from .leases import RENEW_AFTER_S
from .policy import Limits
from .stay import Stay
from .telling import limit_headers

MAX_BOOKS = 1000


class LocalLimits:
    """`LimitStore` that counts what this isolate does. Scope: isolate."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._books: dict[str, LimitBook] = {}

    async def enter(self, tenant: str, limits: Limits, lease: str) -> Verdict:
        now_s = self._clock.now_s()
        if tenant not in self._books and len(self._books) >= MAX_BOOKS:
            self._books = {name: book for name, book in self._books.items() if not book.is_idle(now_s)}
        return self._books.setdefault(tenant, LimitBook()).enter(limits, lease, now_s)

    async def renew(self, tenant: str, lease: str) -> None:
        self._books[tenant].renew(lease, self._clock.now_s())

    async def leave(self, tenant: str, lease: str) -> None:
        self._books[tenant].leave(lease)


class LimitGate:
    """Scope: isolate. strict: counts for the whole world."""

    def __init__(self, strict: LimitStore, clock: Clock, log: Log, new_id: Callable[[], str]) -> None:
        self._strict = strict
        self._local = LocalLimits(clock)
        self._clock = clock
        self._log = log
        self._new_id = new_id

    async def enter(self, tenant: Tenant, limits: Limits, report: Report, background: Background) -> None:
        """Notes in the report what callers are told, and what ends the request's stay.

        Raises RateLimited, and GatewayError (503) when strict limits can't be checked and the record says that this
        closes them; else each isolate counts for itself meanwhile.
        """
        lease, started_ms = self._new_id(), self._clock.elapsed_ms()
        store: LimitStore = self._strict if limits.strict else self._local
        try:
            verdict = await store.enter(tenant.id, limits, lease)
        except StoreError as exc:
            self._log.event("limits_failed", request_id=report.request_id, reason=exc.message)
            background.run(self._give_back(store, tenant.id, lease))  # it may have been taken all the same
            if limits.on_failure == "fail_closed":
                message = "Limits can't be checked right now; try again."
                raise GatewayError(message, code="limits_unavailable", status=503, retry_after_s=1) from exc
            store = self._local
            verdict = await store.enter(tenant.id, limits, lease)
        if limits.strict:
            report.timings_ms["limits"] = self._clock.elapsed_ms() - started_ms
        report.limit_headers = limit_headers(limits, verdict if store is self._strict else None)
        _check(verdict, limits)
        if limits.concurrency is not None:
            report.stay = Stay()
            background.run(self._hold(store, tenant.id, lease, report.stay))

    async def _hold(self, store: LimitStore, tenant: str, lease: str, stay: Stay) -> None:
        """Renews the lease until the request has ended. A Worker that is lost does not come here again."""
        while not await done_within(self._clock, stay.ended, RENEW_AFTER_S):
            try:
                await store.renew(tenant, lease)
            except StoreError as exc:
                self._log.event("limits_failed", reason=exc.message)
        await self._give_back(store, tenant, lease)

    async def _give_back(self, store: LimitStore, tenant: str, lease: str) -> None:
        try:
            await store.leave(tenant, lease)
        except StoreError as exc:  # it is over by itself after a while
            self._log.event("limits_failed", reason=exc.message)


def _check(verdict: Verdict, limits: Limits) -> None:
    """Raises RateLimited unless the request may go on."""
    if verdict.refused_by == "requests":
        message = f"More than {limits.requests_per_minute} requests in a minute: slow down and try again."
        raise RateLimited(message, retry_after_s=verdict.retry_after_s)
    if verdict.refused_by == "concurrency":
        message = f"More than {limits.concurrency} requests at a time: wait for one to end."
        raise RateLimited(message, code="concurrency_limit_exceeded", retry_after_s=verdict.retry_after_s)

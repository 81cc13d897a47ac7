"""What the replicas of one deployment know together: used nonces, sick upstreams, money spent. Redis, or memory alone.

Redis is asked within STORE_TIMEOUT_S and left alone for RETRY_S after a failure. Meanwhile each process goes on with
what it knows itself: a call may then be replayed once at every other process, within its minute; money that the others
spent until then still counts. Failures are counted.
"""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from cloud_fallback.metrics import Metrics

STORE_TIMEOUT_S = 0.25
RETRY_S = 1.0
HINT_TTL_S = 10
SPEND_TTL_S = 3 * 86_400
PREFIX = "nearside:cloud:"


class SharedState(Protocol):
    async def is_new(self, nonce: str, ttl_s: float) -> bool:
        """Whether nobody has used it; from now on it is used, for ttl_s at least."""
        ...

    async def tell_opened(self, upstream: str, model: str) -> None:
        """A breaker has opened here."""
        ...

    async def opened_elsewhere(self) -> dict[tuple[str, str], float]:
        """(upstream, model) of other replicas' breakers that opened lately, and seconds since. Each is told once."""
        ...

    async def add_spent(self, usd: Mapping[str, float]) -> dict[str, float]:
        """Adds to today's sums by model, and gives them."""
        ...

    async def is_up(self) -> bool: ...

    async def aclose(self) -> None: ...


class Nonces:
    """Nonces in order of arrival; each is forgotten when its time is over. Scope: process."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._order: deque[tuple[float, str]] = deque()

    def is_new(self, nonce: str, ttl_s: float) -> bool:
        now_s = time.monotonic()
        while self._order and self._order[0][0] <= now_s:
            self._known.discard(self._order.popleft()[1])
        if nonce in self._known:
            return False
        self._known.add(nonce)
        self._order.append((now_s + ttl_s, nonce))
        return True


class MemoryState:
    """`SharedState` of one process."""

    def __init__(self) -> None:
        self._nonces = Nonces()
        self._spent = _Spent()

    async def is_new(self, nonce: str, ttl_s: float) -> bool:
        return self._nonces.is_new(nonce, ttl_s)

    async def tell_opened(self, upstream: str, model: str) -> None:
        pass

    async def opened_elsewhere(self) -> dict[tuple[str, str], float]:
        return {}

    async def add_spent(self, usd: Mapping[str, float]) -> dict[str, float]:
        self._spent.add(usd)
        return self._spent.by_model()

    async def is_up(self) -> bool:
        return True

    async def aclose(self) -> None:
        pass


class RedisState:
    """`SharedState` in Redis or Valkey. Never raises for its sake: what it can't ask it answers from memory."""

    def __init__(self, url: str, metrics: Metrics) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=STORE_TIMEOUT_S,
            socket_connect_timeout=STORE_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        self._metrics = metrics
        self._nonces = Nonces()
        self._known_hints: dict[str, str] = {}  # when each breaker opened, by us or told before
        self._spent = _Spent()
        self._down_until_s = 0.0

    async def is_new(self, nonce: str, ttl_s: float) -> bool:
        if not self._nonces.is_new(nonce, ttl_s):
            return False
        key = f"{PREFIX}nonce:{nonce}"
        kept_s = int(ttl_s) + 2  # longer than another process' question may be under way
        stored = await self._ask("nonce", self._redis.set, key, "1", nx=True, ex=kept_s)
        return stored is not None  # a key that is there already gives None, a failure _FAILED

    async def tell_opened(self, upstream: str, model: str) -> None:
        key, name, at_s = f"{PREFIX}open", f"{upstream} {model}", str(time.time())
        self._known_hints[name] = at_s
        await self._ask("hint", self._redis.hset, key, name, at_s)
        await self._ask("hint", self._redis.expire, key, HINT_TTL_S)

    async def opened_elsewhere(self) -> dict[tuple[str, str], float]:
        found = await self._ask("hint", self._redis.hgetall, f"{PREFIX}open")
        if not isinstance(found, dict):
            return {}
        known, self._known_hints = self._known_hints, found
        hints = {}
        for name, at_s in found.items():
            age_s = time.time() - float(at_s)
            if at_s != known.get(name) and age_s <= HINT_TTL_S:
                upstream, _, model = name.partition(" ")
                hints[upstream, model] = age_s
        return hints

    async def add_spent(self, usd: Mapping[str, float]) -> dict[str, float]:
        self._spent.add(usd)
        day = self._spent.day
        key = f"{PREFIX}sums:{day}"
        pipeline = self._redis.pipeline(transaction=True)
        for name, amount in self._spent.own().items():
            pipeline.hset(key, name, str(amount))
        pipeline.expire(key, SPEND_TTL_S)
        pipeline.hgetall(key)
        answers = await self._ask("spent", pipeline.execute)
        if isinstance(answers, list):
            self._spent.hear(day, answers[-1])
        return self._spent.by_model()

    async def is_up(self) -> bool:
        return await self._ask("ping", self._redis.ping) is True

    async def aclose(self) -> None:
        await self._redis.aclose()

    async def _ask(self, operation: str, command: Any, *args: Any, **options: Any) -> Any:
        """Redis' answer, or _FAILED."""
        if time.monotonic() < self._down_until_s:
            self._metrics.store_errors.labels(operation).inc()
            return _FAILED
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                answer: Awaitable[Any] = command(*args, **options)
                return await answer
        except (RedisError, OSError, TimeoutError):
            self._down_until_s = time.monotonic() + RETRY_S
            self._metrics.store_errors.labels(operation).inc()
            return _FAILED


_FAILED = object()


class _Spent:
    """US dollars of today: a sum for each `process:model`, which only that process changes.

    So a sum may be told twice, and of two the larger is the newer.
    """

    def __init__(self) -> None:
        self.day = _today()
        self._sums: dict[str, float] = {}
        self._process = uuid.uuid4().hex

    def add(self, usd: Mapping[str, float]) -> None:
        if self.day != _today():
            self.day, self._sums = _today(), {}
        for model, amount in usd.items():
            name = f"{self._process}:{model}"
            self._sums[name] = self._sums.get(name, 0.0) + amount

    def own(self) -> dict[str, float]:
        return {name: amount for name, amount in self._sums.items() if name.startswith(self._process)}

    def hear(self, day: str, sums: Mapping[str, str]) -> None:
        if day == self.day:
            for name, amount in sums.items():
                self._sums[name] = max(self._sums.get(name, 0.0), float(amount))

    def by_model(self) -> dict[str, float]:
        usd: dict[str, float] = {}
        for name, amount in self._sums.items():
            model = name.partition(":")[2]
            usd[model] = usd.get(model, 0.0) + amount
        return usd


def _today() -> str:
    return time.strftime("%Y%m%d", time.gmtime())

"""Money spent by several replicas: what one knows to be spent stays spent, and no dollar counts twice."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from redis.asyncio.client import Pipeline

from cloud_fallback import shared
from cloud_fallback.budgets import Budgets
from cloud_fallback.metrics import Metrics
from cloud_fallback.models import Model, ModelEntry
from cloud_fallback.shared import MemoryState, RedisState
from scripts.local.redis_server import running_redis

MODEL = Model(
    "m:7b",
    "m:7b",
    ModelEntry(
        id="m:7b",
        tier="cloud-fast",
        context_window_tokens=8,
        input_usd_per_million=1.0,
        output_usd_per_million=1.0,
        usd_per_day=5.0,
    ),
)
MILLION = 1_000_000


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is not a Redis that is down, and one that was down is asked again at once."""
    monkeypatch.setattr(shared, "STORE_TIMEOUT_S", 10.0)
    monkeypatch.setattr(shared, "RETRY_S", 0.0)


async def test_redis_goes_and_comes_back_empty() -> None:
    """What others spent counts on, in the outage and after it; what we spend meanwhile is added."""
    with running_redis() as url:
        other, ours = RedisState(url, Metrics()), RedisState(url, Metrics())
        await other.add_spent({"m:7b": 4.0})
        await ours.add_spent({"m:7b": 1.0})
        port = int(url.rpartition(":")[2].partition("/")[0])

    outage = await ours.add_spent({"m:7b": 0.5})
    with running_redis(port) as url:
        after = await ours.add_spent({"m:7b": 0.5})
        newcomer = RedisState(url, Metrics())

        assert (outage, after) == ({"m:7b": 5.5}, {"m:7b": 6.0})
        assert await newcomer.add_spent({}) == {"m:7b": 2.0}
        await asyncio.gather(*(state.aclose() for state in (other, ours, newcomer)))


async def test_redis_whose_answer_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have counted or not: what it is told again counts once."""
    execute = Pipeline.execute
    late = 2

    async def execute_late(self: Any) -> Any:
        nonlocal late
        answers = await execute(self)
        late -= 1
        if late >= 0:
            raise TimeoutError
        return answers

    monkeypatch.setattr(Pipeline, "execute", execute_late)
    with running_redis() as url:
        state = RedisState(url, Metrics())

        sums = [await state.add_spent(usd) for usd in ({"m": 1.0}, {}, {}, {"m": 0.5})]

        assert sums == [{"m": 1.0}, {"m": 1.0}, {"m": 1.0}, {"m": 1.5}]
        await state.aclose()


async def test_redis_asked_at_midnight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of the day that has just ended are not today's."""
    execute = Pipeline.execute

    async def until_midnight(self: Any) -> Any:
        answers = await execute(self)
        monkeypatch.setattr(Pipeline, "execute", execute)
        monkeypatch.setattr(shared, "_today", lambda: "20991231")
        await state.add_spent({"m": 0.5})
        return answers

    with running_redis() as url:
        state = RedisState(url, Metrics())
        await state.add_spent({"m": 4.0})
        monkeypatch.setattr(Pipeline, "execute", until_midnight)

        assert await state.add_spent({}) == {"m": 0.5}
        await state.aclose()


async def test_budget_while_the_others_are_told() -> None:
    """What is under way to them counts here already."""
    told, heard = asyncio.Event(), asyncio.Event()

    class Slow(MemoryState):
        async def add_spent(self, usd: Mapping[str, float]) -> dict[str, float]:
            told.set()
            await heard.wait()
            return await super().add_spent(usd)

    budgets = Budgets(Slow())
    budgets.add(MODEL, 5 * MILLION, 0)
    mirroring = asyncio.create_task(budgets.mirror())
    await told.wait()

    assert budgets.is_spent(MODEL)
    heard.set()
    await mirroring
    assert budgets.is_spent(MODEL)

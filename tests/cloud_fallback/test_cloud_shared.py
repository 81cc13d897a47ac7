"""What replicas know together: one contract for memory and a real Redis, and what happens when Redis is gone."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from cloud_fallback import app as app_module
from cloud_fallback import shared
from cloud_fallback.breaker import MIN_CALLS
from cloud_fallback.metrics import Metrics
from cloud_fallback.shared import MemoryState, RedisState, SharedState
from edge_router.signing import Key, sign
from scripts.local.redis_server import running_redis
from tests.cloud_fallback.harness import COMPLETION, FakeUpstream, call, service

KEY = Key("k", b"k" * 32)
PATH = "/v1/chat/completions"
BODY = b'{"model": "gpt-4o", "messages": []}'
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with running_redis() as url:
        yield url


@pytest.fixture(params=["memory", "redis", "redis is down"])
async def state(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[SharedState]:
    made: SharedState = MemoryState()
    if request.param != "memory":
        made = RedisState(redis_url if request.param == "redis" else NOWHERE, Metrics())
    yield made
    await made.aclose()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is not a Redis that is down."""
    monkeypatch.setattr(shared, "STORE_TIMEOUT_S", 10.0)


def replicas(url: str) -> tuple[RedisState, RedisState]:
    return RedisState(url, Metrics()), RedisState(url, Metrics())


async def test_nonce_is_new_once(state: SharedState) -> None:
    """Wherever it is kept."""
    nonce = f"n{time.monotonic_ns()}"

    assert [await state.is_new(nonce, 5), await state.is_new(nonce, 5), await state.is_new(nonce + "x", 5)] == [
        True, False, True,
    ]  # fmt: skip


async def test_spending_adds_up(state: SharedState) -> None:
    """Sums by model, of today."""
    model = f"m{time.monotonic_ns()}"
    await state.add_spent({model: 0.25})

    sums = await state.add_spent({model: 0.5})

    assert sums[model] == pytest.approx(0.75)
    assert (await state.add_spent({}))[model] == pytest.approx(0.75)


def test_nonces_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory holds no nonce longer than it must."""
    now_s = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    nonces = shared.Nonces()
    for number in range(100):
        nonces.is_new(str(number), 60)
    now_s[0] = 61.0

    assert nonces.is_new("0", 60)
    assert len(nonces._known) == len(nonces._order) == 1


@pytest.mark.usefixtures("patient")
async def test_replicas_share(redis_url: str) -> None:
    """A nonce used at one is used at all; money spent and breakers that opened are told."""
    one, two = replicas(redis_url)

    assert await one.is_new("n" * 20, 5)
    assert not await two.is_new("n" * 20, 5)
    await one.add_spent({"shared": 1.0})
    assert (await two.add_spent({"shared": 2.0}))["shared"] == pytest.approx(3.0)
    await one.tell_opened("up", "some model")
    assert ("up", "some model") in await two.opened_elsewhere()
    assert await two.is_up()
    await asyncio.gather(one.aclose(), two.aclose())


async def test_old_hints_are_passed_over(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hint is news for a few seconds only."""
    one, two = replicas(redis_url)
    await one.tell_opened("up", "old")
    monkeypatch.setattr(shared, "HINT_TTL_S", -1)

    assert ("up", "old") not in await two.opened_elsewhere()
    await asyncio.gather(one.aclose(), two.aclose())


async def test_redis_goes_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Redis each process goes on by itself, quickly; what it spent is told once Redis is there again."""
    monkeypatch.setattr(shared, "RETRY_S", 0.05)
    with running_redis() as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
        metrics = Metrics()
        state = RedisState(url, metrics)
        assert await state.is_new("before", 60)

    async with asyncio.timeout(10):
        assert not await state.is_new("before", 60)
        assert await state.is_new("meanwhile", 60)
        await state.add_spent({"m": 1.0})
        assert not await state.is_up()
        assert await state.opened_elsewhere() == {}
    assert b'nearside_cloud_store_errors_total{operation="nonce"}' in metrics.exposition()

    with running_redis(port):
        async with asyncio.timeout(5):
            while not await state.is_up():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert (await state.add_spent({"m": 2.0}))["m"] == pytest.approx(3.0)
        await state.aclose()


def signed(nonce: str) -> dict[str, str]:
    return sign(KEY, method="POST", path=PATH, request_id="r", body=BODY, nonce=nonce, now_s=time.time())


def guarded(url: str) -> Any:
    keys = f"k:{KEY.secret.hex()}"
    return service(FakeUpstream.plain(COMPLETION), fallback_auth="keys", fallback_keys=keys, redis_url=url)


@pytest.mark.usefixtures("patient")
async def test_replay_at_another_replica(redis_url: str) -> None:
    """The whole way: a call that one replica answered is refused by the other."""
    one, two = guarded(redis_url), guarded(redis_url)
    headers = signed("a" * 30)

    first = await call(one, "POST", PATH, BODY, headers)
    second = await call(two, "POST", PATH, BODY, headers)
    ready = await call(one, "GET", "/ready")

    assert (first.status_code, second.status_code) == (200, 401)
    assert ready.json()["store"] == "ok"


async def test_service_without_its_redis() -> None:
    """Calls are answered, the first replay here is still refused, `/ready` tells and stays 200."""
    app = guarded(NOWHERE)
    headers = signed("b" * 30)

    statuses = [(await call(app, "POST", PATH, BODY, headers)).status_code for _ in range(2)]
    ready = await call(app, "GET", "/ready")

    assert statuses == [200, 401]
    assert (ready.status_code, ready.json()["store"]) == (200, "down")
    assert json.dumps(ready.json()).count("redis") == 0


@pytest.mark.usefixtures("patient")
async def test_breaker_that_another_replica_opened(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opens here as well."""
    monkeypatch.setattr(app_module, "MIRROR_EVERY_S", 0.01)
    monkeypatch.setattr(app_module, "drain_on_sigterm", lambda drain: None)
    one, other = (service(FakeUpstream.plain({}, 500), redis_url=redis_url) for _ in range(2))
    body = json.loads(BODY)
    async with one.router.lifespan_context(one), other.router.lifespan_context(other):
        await call(other, "POST", PATH, body)
        for _ in range(MIN_CALLS):
            await call(one, "POST", PATH, body)
        async with asyncio.timeout(5):
            while not any((await call(other, "GET", "/ready")).json()["open_breakers"].values()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        counted = (await call(one, "GET", "/metrics")).text

    assert 'nearside_cloud_breaker_opened_total{upstream="default"} 1.0' in counted


async def test_bug_in_the_telling(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Is logged, and the telling goes on."""
    monkeypatch.setattr(app_module, "MIRROR_EVERY_S", 0.001)
    monkeypatch.setattr(app_module, "drain_on_sigterm", lambda drain: None)
    asked = asyncio.Event()
    failures = iter([RuntimeError("a bug")])

    async def opened_elsewhere(self: MemoryState) -> dict[tuple[str, str], float]:
        for failure in failures:
            raise failure
        asked.set()
        return {("nobody", "m"): 0.0}

    monkeypatch.setattr(MemoryState, "opened_elsewhere", opened_elsewhere)
    app = service(FakeUpstream())
    async with app.router.lifespan_context(app), asyncio.timeout(5):
        await asked.wait()

    assert "mirror_failed" in capsys.readouterr().err


@pytest.mark.parametrize(("processes", "is_warned"), [("1", False), ("2", True)])
async def test_several_processes_without_redis(
    processes: str, is_warned: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each knows its own nonces only, which is said at the start; keys that are set are no reason for a warning."""
    monkeypatch.setenv("WEB_CONCURRENCY", processes)
    monkeypatch.setattr(app_module, "drain_on_sigterm", lambda drain: None)
    app = service(FakeUpstream(), fallback_auth="keys", fallback_keys=f"k:{KEY.secret.hex()}")
    async with app.router.lifespan_context(app):
        pass

    told = capsys.readouterr().err
    assert ("replay_window_per_worker" in told) is is_warned
    assert "auth_open" not in told


async def test_spending_of_another_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begins at nothing."""
    state = MemoryState()
    await state.add_spent({"m": 1.0})
    monkeypatch.setattr(shared, "_today", lambda: "20991231")

    assert await state.add_spent({"m": 0.5}) == {"m": 0.5}


async def test_process_by_itself() -> None:
    """Hears nothing of others, and its memory is always there."""
    state = MemoryState()
    await state.tell_opened("up", "m")

    assert (await state.opened_elsewhere(), await state.is_up()) == ({}, True)


async def test_task_that_loses_a_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is cancelled again: a process that is told to end must not wait for it for ever."""
    monkeypatch.setattr(app_module, "CANCEL_AGAIN_S", 0.001)
    lost = 0

    async def stubborn() -> None:
        nonlocal lost
        while lost < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
        await asyncio.sleep(60)

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await app_module.end_all([task])

    assert task.cancelled()
    assert lost == 2


async def test_hint_is_news_once(redis_url: str) -> None:
    """One's own is none; another's is told once, and again when the breaker has opened again."""
    one, two = replicas(redis_url)
    hint = ("up", f"m{time.monotonic_ns()}")

    await one.tell_opened(*hint)
    heard = [hint in await each.opened_elsewhere() for each in (one, two, two)]
    await one.tell_opened(*hint)

    assert heard == [False, True, False]
    assert hint in await two.opened_elsewhere()
    await asyncio.gather(one.aclose(), two.aclose())

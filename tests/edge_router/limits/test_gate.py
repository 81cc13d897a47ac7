"""A tenant's limits at the gateway: who is refused and told what, how long a place is held, and what failures do."""

import asyncio
import json
from typing import Any

import pytest

from edge_router.gateway import Gateway
from edge_router.limits import gate
from edge_router.limits.book import Verdict
from edge_router.limits.leases import LEASE_S
from edge_router.limits.policy import Limits
from edge_router.limits.telling import LIMIT_HEADERS, limit_headers
from edge_router.replies import Reply
from tests.edge_router.harness import World, bearer, chat_body, error_of, key_records
from tests.fakes import Caller, FakeClock, FakeLimits, MemoryStore

STRICT = {"requests_per_minute": 2, "strict": True}


class Tenancy:
    """Isolates of one deployment, and two tenants with the same limits."""

    def __init__(self, **limits: Any) -> None:
        clock = FakeClock()
        keys = key_records(k001={"tenant": "acme", "limits": limits}, other={"tenant": "other", "limits": limits})
        self.world = World(auth="keys", keys=keys, clock=clock, limits=FakeLimits(clock))
        assert self.world.limits is not None
        self.limits = self.world.limits
        self.isolate = self.world.gateway()

    async def ask(self, key: str = "k001", of: Gateway | None = None, **fields: Any) -> Reply:
        body = chat_body(use_cache=False, **fields)
        return await self.world.ask(body, headers=bearer(key), of=of or self.isolate)

    async def statuses(self, count: int, key: str = "k001") -> list[int]:
        return [(await self.ask(key)).status for _ in range(count)]

    def restart_every_isolate(self) -> None:
        self.isolate = self.world.gateway()


def told(reply: Reply) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if name in LIMIT_HEADERS}


@pytest.mark.parametrize("strict", [True, False])
async def test_too_many_requests(strict: bool) -> None:
    """429 with the exact time to wait; after it there is room. Another tenant has its own."""
    tenancy = Tenancy(requests_per_minute=2, strict=strict)
    assert await tenancy.statuses(1) == [200]
    tenancy.world.clock.advance(10.5)
    assert await tenancy.statuses(1) == [200]

    refused = await tenancy.ask()
    assert (refused.status, error_of(refused)["code"]) == (429, "rate_limit_exceeded")
    assert refused.headers["retry-after"] == "50"  # 49.5 s, and never too early
    assert await tenancy.statuses(3, "other") == [200, 200, 429]

    tenancy.world.clock.advance(49.4)
    assert await tenancy.statuses(1) == [429]
    tenancy.world.clock.advance(0.1)
    assert await tenancy.statuses(2) == [200, 429]


async def test_limit_of_one_place_or_of_the_world() -> None:
    """A strict one counts what all isolates let through; else each counts for itself."""
    statuses = {}
    for strict in (True, False):
        tenancy = Tenancy(requests_per_minute=2, strict=strict)
        statuses[strict] = await tenancy.statuses(2)
        tenancy.restart_every_isolate()
        statuses[strict] += await tenancy.statuses(1)

    assert statuses == {True: [200, 200, 429], False: [200, 200, 200]}


async def test_object_that_is_moved() -> None:
    """What it let through still counts."""
    tenancy = Tenancy(**STRICT)
    await tenancy.statuses(2)
    tenancy.limits.restart()

    assert await tenancy.statuses(1) == [429]


async def test_what_is_told_of_a_strict_limit() -> None:
    """On answers, refusals and errors alike: the limit, what is left of it, and when there is more."""
    tenancy = Tenancy(**STRICT, concurrency=5)
    answer = await tenancy.ask()
    tenancy.world.clock.advance(1.5)
    error = await tenancy.ask(model="nobody")

    assert told(answer) == {
        "ratelimit-policy": '"requests";q=2;w=60, "concurrency";q=5;qu="concurrent-requests"',
        "ratelimit": '"requests";r=1;t=60',
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "1m0s",
    }
    assert (error.status, told(error)["ratelimit"]) == (404, '"requests";r=0;t=59')
    assert told(await tenancy.ask())["ratelimit"] == '"requests";r=0;t=59'
    assert "limits;dur=" in answer.headers["server-timing"]


async def test_what_is_told_of_a_limit_that_each_isolate_counts() -> None:
    """Nobody knows what remains, so it is not told."""
    assert told(await Tenancy(requests_per_minute=2).ask()) == {
        "ratelimit-policy": '"requests";q=2;w=60',
        "x-ratelimit-limit-requests": "2",
    }


async def test_no_limits() -> None:
    """Nobody is asked, nothing told."""
    world = World(auth="keys", keys=key_records(k001={"tenant": "acme"}), limits=FakeLimits(FakeClock()))
    reply = await world.ask(chat_body(), headers=bearer())

    assert (reply.status, told(reply)) == (200, {})
    assert world.limits is not None
    assert world.limits.calls == []


@pytest.mark.parametrize(
    ("empty_in_s", "expected"),
    [
        (0.0201, "21ms"),
        (0.9999, "1s"),
        (8.64, "8.64s"),
        (60.0, "1m0s"),
        (61.5, "1m1.5s"),
        (3600.0, "1h0m0s"),
        (2_591_999.5, "719h59m59.5s"),
    ],
)
def test_durations(empty_in_s: float, expected: str) -> None:
    """As OpenAI writes them, and never too short."""
    headers = limit_headers(Limits(5), Verdict(None, 0.0, 1, 1.0, empty_in_s))

    assert headers["x-ratelimit-reset-requests"] == expected


@pytest.mark.parametrize("strict", [True, False])
async def test_too_many_at_a_time(strict: bool) -> None:
    """429 while as many streams run as may; one that ends, or is left by its caller, makes room."""
    tenancy = Tenancy(concurrency=2, strict=strict)
    streams = [await tenancy.ask(stream=True) for _ in range(2)]
    refused = await tenancy.ask(stream=True)
    assert (refused.status, error_of(refused)["code"]) == (429, "concurrency_limit_exceeded")
    assert refused.headers["retry-after"] == "1"
    assert await tenancy.statuses(1, "other") == [200]

    callers = [Caller(stream.body) for stream in streams if not isinstance(stream.body, str)]
    await callers[0].hear_all()
    await callers[1].hear(1)
    await callers[1].leave()
    await tenancy.world.background.finish()
    assert await tenancy.statuses(2) == [200, 200]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("fields", [{}, {"model": "nobody"}], ids=["answer", "error"])
async def test_place_of_a_plain_request(strict: bool, fields: dict[str, Any]) -> None:
    """Is free again with its answer, whatever that was."""
    tenancy = Tenancy(concurrency=1, strict=strict)
    for _ in range(3):
        assert (await tenancy.ask(**fields)).status != 429
        await tenancy.world.background.finish()


@pytest.mark.parametrize("strict", [True, False])
async def test_worker_that_is_lost(strict: bool) -> None:
    """Keeps its place for LEASE_S, not for ever."""
    tenancy = Tenancy(concurrency=1, strict=strict)
    await tenancy.ask(stream=True)
    assert await tenancy.statuses(1) == [429]

    tenancy.world.clock.advance(LEASE_S)
    assert await tenancy.statuses(1) == [200]


@pytest.mark.parametrize("on_failure", ["fail_open", "fail_closed"])
async def test_object_that_can_not_be_reached(on_failure: str) -> None:
    """Open: each isolate counts for itself meanwhile, and nothing is told that is not known. Closed: 503."""
    tenancy = Tenancy(**STRICT, concurrency=9, on_failure=on_failure)
    tenancy.limits.is_down = True
    replies = [await tenancy.ask() for _ in range(3)]
    await tenancy.world.background.finish()

    if on_failure == "fail_open":
        assert [reply.status for reply in replies] == [200, 200, 429]
        assert "ratelimit" not in replies[0].headers
    else:
        assert [reply.status for reply in replies] == [503, 503, 503]
        assert error_of(replies[0])["code"] == "limits_unavailable"
        assert replies[0].headers["retry-after"] == "1"
    assert "limits_failed" in tenancy.world.log.names()
    assert tenancy.limits.calls.count("leave") == 3  # it may have been taken all the same


async def test_object_that_is_lost_while_a_request_runs() -> None:
    """Costs the request nothing."""
    tenancy = Tenancy(concurrency=1, strict=True)
    await tenancy.ask()
    tenancy.limits.is_down = True
    await tenancy.world.background.finish()

    assert tenancy.world.log.names() == ["limits_failed"]


async def test_keys_of_one_tenant() -> None:
    """Count together, each up to its own limit."""
    limits = {"strict": True, "requests_per_minute": 3}
    tenancy = Tenancy(**limits)
    record = {**limits, "requests_per_minute": 1}
    assert isinstance(tenancy.world.keys, MemoryStore)
    stored = json.loads(tenancy.world.keys.texts["key:k001"])
    tenancy.world.keys.texts["key:small"] = json.dumps({**stored, "limits": record})

    assert await tenancy.statuses(2) == [200, 200]
    assert await tenancy.statuses(1, "small") == [429]
    assert await tenancy.statuses(2) == [200, 429]


async def test_many_tenants() -> None:
    """An isolate forgets those that ask nothing any more."""
    tenancy = Tenancy(requests_per_minute=1)
    local = tenancy.isolate._limits._local
    for number in range(1200):
        await local.enter(f"t{number}", Limits(1), "")
        tenancy.world.clock.advance(0.5)

    assert len(local._books) < 1000


@pytest.mark.parametrize("strict", [True, False])
async def test_long_request(strict: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps its place for as long as it runs, well beyond LEASE_S; its end makes room."""
    monkeypatch.setattr(gate, "RENEW_AFTER_S", 0.001)
    tenancy = Tenancy(concurrency=1, strict=strict)
    stream = (await tenancy.ask(stream=True)).body
    assert not isinstance(stream, str)
    holding = asyncio.ensure_future(tenancy.world.background.finish())
    for _ in range(5):
        tenancy.world.clock.advance(LEASE_S / 2)
        await asyncio.sleep(0.01)  # the timer of the lease is due before
    assert await tenancy.statuses(1) == [429]

    await Caller(stream).hear_all()
    await holding
    assert await tenancy.statuses(1) == [200]


async def test_object_that_is_lost_while_a_long_request_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The place is renewed again as soon as the object is back."""
    monkeypatch.setattr(gate, "RENEW_AFTER_S", 0.001)
    tenancy = Tenancy(concurrency=1, strict=True)
    stream = (await tenancy.ask(stream=True)).body
    assert not isinstance(stream, str)
    holding = asyncio.ensure_future(tenancy.world.background.finish())
    tenancy.limits.is_down = True
    await asyncio.sleep(0.01)
    tenancy.limits.is_down = False
    tenancy.world.clock.advance(LEASE_S / 2)
    await asyncio.sleep(0.01)
    tenancy.world.clock.advance(LEASE_S * 0.9)

    assert await tenancy.statuses(1) == [429]
    assert set(tenancy.world.log.names()) >= {"limits_failed"}
    await Caller(stream).hear_all()
    await holding

"""What is known of an upstream: breaker, bulkhead, latency."""

import asyncio

import pytest

from cloud_fallback.breaker import FIRST_PAUSE_S, LONGEST_PAUSE_S, MIN_CALLS, WINDOW_S, Breaker
from cloud_fallback.bulkhead import Bulkhead
from cloud_fallback.errors import UpstreamUnavailable
from cloud_fallback.latency import HALF_LIFE_S, PeakEwma


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def call(breaker: Breaker, has_succeeded: bool | None) -> bool:
    """One call from beginning to end; whether it opened the breaker."""
    assert breaker.may_pass
    return breaker.leave(has_succeeded, is_probe=breaker.enter())


def opened(clock: FakeClock) -> Breaker:
    breaker = Breaker(clock)
    results = [call(breaker, False) for _ in range(MIN_CALLS)]
    assert results == [False] * (MIN_CALLS - 1) + [True]
    return breaker


def test_breaker_opens_and_closes() -> None:
    """Open after enough failures; after the pause one call decides, and nobody else passes meanwhile."""
    clock = FakeClock()
    breaker = opened(clock)

    assert (breaker.state, breaker.may_pass, breaker.retry_after_s) == ("open", False, FIRST_PAUSE_S)
    clock.now_s += FIRST_PAUSE_S
    assert breaker.state == "half_open"
    is_probe = breaker.enter()
    assert (is_probe, breaker.may_pass) == (True, False)
    breaker.leave(True, is_probe=True)
    assert (breaker.state, breaker.may_pass) == ("closed", True)


def test_breaker_stays_open_longer_each_time() -> None:
    """A probe that fails doubles the pause, up to a bound: what is well again is found within 10 s."""
    clock = FakeClock()
    breaker = opened(clock)
    pauses = []
    for _ in range(6):
        pauses.append(breaker.retry_after_s)
        clock.now_s += breaker.retry_after_s
        call(breaker, False)

    assert pauses == [1, 2, 4, 8, 8, 8]
    assert LONGEST_PAUSE_S < 10


def test_breaker_late_answers_decide_nothing() -> None:
    """Calls that began before the breaker opened, and callers who left, neither close nor open it."""
    clock = FakeClock()
    breaker = Breaker(clock)
    early = breaker.enter()
    for _ in range(MIN_CALLS):
        call(breaker, False)
    clock.now_s += FIRST_PAUSE_S
    probe = breaker.enter()

    breaker.leave(True, is_probe=early)
    assert not breaker.may_pass
    breaker.leave(None, is_probe=probe)

    assert (breaker.state, breaker.may_pass) == ("half_open", True)


@pytest.mark.parametrize(
    ("good", "bad", "gap_s", "state"),
    [
        pytest.param(0, MIN_CALLS - 1, 0.0, "closed", id="too few"),
        pytest.param(MIN_CALLS, MIN_CALLS - 1, 0.0, "closed", id="less than half"),
        pytest.param(MIN_CALLS, MIN_CALLS, 0.0, "open", id="half"),
        pytest.param(0, MIN_CALLS, WINDOW_S, "closed", id="too long ago"),
    ],
)
def test_breaker_threshold(good: int, bad: int, gap_s: float, state: str) -> None:
    """Half of at least MIN_CALLS within the window."""
    clock = FakeClock()
    breaker = Breaker(clock)

    for has_succeeded in [True] * good + [False] * bad:
        clock.now_s += gap_s
        call(breaker, has_succeeded)

    assert breaker.state == state


def test_hint() -> None:
    """Another replica's bad news make one call decide; a breaker that is open already keeps its pause."""
    clock = FakeClock()
    hinted, open_ = Breaker(clock), opened(clock)

    hinted.open_by_hint(0.5)
    open_.open_by_hint(0.5)

    assert (hinted.state, open_.state) == ("half_open", "open")
    call(hinted, True)
    assert hinted.state == "closed"


@pytest.mark.parametrize(("age_s", "state"), [(2.0, "closed"), (0.5, "half_open")])
def test_hint_and_a_success(age_s: float, state: str) -> None:
    """A call that succeeded here since knows better than the other replica."""
    clock = FakeClock()
    breaker = Breaker(clock)
    call(breaker, True)
    clock.now_s += 1.0

    breaker.open_by_hint(age_s)

    assert breaker.state == state


async def test_bulkhead() -> None:
    """So many inside, so many in the queue in order, and the next is told when to come again."""
    bulkhead = Bulkhead(max_concurrency=1, max_queue=2)
    soon_s = asyncio.get_running_loop().time() + 5
    order: list[str] = []

    async def visit(name: str) -> None:
        await bulkhead.enter(soon_s)
        order.append(name)
        bulkhead.leave()

    await bulkhead.enter(soon_s)
    waiting = [asyncio.create_task(visit(name)) for name in "ab"]
    await asyncio.sleep(0)
    with pytest.raises(UpstreamUnavailable) as caught:
        await bulkhead.enter(soon_s)
    bulkhead.leave()
    await asyncio.gather(*waiting)

    assert (caught.value.status, caught.value.code, caught.value.retry_after_s) == (503, "upstream_saturated", 1)
    assert order == ["a", "b"]
    assert (bulkhead.in_flight, bulkhead.queued) == (0, 0)


async def test_bulkhead_deadline_and_cancellation() -> None:
    """Who waits too long, or leaves, gives the place in the queue back."""
    bulkhead = Bulkhead(max_concurrency=1, max_queue=1)
    now_s = asyncio.get_running_loop().time()
    await bulkhead.enter(now_s + 5)

    with pytest.raises(UpstreamUnavailable):
        await bulkhead.enter(now_s + 0.01)
    leaving = asyncio.create_task(bulkhead.enter(now_s + 5))
    await asyncio.sleep(0)
    assert bulkhead.queued == 1
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)

    assert (bulkhead.in_flight, bulkhead.queued) == (1, 0)


def test_latency() -> None:
    """A slow answer counts at once, quick ones bring it down slowly, and it is forgotten when nobody asks."""
    clock = FakeClock()
    latency = PeakEwma(clock)

    assert latency.cost(7) == 0
    latency.add(1.0)
    latency.add(0.1)
    assert latency.value_s == 1.0
    clock.now_s += HALF_LIFE_S
    assert latency.value_s == 0.5
    latency.add(0.1)
    assert latency.value_s == pytest.approx(0.55)
    assert latency.cost(1) == pytest.approx(1.1)

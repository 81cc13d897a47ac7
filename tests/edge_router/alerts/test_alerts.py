"""When an alert fires and when it is over, minute by minute."""

import pytest

from edge_router.alerts.book import KEPT_RESOLVED, SILENCE_S
from edge_router.alerts.rules import DEFAULT_RULES, Rule
from tests.edge_router.alerts.world import MINUTE_S, Minutes
from tests.fakes import START_S

SLOW_MS = 3000.0
WARNING = next(rule for rule in DEFAULT_RULES if rule.id == "latency_warning")
BREAKER = next(rule for rule in DEFAULT_RULES if rule.id == "breaker_open")


async def test_slow_for_five_minutes() -> None:
    """p95 above 2 s: pending from the first minute, firing after the fifth, since the first; then over at once."""
    world = Minutes()
    await world.minute(20)
    began_s = int(world.clock.now_s())
    for _ in range(4):
        await world.minute(20, total_ms=SLOW_MS)
        assert (await world.firing(), await world.pending()) == ([], ["latency_warning"])
    await world.minute(20, total_ms=SLOW_MS)
    (alert,) = (await world.alerts.read())["active"]

    assert alert == {
        "id": "latency_warning",
        "severity": "warning",
        "state": "firing",
        "since_s": began_s,
        "value": pytest.approx(SLOW_MS, rel=0.01),
        "threshold": 2000,
        "unit": "ms",
        "key": None,
        "summary": f"p95 of the total is {alert['value']:.0f} ms, above 2000 ms for 300 s",
    }

    await world.minute(20)
    told = await world.alerts.read()
    assert told["active"] == []
    assert told["resolved"] == [{**alert, "state": "resolved", "resolved_at_s": told["evaluated_at_s"]}]


async def test_five_seconds_for_two_minutes() -> None:
    """Critical, and before the warning about the same; critical ones come first."""
    world = Minutes()
    for _ in range(2):
        await world.minute(20, total_ms=6000)
    assert await world.firing() == ["latency_critical"]
    for _ in range(3):
        await world.minute(20, total_ms=6000)

    assert await world.firing() == ["latency_critical", "latency_warning"]


async def test_first_token() -> None:
    """Of streams alone, whatever the whole answer takes."""
    world = Minutes()
    for _ in range(5):
        await world.minute(20, total_ms=1900, ttft_ms=1200)

    assert await world.firing() == ["ttft_warning"]


async def test_one_good_minute_between() -> None:
    """Begins the wait anew."""
    world = Minutes([WARNING])
    for _ in range(4):
        await world.minute(20, total_ms=SLOW_MS)
    await world.minute(20)
    for _ in range(4):
        await world.minute(20, total_ms=SLOW_MS)

    assert await world.firing() == []
    await world.minute(20, total_ms=SLOW_MS)
    assert await world.firing() == ["latency_warning"]


async def test_minute_that_is_not_over() -> None:
    """Is judged in the next run, when it is whole."""
    world = Minutes([WARNING])
    await world.minute(20)
    await world.see(20, total_ms=SLOW_MS)
    await world.run()
    assert await world.pending() == []

    await world.minute()
    assert await world.pending() == ["latency_warning"]


async def test_good_minute_that_the_cron_missed() -> None:
    """The metrics' own history counts, not what was so when the cron came."""
    world = Minutes([WARNING])
    for runs in (True, True, False, True, True, True):
        await world.minute(20, total_ms=SLOW_MS if runs else 100, runs=runs)

    assert await world.firing() == []


async def test_cron_that_comes_once() -> None:
    """After half an hour without one, a first run knows of all the minutes before it."""
    world = Minutes([WARNING])
    began_s = int(world.clock.now_s())
    for _ in range(6):
        await world.minute(20, total_ms=SLOW_MS, runs=False)
    await world.run()

    assert [alert["since_s"] for alert in (await world.alerts.read())["active"]] == [began_s]


@pytest.mark.parametrize("late_s", [0, 20, 59])
async def test_late_cron(late_s: float) -> None:
    """Judges whole minutes only: how late it comes, and what has begun meanwhile, does not matter."""
    world = Minutes([WARNING])
    for turn in range(5):
        assert await world.firing() == []
        await world.minute(20, total_ms=SLOW_MS, late_s=late_s if turn % 2 else 0)

    assert await world.firing() == ["latency_warning"]


async def test_two_runs_in_one_minute() -> None:
    """Change nothing twice, and make no second notice."""
    world = Minutes([WARNING])
    for _ in range(5):
        await world.minute(20, total_ms=SLOW_MS)
        await world.run()

    assert await world.firing() == ["latency_warning"]
    assert len(world.receiver.posts) == 1


async def test_three_slow_requests() -> None:
    """Are too few to say anything: pending at most."""
    world = Minutes([WARNING])
    await world.minute(3, total_ms=SLOW_MS)
    for _ in range(6):
        await world.minute(1, total_ms=SLOW_MS)

    assert (await world.firing(), await world.pending()) == ([], ["latency_warning"])


async def test_one_bad_minute_and_silence() -> None:
    """Most of the time there was nothing to see: it does not fire, and is forgotten."""
    world = Minutes([WARNING])
    await world.minute(100, total_ms=SLOW_MS)
    for _ in range(4):
        await world.minute()
    assert await world.firing() == []
    for _ in range(SILENCE_S // MINUTE_S + 5):
        await world.minute()

    assert (await world.firing(), await world.pending(), await world.resolved()) == ([], [], [])


async def test_silence_while_firing() -> None:
    """The alert stays for a while and is then over: nothing says that it still is so."""
    world = Minutes([WARNING])
    for _ in range(5):
        await world.minute(20, total_ms=SLOW_MS)
    for _ in range(4):
        await world.minute()
        assert await world.firing() == ["latency_warning"]
    for _ in range(6):
        await world.minute()

    assert (await world.firing(), await world.resolved()) == ([], ["latency_warning"])


async def test_long_trouble() -> None:
    """Keeps its beginning, also when that is further back than what can be seen."""
    world = Minutes([WARNING])
    began_s = int(world.clock.now_s())
    for _ in range(100):
        await world.minute(20, total_ms=SLOW_MS)

    assert [alert["since_s"] for alert in (await world.alerts.read())["active"]] == [began_s]
    assert len(world.receiver.posts) == 1


@pytest.mark.parametrize(
    ("hits_before", "fires"),
    [pytest.param(70, True, id="usually 70 %"), pytest.param(30, False, id="usually 30 %")],
)
async def test_hit_rate(hits_before: int, fires: bool) -> None:
    """Below 20 % calls for an alert only where it usually is at least 40 %."""
    world = Minutes()
    for _ in range(60):
        await world.see(hits_before, cache="hit", cache_tier="kv")
        await world.minute(100 - hits_before, cache="miss")
    for _ in range(5):
        await world.see(10, cache="hit", cache_tier="kv")
        await world.minute(90, cache="miss")

    assert await world.firing() == (["hit_rate_low"] if fires else [])
    if fires:
        (alert,) = (await world.alerts.read())["active"]
        assert alert["summary"] == "The hit rate is 10.0 %, below 20 % for 300 s"
        assert (alert["value"], alert["threshold"], alert["unit"]) == (0.1, 0.2, "share")


async def test_new_deployment() -> None:
    """A cache that is still empty is no fault: nothing is usual yet."""
    world = Minutes()
    for _ in range(90):
        await world.minute(100, cache="miss")

    assert await world.firing() == await world.pending() == []


async def test_timeouts() -> None:
    """By their share of the requests, whoever answered then."""
    world = Minutes()
    for _ in range(2):
        await world.see(2, fallbacks=["m@weur: upstream_timeout"])
        await world.minute(18)

    assert await world.firing() == ["timeouts"]


async def test_breaker() -> None:
    """Fires at the first look, for its region; half open is not well yet; closed is."""
    world = Minutes()
    for state in ("closed", "open", "half_open"):
        await world.minute(1, breakers={"weur": state, "wnam": "closed"})
    told = await world.alerts.read()

    assert [(alert["id"], alert["key"], alert["severity"]) for alert in told["active"]] == [
        ("breaker_open", "weur", "critical")
    ]
    assert told["active"][0]["summary"] == "The breaker of weur is open at CDG"

    await world.minute(1, breakers={"weur": "closed", "wnam": "closed"})
    assert await world.firing() == []
    assert await world.resolved() == ["breaker_open"]


async def test_breaker_of_which_nothing_is_heard() -> None:
    """A quiet location does not make its alert flap."""
    world = Minutes([BREAKER])
    for _ in range(3):
        await world.minute(1, breakers={"weur": "open"})
        await world.minute()

    assert await world.firing() == ["breaker_open"]
    assert len(world.receiver.posts) == 1


async def test_breaker_for_two_minutes() -> None:
    """A rule may wait, then it counts from the first look."""
    world = Minutes([Rule("patient", "warning", "breakers_open", above=0, for_s=120, min_samples=0)])
    for firing in ([], [], ["patient"]):
        await world.minute(1, breakers={"weur": "open"})
        assert await world.firing() == firing


async def test_unreadable_metrics() -> None:
    """Change no alert; it is logged."""
    world = Minutes([WARNING])
    for _ in range(5):
        await world.minute(20, total_ms=SLOW_MS)
    before = await world.alerts.read()
    world.metrics.down.add("directory")
    await world.minute()

    assert await world.alerts.read() == before
    assert "alerts_not_judged" in world.log.names()


async def test_rule_that_is_gone() -> None:
    """Its alert is over."""
    world = Minutes([WARNING])
    for _ in range(5):
        await world.minute(20, total_ms=SLOW_MS)
    world.rules = []
    await world.minute(20, total_ms=SLOW_MS)

    assert (await world.firing(), await world.resolved()) == ([], ["latency_warning"])


async def test_resolved_alerts() -> None:
    """The latest are kept, newest first."""
    world = Minutes([BREAKER], told=False)
    for turn in range(KEPT_RESOLVED + 5):
        await world.minute(1, breakers={f"r{turn}": "open"})
        await world.minute(1, breakers={f"r{turn}": "closed"})
    told = (await world.alerts.read())["resolved"]

    assert [alert["key"] for alert in told[:2]] == [f"r{KEPT_RESOLVED + 4}", f"r{KEPT_RESOLVED + 3}"]
    assert len(told) == KEPT_RESOLVED


async def test_before_the_first_run() -> None:
    """Nothing has been judged."""
    world = Minutes()

    assert (await world.alerts.read())["evaluated_at_s"] is None
    await world.run()
    assert (await world.alerts.read())["evaluated_at_s"] == START_S // MINUTE_S * MINUTE_S

"""One location's slices over time, on an emulated clock."""

import json
from typing import Any

import pytest

from edge_router.metrics.cells import MAX_CELLS, MAX_MODELS, Cell, Labels, Slice
from edge_router.metrics.directory import KEEP_S, MAX_COLOS, Directory
from edge_router.metrics.shard import Shard
from edge_router.metrics.windows import WINDOWS
from edge_router.report import Report
from tests.fakes import START_S, FakeClock, MemorySql


def one(total_ms: float = 100, **facts: Any) -> Slice:
    """Of one request."""
    found = Slice()
    found.note(Report("r", timings_ms={"total": total_ms}, **facts), 200)
    return found


def requests(shard: Shard, window: str, now_s: float) -> int:
    groups = shard.view(WINDOWS[window], "none", now_s).groups
    return round(sum(cell.counts["requests"] for cell in groups.values()))


@pytest.mark.parametrize("window", WINDOWS)
def test_windows(window: str) -> None:
    """Every request is in a window for its length, less at most one point of its series, and then is not."""
    length_s, point_s = WINDOWS[window].length_s, WINDOWS[window].point_s
    shard, clock = Shard(MemorySql()), FakeClock(START_S)
    shard.add(one(), clock.now_s())

    clock.advance(length_s - point_s)
    assert requests(shard, window, clock.now_s()) == 1

    clock.advance(point_s)
    assert requests(shard, window, clock.now_s()) == 0


def test_a_long_day() -> None:
    """With a request every 7 seconds each window holds what it should, nothing twice, whenever one looks."""
    shard, clock = Shard(MemorySql()), FakeClock(START_S)
    times_s = []
    for turn in range(15_000):
        shard.add(one(), clock.now_s())
        times_s.append(clock.now_s())
        if turn % 1499 == 0:
            for name, window in WINDOWS.items():
                since_s = window.from_s(clock.now_s())
                assert requests(shard, name, clock.now_s()) == sum(at_s >= since_s for at_s in times_s)
        clock.advance(7)

    assert sum(cell.counts["requests"] for cell in shard.all_time(clock.now_s()).cells.values()) == 15_000


def test_points_over_time() -> None:
    """Each point of the series holds the requests of its time."""
    shard, start_s = Shard(MemorySql()), int(START_S // 3600) * 3600
    for minute, count in ((0, 1), (1, 2), (5, 3)):
        for _ in range(count):
            shard.add(one(), start_s + 60 * minute + 7)
    view = shard.view(WINDOWS["1h"], "none", start_s + 400)

    assert {at_s - start_s: cell.counts["requests"] for at_s, cell in view.points.items()} == {0: 1, 60: 2, 300: 3}


def test_object_that_starts_again() -> None:
    """Goes on with what it had written."""
    sql = MemorySql()
    Shard(sql).add(one(), START_S)
    shard = Shard(sql)
    shard.add(one(), START_S)

    assert requests(shard, "1m", START_S) == 2


def test_groupings() -> None:
    """By each label; what has none is under `-`."""
    shard = Shard(MemorySql())
    shard.add(one(model="m1", served_by="cloud", cloud_region="weur", route_reason="pinned"), START_S)
    shard.add(one(model="m1", served_by="exact-cache", route_reason="cached"), START_S)

    def keys(by: Any) -> set[str]:
        return set(shard.view(WINDOWS["5m"], by, START_S).groups)

    assert keys("none") == keys("colo") == {""}
    assert keys("model") == {"m1"}
    assert keys("served_by") == {"cloud", "exact-cache"}
    assert keys("region") == {"weur", "-"}
    assert keys("route_reason") == {"pinned", "cached"}


def test_breakers() -> None:
    """As told in the last minute: the worst of those told together, else the newest; then unknown."""
    shard = Shard(MemorySql())
    for at_s, state in ((0, "open"), (1, "closed"), (30, "half_open")):
        shard.add(Slice(breakers={"weur": state}), START_S + at_s)  # type: ignore[dict-item]

    assert shard.view(WINDOWS["5m"], "none", START_S + 2).breakers == {"weur": "half_open"}
    assert shard.all_time(START_S + 80).breakers == {"weur": "half_open"}
    assert shard.view(WINDOWS["5m"], "none", START_S + 120).breakers == {}


def test_too_many_models() -> None:
    """Beyond the bound they are counted together, and none is lost."""
    found = Slice()
    for number in range(3 * MAX_MODELS):
        found.note(Report("r", model=f"sim-{number}"), 200)

    assert len({labels.model for labels in found.cells}) == MAX_MODELS + 1
    assert found.cells[Labels("other", "-", "-", "-")].counts["requests"] == 2 * MAX_MODELS


def test_too_many_cells() -> None:
    """The same for all labels together; the largest slice stays below what SQLite takes in one value."""
    found = Slice()
    for number in range(3 * MAX_CELLS):
        for ms in range(1, 3000, 20):
            report = Report("r", model="m", cloud_region=f"r{number}", cloud_rtt_ms=ms)
            report.timings_ms.update(total=2.0 * ms, ttft=float(ms))
            found.note(report, 200)

    assert len(found.cells) == MAX_CELLS + 1
    assert sum(cell.counts["requests"] for cell in found.cells.values()) == 3 * MAX_CELLS * 150
    assert len(json.dumps(found.encoded())) < 1_900_000


@pytest.mark.parametrize(
    ("facts", "status", "counted"),
    [
        pytest.param({}, 200, {}, id="well"),
        pytest.param({}, 400, {"rejected": 1}, id="the caller's fault"),
        pytest.param({"cache": "unserved"}, 504, {"rejected": 1, "misses": 1}, id="only-if-cached"),
        pytest.param({"error_code": "upstream_busy"}, 429, {"errors": 1}, id="upstream busy"),
        pytest.param({"error_code": "stream_cut"}, 200, {"errors": 1}, id="broken stream"),
        pytest.param({"error_code": "upstream_timeout"}, 504, {"errors": 1, "timeouts": 1}, id="timeout"),
        pytest.param(
            {"fallbacks": ["m@weur: upstream_timeout"]},
            200,
            {"fallbacks": 1, "timeouts": 1},
            id="late, then another",
        ),
        pytest.param({"cache": "hit", "cache_tier": "memory"}, 200, {"hits_memory": 1}, id="hit"),
        pytest.param({"cache": "bypass"}, 200, {"bypass": 1}, id="not looked up"),
        pytest.param(
            {"served_by": "exact-cache", "failed_status": 502, "hedged": True, "fallbacks": ["m: upstream_error"]},
            200,
            {"hedges": 1, "fallbacks": 1},
            id="stored answer in an outage",
        ),
        pytest.param({"cache": "stale", "cache_tier": "kv"}, 200, {"stale": 1}, id="stale"),
    ],
)
def test_what_counts_as_what(facts: dict[str, Any], status: int, counted: dict[str, int]) -> None:
    """Beside the request itself."""
    cell = Cell()
    cell.note(Report("r", **facts), status)

    assert cell.counts == {"requests": 1, **counted}


def test_failed_requests_have_no_times() -> None:
    """A quick error must not look like a quick answer."""
    cell = Cell()
    cell.note(Report("r", timings_ms={"total": 1.0}, error_code="upstream_error"), 502)
    cell.note(Report("r", timings_ms={"total": 1.0}), 400)

    assert cell.timings == {}


def test_directory() -> None:
    """Knows each location for a day, and so many; the rest share one place."""
    directory = Directory(MemorySql())
    places = [directory.enroll(f"C{number:03}", START_S) for number in range(MAX_COLOS + 5)]

    assert places[-1] == "other"
    assert len(directory.colos(START_S)) == MAX_COLOS
    assert directory.enroll("C000", START_S) == "C000"
    assert directory.colos(START_S + KEEP_S + 1) == []

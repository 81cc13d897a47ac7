"""Points of Analytics Engine: the documented columns, and the documented queries on them."""

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge_router.location import Location
from edge_router.metrics.points import BLOBS, DOUBLES, MAX_INDEX_BYTES, MAX_TOGETHER, PointRecorder, data_point
from edge_router.report import Report
from tests.fakes import CollectingBackground, FakeClock

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "telemetry.md").read_text()


def queries() -> list[str]:
    return re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)


def asked(colo: str = "CDG", **facts: Any) -> Report:
    timings_ms = {"total": facts.pop("total_ms", 100.0)}
    if "ttft_ms" in facts:
        timings_ms["ttft"] = facts.pop("ttft_ms")
    location = Location(colo, 12.5, "FR", "EU", True, 48.9, 2.3)
    return Report("r", location, is_asking=True, timings_ms=timings_ms, **facts)


def test_columns_in_the_docs() -> None:
    """The table tells each column at its place, and no other."""
    cells = re.findall(r"`(blob|double)(\d+)` \| ([^|]*?) \|", PAGE)

    assert [what for kind, _, what in cells if kind == "blob"] == list(BLOBS)
    assert [what for kind, _, what in cells if kind == "double"] == list(DOUBLES)
    for kind, most in (("blob", 20), ("double", 20)):  # the platform's limits
        numbers = [int(number) for each, number, _ in cells if each == kind]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) <= most


def test_point() -> None:
    """Every value at its place; what is unknown is empty or 0."""
    report = asked(
        served_by="cloud",
        model="m1",
        route_reason="pinned",
        cloud_region="weur",
        cloud_rtt_ms=9.5,
        cache="miss",
        total_ms=1000.0,
        ttft_ms=500.0,
        cost_usd=0.25,
        input_tokens=7,
        output_tokens=51,
        fallbacks=["m1@wnam: upstream_timeout"],
        hedged=True,
    )

    assert data_point(report, "acme", 200) == {
        "indexes": ["acme"],
        "blobs": ["CDG", "cloud", "m1", "pinned", "weur", "miss", "200", "", "", ""],
        "doubles": [1000, 500, 12.5, 0.25, 0, 9.5, 7, 51, 0, 100, 0, 1, 1, 1, 1],
    }


def test_long_tenant() -> None:
    """Is cut to what the index takes, between two characters."""
    (index,) = data_point(asked(), "é" * 60, 200)["indexes"]

    assert index == "é" * 48
    assert len(index.encode()) <= MAX_INDEX_BYTES


@dataclass(slots=True)
class FakePoints:
    """Batches, as they were written."""

    batches: list[list[Mapping[str, Any]]] = field(default_factory=list)

    def write(self, points: Sequence[Mapping[str, Any]]) -> None:
        self.batches.append(list(points))


async def test_recording() -> None:
    """Points are written together behind the responses, never more at once than the platform takes."""
    points, background = FakePoints(), CollectingBackground()
    recorder = PointRecorder(points, FakeClock(), flush_after_s=0)
    for number in range(MAX_TOGETHER + 3):
        recorder.record(asked(total_ms=float(number)), background, tenant="acme", status=200)
    assert [len(batch) for batch in points.batches] == [MAX_TOGETHER]
    await background.finish()

    assert [len(batch) for batch in points.batches] == [MAX_TOGETHER, 3]
    written = [point["doubles"][0] for batch in points.batches for point in batch]
    assert written == list(range(MAX_TOGETHER + 3))


async def test_nothing_left_to_write() -> None:
    """When the last point filled a write, the timer of the first one writes none."""
    points, background = FakePoints(), CollectingBackground()
    recorder = PointRecorder(points, FakeClock(), flush_after_s=0)
    for _ in range(MAX_TOGETHER):
        recorder.record(asked(), background, tenant="acme", status=200)
    await background.finish()

    assert [len(batch) for batch in points.batches] == [MAX_TOGETHER]


class WeightedQuantile:
    """`quantileExactWeighted` as an aggregate of SQLite: (share, value, weight)."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, float]] = []
        self._share = 0.0

    def step(self, share: float, value: float, weight: float) -> None:
        self._share = share
        self._rows.append((value, weight))

    def finalize(self) -> float:
        limit = self._share * sum(weight for _, weight in self._rows)
        seen = 0.0
        for value, weight in sorted(self._rows):
            seen += weight
            if seen >= limit:
                return value
        raise AssertionError


@pytest.fixture
def dataset() -> Iterator[sqlite3.Connection]:
    """The dataset as a table; each point stands for two, as if it had been sampled."""
    blobs = [f"blob{number} TEXT" for number in range(1, len(BLOBS) + 1)]
    doubles = [f"double{number} REAL" for number in range(1, len(DOUBLES) + 1)]
    columns = ", ".join(["index1 TEXT", *blobs, *doubles, "_sample_interval REAL", "timestamp REAL"])
    database = sqlite3.connect(":memory:")
    database.row_factory = sqlite3.Row
    database.execute(f"CREATE TABLE nearside_requests ({columns})")
    database.create_aggregate("quantileExactWeighted", 3, WeightedQuantile)  # type: ignore[arg-type]
    yield database
    database.close()


def fill(database: sqlite3.Connection, *records: tuple[Report, str, int]) -> None:
    for record in records:
        point = data_point(*record)
        row = [*point["indexes"], *point["blobs"], *point["doubles"], 2.0, 1.0]
        database.execute(f"INSERT INTO nearside_requests VALUES ({', '.join('?' * len(row))})", row)


def run(database: sqlite3.Connection, *naming: str) -> list[Mapping[str, Any]]:
    """The documented query that has these columns, in SQLite's dialect."""
    (query,) = [each for each in queries() if all(re.search(rf"AS {name}\b", each) for name in naming)]
    query = re.sub(r"quantileExactWeighted\(([\d.]+)\)\(", r"quantileExactWeighted(\1, ", query)
    query = re.sub(r"NOW\(\) - INTERVAL '\d+' \w+", "0", query).replace("IF(", "IIF(")
    return [dict(row) for row in database.execute(query)]


@pytest.mark.parametrize("naming", ["colo", "route"])
def test_latency_queries(dataset: sqlite3.Connection, naming: str) -> None:
    """Percentiles of what was answered, most requests first."""
    fill(dataset, *((asked(route_reason="CDG", total_ms=float(ms)), "acme", 200) for ms in range(1, 101)))
    fill(dataset, (asked("NRT", route_reason="NRT", total_ms=9.0), "acme", 200))
    fill(dataset, (asked(total_ms=9999.0, error_code="upstream_error"), "acme", 502))
    rows = run(dataset, naming, "p95_ms")

    assert [tuple(row.values()) for row in rows] == [("CDG", 200, 50, 95, 99), ("NRT", 2, 9, 9, 9)]


def test_ttft_query(dataset: sqlite3.Connection) -> None:
    """By model, of streams."""
    fill(dataset, (asked(model="m1", ttft_ms=80.0), "acme", 200), (asked(model="m1"), "acme", 200))

    assert run(dataset, "streams") == [{"model": "m1", "streams": 2, "p50_ms": 80, "p95_ms": 80, "p99_ms": 80}]


def test_hit_rate_query(dataset: sqlite3.Connection) -> None:
    """Of the look-ups, by tier."""
    fill(dataset, (asked(cache="hit", cache_tier="memory"), "acme", 200))
    fill(dataset, (asked(cache="hit", cache_tier="kv"), "acme", 200))
    fill(dataset, *((asked(cache="miss"), "acme", 200) for _ in range(2)))
    fill(dataset, (asked(cache="bypass"), "acme", 200))

    assert run(dataset, "lookups") == [{"lookups": 8, "hit_rate": 0.5, "memory": 0.25, "kv": 0.25, "semantic": 0}]


def test_error_query(dataset: sqlite3.Connection) -> None:
    """Errors that are ours, also of streams that had begun well; timeouts whoever answered then."""
    fill(dataset, *((asked(), "acme", 200) for _ in range(6)))
    fill(dataset, (asked(error_code="stream_cut"), "acme", 200))
    fill(dataset, (asked(fallbacks=["m@weur: upstream_timeout"]), "acme", 200))

    assert run(dataset, "error_rate") == [{"colo": "CDG", "requests": 16, "error_rate": 0.125, "timeout_rate": 0.125}]


def test_cost_query(dataset: sqlite3.Connection) -> None:
    """By tenant, the dearest first."""
    fill(dataset, (asked(cost_usd=0.5, input_tokens=3, output_tokens=4), "acme", 200))
    fill(dataset, (asked(cost_usd=0.75), "zeta", 200), (asked(cost_avoided_usd=0.25), "acme", 200))

    assert run(dataset, "cost_usd") == [
        {"tenant": "zeta", "requests": 2, "cost_usd": 1.5, "avoided_usd": 0, "tokens": 0},
        {"tenant": "acme", "requests": 4, "cost_usd": 1.0, "avoided_usd": 0.5, "tokens": 14},
    ]

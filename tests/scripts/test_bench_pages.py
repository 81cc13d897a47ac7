"""The tables and pictures of scripts/bench, from samples."""

from pathlib import Path
from typing import Any

import pytest

from scripts.benchmarks import plots
from scripts.benchmarks.cold_start import cold_start_tables
from scripts.benchmarks.comparison import comparison_tables, long_enough_s, ratio_between
from scripts.benchmarks.figures import Figure, fit_power
from scripts.benchmarks.gateways import all_gateways
from scripts.benchmarks.growth import growth_tables
from scripts.benchmarks.memory import KINDS, memory_tables

Row = dict[str, Any]
STREAM = {"ttft_p50_ms": 201.0, "ttft_p99_ms": 205.0, "total_p50_ms": 700.0}


def load(rate: float) -> dict[str, float]:
    return {"requests_per_s": rate, "p50_ms": 1.0, "p99_ms": 2.0, "cpu_ms": 1000 / rate, "rss_mib": 100.0}


def row(says: str, kind: str, rate: float, **more: Any) -> Row:
    loads = {f"{kind}-{count}": [load(rate)] * 3 for count in (1, 16)}
    return {"says": says, "version": "1", "why_no_hit": "", "loads": loads, "streams": {}, "notes": [], **more}


@pytest.fixture
def compared() -> Row:
    rows = {
        "nearside": row("Nearside", "plain", 700.0, streams={"paced-8": [STREAM]}),
        "litellm": row("LiteLLM", "plain", 100.0, notes=["streams fail: 8 at once"]),
        "portkey-node": row("Portkey", "plain", 10.0, loads={}, missing="npm failed", why_no_hit="none"),
    }
    return {"pace": {"tokens": 50, "ttft_ms": 200, "gap_ms": 10}, "at_once": [8], "rows": rows}


def test_comparison_says_whether_goals_are_held(compared: Row) -> None:
    """And by how much, from the figures of the same run."""
    page = comparison_tables(compared)

    assert "**7.00 (7.00–7.00) times** the plain calls a second of LiteLLM; the goal is 6: held" in page


def test_slow_gateways_are_loaded_for_longer() -> None:
    """Up to a bound, so that the whole ends in time."""
    assert [long_enough_s(p50_ms) for p50_ms in (2.0, 230.0, 5000.0)] == [1, 5, 8]


def test_goals_beside_the_floors() -> None:
    """CPU against the forwarder's, hits against the hello's, a stream's first token against the upstream's."""
    slow = {**STREAM, "ttft_p50_ms": 204.0, "ttft_p99_ms": 225.0}
    own = row("Nearside", "plain", 500.0, streams={"paced-8": [slow]})
    own["loads"]["hit-16"] = [load(900.0)]
    rows = {
        "upstream": row("upstream", "plain", 9000.0, streams={"paced-8": [STREAM]}),
        "python-hello-sdk": row("Python hello", "plain", 1000.0),
        "python-forwarder": row("Python forwarder", "plain", 600.0),
        "nearside": own,
    }

    page = comparison_tables({"pace": {"tokens": 50, "ttft_ms": 200, "gap_ms": 10}, "at_once": [8], "rows": rows})

    assert "Cache hits: **0.90 (0.90–0.90)** of Python hello's requests/s; the goal is 0.7: held" in page
    assert (
        "CPU of a plain call: **1.20 (1.20–1.20) times** the Python forwarder's; the goal is at most 1.25: held" in page
    )
    assert "p50 **3.0 ms**, p99 **20.0 ms**; the goal is at most 5 and 15 ms: **missed**" in page


def test_goal_that_is_missed_is_said_to_be(compared: Row) -> None:
    compared["rows"]["litellm"] = row("LiteLLM", "plain", 350.0)

    assert "the goal is 6: **missed**" in comparison_tables(compared)


def test_gateways_that_were_not_measured_are_named(compared: Row) -> None:
    """One that did not install, one that can't stream, and one without a cache: each with its reason."""
    page = comparison_tables(compared)

    assert "- Portkey (1): npm failed" in page
    assert "- LiteLLM: – (streams fail: 8 at once)" in page
    assert "- Portkey: – (none)" in page
    assert "| Nearside | 201.0 / 205.0, 700 |" in page


def test_ratio_of_what_was_not_measured(compared: Row) -> None:
    assert ratio_between(compared["rows"], "nearside", "portkey-node", "plain-16", "plain-16") is None
    assert ratio_between(compared["rows"], "nearside", "litellm", "plain-1", "plain-1") == Figure(7.0, 7.0, 7.0)


def test_every_gateway_says_why_it_has_no_hits() -> None:
    """A dash without a reason would be a silent gap."""
    assert [gateway.name for gateway in all_gateways() if gateway.hit is None and not gateway.why_no_hit] == []


def test_cold_start() -> None:
    rows = {
        "nearside": {"says": "Nearside", "version": "1", "starts": [{"seconds": 3.0, "cpu_s": 2.5}], "missing": None},
        "litellm": {"says": "LiteLLM", "version": "1", "starts": [], "missing": "did not start"},
    }

    imports = {"whole_ms": [310.0], "modules": {"entry": [20.0], "pydantic": [40.0], "pydantic.main": [50.0]}}

    page = cold_start_tables({"rows": rows, "bundle": {"kib": 6000.0, "gzip_kib": 2000.0}, "imports": imports})

    assert "| Nearside | 1 | 3.00 (3.00–3.00) | 2.50 (2.50–2.50) |" in page
    assert "| LiteLLM | 1 | – (did not start) | – |" in page
    assert "held (1.95 MiB)" in page
    assert "**All at once: 310 (310–310) ms**; the goal is at most 300: **missed**." in page
    assert "Sum of the 3 modules: 110 ms" in page
    assert "| `pydantic` | 2 | 90.0 |" in page
    assert page.index("| `pydantic.main` |") < page.index("| `entry` | 20.0 (")


@pytest.mark.parametrize(
    ("power", "slope"),
    [pytest.param(0, 0, id="constant"), pytest.param(1, 1, id="linear"), pytest.param(2, 2, id="quadratic")],
)
def test_fit_power(power: int, slope: float) -> None:
    """An exact power is found again."""
    fit = fit_power([(x, 3 * x**power) for x in (1.0, 10.0, 100.0)])

    assert (fit.slope, fit.r2) == pytest.approx((slope, 1.0))


def grown(power: int) -> Row:
    points = [{"size": x, "cpu_ms": float(x**power), "requests_per_s": 10.0} for x in (1, 10, 100)]
    return {"series": [{"name": "a", "says": "a call", "unit": "bytes", "points": points}] * 2}


def test_growth_names_what_is_worse_than_linear() -> None:
    assert "| 2.00 | 1.00 | **yes** |" in growth_tables(grown(2))
    assert "| 1.00 | 1.00 | no |" in growth_tables(grown(1))


def held(requests: int, wasm_mib: float) -> Row:
    return {
        "requests": requests, "wasm_mib": wasm_mib, "js_heap_mib": 10.0, "total_mib": wasm_mib + 10.0,
        "js_references": 100, "python_objects": 1000, "rss_mib": 300.0,
    }  # fmt: skip


@pytest.mark.parametrize(("wasm_mib", "verdict"), [(60.0, "held"), (95.0, "**missed**")])
def test_memory(wasm_mib: float, verdict: str) -> None:
    """The most that was seen is held against the goal."""
    points = [held(0, 50.0), held(500, wasm_mib), held(1000, wasm_mib)]

    page = memory_tables({"requests": 1000, "kinds": KINDS, "points": points})

    assert f"**{wasm_mib + 10:.1f} MiB** of 128; the goal is under 100: {verdict}." in page


def test_plots(tmp_path: Path, compared: Row) -> None:
    """Pictures for the pages; the same samples make the same file."""
    compared["rows"]["hits"] = row("Hits", "hit", 10.0)
    plots.comparison(compared, tmp_path / "a.svg")
    plots.comparison(compared, tmp_path / "b.svg")
    plots.growth(grown(1), tmp_path / "c.svg")
    plots.memory({"points": [held(0, 50.0)]}, tmp_path / "d.svg")

    assert (tmp_path / "a.svg").read_text() == (tmp_path / "b.svg").read_text()
    assert all("<svg" in path.read_text() for path in tmp_path.iterdir())

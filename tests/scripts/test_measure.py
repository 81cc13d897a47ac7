"""scripts/measure and its figures, against a server in this process."""

import json
from pathlib import Path

import httpx
import pytest

from edge_router.client import Completion
from scripts.measuring.__main__ import main
from scripts.measuring.figures import figures
from tests.edge_router.client.server import events, refused, streamed


def test_figures_of_known_runs() -> None:
    """Averages and nearest-rank percentiles of the sequential runs; the speed-up of the whole."""
    done = [Completion(ttft_s=0.1 * run, total_s=0.2 * run) for run in range(1, 11)]

    found = figures("m", done, concurrency=5, runs=10, sequential_s=11.0, parallel_s=2.2, errors={})

    assert found.ttft is not None
    assert found.total is not None
    assert found.ttft.avg_s == pytest.approx(0.55)
    assert (found.ttft.p50_s, found.total.p95_s) == (0.5, 2.0)
    assert found.speed_up == pytest.approx(5.0)


def test_speed_up_of_failed_runs_is_unknown() -> None:
    found = figures("m", [], concurrency=1, runs=1, sequential_s=1.0, parallel_s=0.1, errors={"upstream_busy": 2})

    assert (found.speed_up, found.ttft) == (None, None)


def test_models_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each model sequentially and in parallel, past the caches; figures, picture and table."""
    asked: list[tuple[str, str | None]] = []

    def server(request: httpx.Request) -> httpx.Response:
        asked.append((json.loads(request.content)["model"], request.headers.get("cache-control")))
        return streamed(events("Hi ", "there."))

    options = ["--model", "a", "--model", "b", "--runs", "3", "--json", str(tmp_path / "f.json")]
    code = main([*options, "--plot", str(tmp_path / "f.svg")], transport=httpx.MockTransport(server))

    assert code == 0
    assert asked == [("a", "no-cache, no-store")] * 7 + [("b", "no-cache, no-store")] * 7
    rows = json.loads((tmp_path / "f.json").read_text())
    assert [row["label"] for row in rows] == ["a @ 127.0.0.1:8787", "b @ 127.0.0.1:8787"]
    assert all(row["ttft"]["p95_s"] <= row["total"]["p95_s"] for row in rows)
    assert (tmp_path / "f.svg").read_text().count("a @ 127.0.0.1:8787") >= 1
    assert "measuring: 12 of 12" in capsys.readouterr().err


def test_failed_runs_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """By their code, and the exit code says so."""
    transport = httpx.MockTransport(lambda _: refused(502, "cloud_unavailable"))

    code = main(["--model", "a", "--runs", "2"], transport=transport)

    assert code == 1
    assert "4 of 4 failed: cloud_unavailable" in capsys.readouterr().out


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    def nobody(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    assert main(["--runs", "1"], transport=httpx.MockTransport(nobody)) == 2
    assert "scripts/dev" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x.gif", "x"])
def test_plot_of_unknown_kind(name: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--plot", name])

"""What is built on our own client, on the running gateway with simulated models: measure, warm, the triage example."""

import asyncio
import json
from pathlib import Path

import pytest

from docs.examples.ticket_triage.triage import TICKETS, triage
from scripts.local.stack import Address
from scripts.measuring.__main__ import main as measure
from scripts.warming.__main__ import main as warm
from tests.edge.control import Control, easy, hard


def test_ticket_triage(stack: Address, control: Control) -> None:
    """One structured call a ticket, not three; a concise prompt costs less; the second time all come from the cache."""
    tickets = len(TICKETS.read_text(encoding="utf-8").splitlines())

    three, verbose, concise, again = asyncio.run(triage(stack.url, None, 5))

    assert tickets == 20
    assert [way.calls for way in (three, verbose, concise, again)] == [60, 20, 20, 20]
    assert not any(way.failed for way in (three, verbose, concise, again))
    assert concise.input_tokens < verbose.input_tokens
    assert concise.cost_usd < verbose.cost_usd
    assert (again.hits, again.cost_usd) == (20, 0.0)
    assert again.cost_avoided_usd == pytest.approx(concise.cost_usd)
    assert sum(again.categories.values()) == tickets


def test_measure(stack: Address, tmp_path: Path) -> None:
    """Both sides, n runs each; the caches are passed over, so every run reached a model."""
    options = ["--url", stack.url, "--runs", "4", "--concurrency", "4", "--max-tokens", "8"]

    code = measure([*options, "--json", str(tmp_path / "figures.json"), "--plot", str(tmp_path / "figures.png")])

    edge, cloud = json.loads((tmp_path / "figures.json").read_text())
    assert code == 0
    assert (edge["label"].split()[0], cloud["label"].split()[0]) == ("edge", "cloud")
    assert all(0 < one["ttft"]["p50_s"] <= one["total"]["p95_s"] and one["speed_up"] for one in (edge, cloud))
    assert (tmp_path / "figures.png").read_bytes().startswith(b"\x89PNG")


def test_warm(stack: Address, control: Control, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run asks no model; the first run asks one for each line, and the second none."""
    path = tmp_path / "faq.jsonl"
    path.write_text("".join(json.dumps({"prompt": ask()}) + "\n" for ask in (easy, hard, easy, hard)))

    def asked() -> int:
        counters = control.counters()
        return sum([counters["ai"], *counters["cloud"].values()])

    assert warm([str(path), "--url", stack.url, "--dry-run"]) == 0
    assert asked() == 0
    assert "at most" in capsys.readouterr().out
    assert warm([str(path), "--url", stack.url]) == 0
    assert "0 were in the cache, 4 are new" in capsys.readouterr().out
    before = asked()
    assert warm([str(path), "--url", stack.url]) == 0
    assert "4 were in the cache, 0 are new" in capsys.readouterr().out
    assert asked() == before >= 4

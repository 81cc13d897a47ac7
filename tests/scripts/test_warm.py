"""scripts/warm as a user runs it, against a gateway in this process."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from scripts.warming.__main__ import main
from scripts.warming.lines import Line, most_usd, read_lines

PRICES = {"input_usd_per_million": 1.0, "output_usd_per_million": 10.0}


def gateway(stored: set[str]) -> Callable[[httpx.Request], httpx.Response]:
    """Answers from `stored` what is in it, and puts the rest there."""

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        question = body["messages"][-1]["content"]
        if request.url.path == "/v1/route":
            return httpx.Response(200, json={"model": "m", "candidates": [{"model": "m", **PRICES}]})
        if question == "bad":
            error = {"message": "No.", "type": "invalid_request_error", "code": "invalid_value", "param": None}
            return httpx.Response(400, json={"error": error})
        is_hit = question in stored
        stored.add(question)
        status = "bypass" if body.get("temperature") else "hit" if is_hit else "miss"
        served_by, cost_usd = ("exact-cache", 0.0) if is_hit else ("cloud", 0.5)
        nearside = {"served_by": served_by, "model": "m", "cache": {"status": status}, "cost_usd": cost_usd}
        choice = {"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}
        return httpx.Response(200, json={"choices": [choice], "nearside": nearside})

    return answer


def run(path: Path, stored: set[str], *options: str) -> int:
    return main([str(path), *options], transport=httpx.MockTransport(gateway(stored)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "faq.jsonl"
    path.write_text('{"prompt": "a"}\n\n{"messages": [{"role": "user", "content": "b"}], "max_tokens": 9}\n')
    return path


def test_second_run_finds_what_the_first_stored(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So a run that was stopped goes on where it was."""
    stored: set[str] = set()

    assert run(file, stored) == 0
    assert "2 answered: 0 were in the cache, 2 are new, 1.000000 USD" in capsys.readouterr().out
    assert run(file, stored) == 0
    assert "2 answered: 2 were in the cache, 0 are new, 0.000000 USD" in capsys.readouterr().out


def test_what_failed_is_named_by_its_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Broken lines, refused ones, and answers that are not kept; the others are stored all the same."""
    file.write_text('{"prompt": "a"}\nnonsense\n{"prompt": "bad"}\n{"x": 1}\n{"prompt": "t", "temperature": 1}\n')

    assert run(file, set()) == 1
    printed = capsys.readouterr()
    assert [line.split(": ")[0] for line in printed.err.splitlines() if ".jsonl:" in line] == [
        f"{file}:{number}" for number in (2, 3, 4, 5)
    ]
    assert "invalid_value" in printed.err
    assert "not kept" in printed.err


def test_dry_run_asks_no_model(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prices by the route's first model: estimated input, the longest output there can be."""
    stored: set[str] = set()

    assert run(file, stored, "--dry-run") == 0
    assert stored == set()
    assert "m: 2 lines, at most" in capsys.readouterr().out


def test_price_of_a_line() -> None:
    """One token in at 1 USD a million, nine out at 10."""
    line = Line(1, {"messages": [{"role": "user", "content": "a"}], "max_tokens": 9})

    assert most_usd(line, {"candidates": [PRICES]}) == pytest.approx((line.input_tokens * 1 + 9 * 10) / 1_000_000)
    assert most_usd(line, {"candidates": [{"model": "m"}]}) is None


def test_streams_are_stored_as_plain_answers() -> None:
    """One entry serves both, so `stream` is left out."""
    (line,), broken = read_lines(['{"prompt": "a", "stream": true, "stream_options": {}}'])

    assert (line.body, broken) == ({"messages": [{"role": "user", "content": "a"}]}, [])


@pytest.mark.parametrize("content", ["", "nonsense\n"])
def test_nothing_to_ask(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(content)

    assert run(path, set()) == 2
    assert run(tmp_path / "none", set()) == 2

"""The figures and tables that scripts/ask prints."""

import io

import pytest
from rich.console import Console

from scripts.asking.outcome import Outcome
from scripts.asking.prompts import Prompt
from scripts.asking.summary import ErrorKind, Spread, error_kinds, groups, percentile
from scripts.asking.tables import colos_cell, error_table, latency_table, milliseconds, raw_row


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        pytest.param([7.0], 50, 7.0, id="one value is every percentile"),
        pytest.param([3.0, 1.0, 2.0], 50, 2.0, id="order does not matter"),
        pytest.param([1.0, 2.0, 3.0, 4.0], 50, 2.0, id="a value that was measured, no mean of two"),
        pytest.param([float(i) for i in range(1, 101)], 95, 95.0, id="p95 of 100"),
        pytest.param([float(i) for i in range(1, 11)], 99, 10.0, id="p99 of 10 is the largest"),
    ],
)
def test_percentile(values: list[float], percent: float, expected: float) -> None:
    """Nearest rank: the smallest value that at least so many percent do not exceed."""
    assert percentile(values, percent) == expected


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], 0), ([1.0], 101)])
def test_percentile_of_nothing(values: list[float], percent: float) -> None:
    """No values and an impossible percentage are errors of the caller."""
    with pytest.raises(ValueError):  # noqa: PT011  two messages, one meaning
        percentile(values, percent)


def answered(served_by: str | None, total_s: float = 1.0, **facts: object) -> Outcome:
    return Outcome(status=200, served_by=served_by, total_s=total_s, **facts)  # type: ignore[arg-type]


def test_groups() -> None:
    """One group a place, in the contract's order, and `all`; what failed counts but has no say in the times."""
    outcomes = [
        answered("cloud", 3.0, ttft_s=0.5, colo="SIN"),
        answered("exact-cache", 1.0, ttft_s=0.1, colo="CDG"),
        answered("exact-cache", 2.0, ttft_s=0.2, colo="CDG"),
        answered(None, 99.0, error="timeout"),
    ]

    found = groups(outcomes)

    assert [(group.name, group.count, group.share, group.errors) for group in found] == [
        ("exact-cache", 2, 0.5, 0),
        ("cloud", 1, 0.25, 0),
        ("(nobody)", 1, 0.25, 1),
        ("all", 4, 1.0, 1),
    ]
    assert found[0].total == Spread(1.0, 2.0, 2.0)
    assert found[2].total is None
    assert found[3].ttft == Spread(0.2, 0.5, 0.5)
    assert found[3].colos == ("CDG", "SIN")


def test_error_kinds() -> None:
    """Failures by status and code, the most frequent first, each with a request id to look for."""
    outcomes = [
        answered("cloud"),
        Outcome(error="timeout"),
        Outcome(status=429, error="rate_limited", request_id="req_1"),
        Outcome(status=429, error="rate_limited", request_id="req_2"),
    ]

    assert error_kinds(outcomes) == [
        ErrorKind(429, "rate_limited", 2, "req_2"),
        ErrorKind(None, "timeout", 1, None),
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0"), (0.000_84, "0.84"), (0.012_34, "12.3"), (0.999, "999"), (12.345_6, "12,346")],
)
def test_milliseconds(seconds: float, text: str) -> None:
    """About three significant digits: more than that is noise."""
    assert milliseconds(seconds) == text


def test_many_colos_are_counted() -> None:
    """The table stays narrow when requests were answered all over the world."""
    assert colos_cell(()) == "-"
    assert colos_cell(("AMS", "CDG", "DFW", "GRU", "SIN", "SYD")) == "AMS CDG DFW GRU +2"


def test_tables_fit_a_plain_page() -> None:
    """Every figure is readable in 120 columns."""
    text = io.StringIO()
    console = Console(file=text, width=120)
    outcomes = [answered("semantic-cache", 12.3456, ttft_s=0.1, colo=colo) for colo in ("AMS", "CDG", "DFW", "SIN")]
    outcomes.append(Outcome(status=502, error="cloud_unavailable", request_id="req_" + "0" * 24))

    console.print(latency_table(groups(outcomes)))
    console.print(error_table(error_kinds(outcomes)))

    assert "…" not in text.getvalue()
    assert "12,346" in text.getvalue()
    assert "AMS CDG DFW SIN" in text.getvalue()
    assert "cloud_unavailable" in text.getvalue()


def test_raw_row_keeps_prompts_private() -> None:
    """Texts are written only when they were asked for."""
    prompt, outcome = Prompt(4, "my secret"), answered("cloud", 0.0123456, text="an answer", ttft_s=0.001)

    row = raw_row(prompt, outcome, with_text=False)

    assert (row["line"], row["total_ms"], row["ttft_ms"]) == (4, 12.346, 1.0)
    assert "secret" not in str(row)
    assert "an answer" not in str(row)
    assert raw_row(prompt, outcome, with_text=True)["prompt"] == "my secret"

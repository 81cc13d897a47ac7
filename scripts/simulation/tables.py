"""Results as rows, for the terminal and for docs/simulation.md."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table

COLUMNS = (
    "requests/s",
    "strategies",
    "TTFT p50 / p95 / p99 s",
    "total p50 / p95 / p99 s",
    "hits",
    "edge",
    "cloud",
    "not answered",
    "$ a million",
)


def row(requests_per_s: float, name: str, summary: dict[str, Any]) -> tuple[str, ...]:
    share = summary["share"]
    return (
        f"{requests_per_s:,.0f}",
        name,
        _times(summary["ttft_s"]),
        _times(summary["total_s"]),
        f"{summary['hit_rate']:.1%}",
        f"{share['edge']:.1%}",
        f"{share['cloud']:.1%}",
        f"{share['refused'] + share['broken']:.2%}",
        f"{summary['usd_per_million']:,.0f}",
    )


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return "\n".join([*lines, *("| " + " | ".join(cells) + " |" for cells in rows)])


def terminal(rows: Iterable[Sequence[str]]) -> Table:
    table = Table(*COLUMNS)
    for cells in rows:
        table.add_row(*cells)
    return table


def _times(times: dict[str, float]) -> str:
    return " / ".join(f"{seconds:.2f}" for seconds in times.values())

"""Figures as tables for people, and outcomes as rows for programs. Pure."""

import math
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from scripts.asking.outcome import Outcome
from scripts.asking.prompts import Prompt
from scripts.asking.summary import ErrorKind, Group, Spread

COLOS_SHOWN = 4
ABSENT = "-"


def latency_table(groups: Sequence[Group]) -> Table:
    table = _table("served by", title="Time at the client, in ms, of whole answers")
    for heading in ("count", "share", "TTFT p50", "p95", "p99", "total p50", "p95", "p99"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("colos")
    table.add_column("errors", justify="right", no_wrap=True)
    for group in groups:
        table.add_row(
            group.name,
            f"{group.count:,}",
            f"{group.share:.1%}",
            *_spread_cells(group.ttft),
            *_spread_cells(group.total),
            colos_cell(group.colos),
            f"{group.errors:,}",
        )
    return table


def cost_table(groups: Sequence[Group]) -> Table:
    table = _table("served by", title="Tokens and cost, as the gateway reports them")
    for heading in ("tokens in", "tokens out", "cost USD", "avoided USD"):
        table.add_column(heading, justify="right", no_wrap=True)
    for group in groups:
        table.add_row(
            group.name,
            f"{group.input_tokens:,}",
            f"{group.output_tokens:,}",
            f"{group.cost_usd:.6f}",
            f"{group.cost_avoided_usd:.6f}",
        )
    return table


def error_table(kinds: Sequence[ErrorKind]) -> Table:
    table = _table("status", title="Errors")
    table.add_column("code", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("one request id")
    for kind in kinds:
        status = ABSENT if kind.status is None else str(kind.status)
        table.add_row(status, kind.code, f"{kind.count:,}", kind.request_id or ABSENT)
    return table


def raw_row(prompt: Prompt, outcome: Outcome, *, with_text: bool) -> dict[str, Any]:
    """One request as JSON-like data. Texts only when asked for: prompts are private."""
    row: dict[str, Any] = {
        "line": prompt.line,
        "status": outcome.status,
        "error": outcome.error,
        "served_by": outcome.served_by,
        "colo": outcome.colo,
        "model": outcome.model,
        "ttft_ms": None if outcome.ttft_s is None else round(outcome.ttft_s * 1000, 3),
        "total_ms": round(outcome.total_s * 1000, 3),
        "finish_reason": outcome.finish_reason,
        "input_tokens": outcome.input_tokens,
        "output_tokens": outcome.output_tokens,
        "request_id": outcome.request_id,
        "nearside": dict(outcome.nearside),
    }
    if with_text:
        row |= {"prompt": prompt.text, "answer": outcome.text}
    return row


def colos_cell(colos: Sequence[str]) -> str:
    if len(colos) <= COLOS_SHOWN:
        return " ".join(colos) or ABSENT
    return f"{' '.join(colos[:COLOS_SHOWN])} +{len(colos) - COLOS_SHOWN}"


def milliseconds(seconds: float) -> str:
    """Three significant digits below a second, whole milliseconds above."""
    ms = seconds * 1000
    decimals = 0 if ms <= 0 else max(0, 2 - math.floor(math.log10(ms)))
    return f"{ms:,.{min(decimals, 2)}f}"


def _spread_cells(spread: Spread | None) -> tuple[str, str, str]:
    if spread is None:
        return ABSENT, ABSENT, ABSENT
    return milliseconds(spread.p50_s), milliseconds(spread.p95_s), milliseconds(spread.p99_s)


def _table(first: str, *, title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    return table

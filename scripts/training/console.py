"""What both commands share: reading a file with a count of its broken lines, a progress bar, a table of figures."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from scripts.training.metrics import Quality
from scripts.training.rows import BrokenLine, Row, read_rows

LINES_NAMED = 10
PLAIN_WIDTH = 120  # where no terminal says how wide it is


class CannotRun(Exception):
    """Nothing could be done; the message says what to do."""


def console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else PLAIN_WIDTH)


def progress(on: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=on
    )


def rows_of(path: Path, on: Console) -> list[Row]:
    """Broken lines are skipped, counted and named on the console.

    Raises CannotRun when the file cannot be read or has no row.
    """
    rows: list[Row] = []
    broken: list[BrokenLine] = []
    try:
        for item in read_rows(path):
            if isinstance(item, Row):
                rows.append(item)
            else:
                broken.append(item)
    except (OSError, EOFError) as exc:
        raise CannotRun(f"cannot read {path}: {getattr(exc, 'strerror', None) or exc}") from exc
    for line in broken[:LINES_NAMED]:
        on.print(f"{path}:{line.number}: skipped: {line.problem}", style="yellow", highlight=False, soft_wrap=True)
    if len(broken) > LINES_NAMED:
        on.print(f"{path}: and {len(broken) - LINES_NAMED:,} more skipped", style="yellow", highlight=False)
    if not rows:
        raise CannotRun(f"{path} has no usable row; each line must be a JSON object with a prompt")
    return rows


def quality_table(title: str, found: Mapping[str, Quality], baselines: Mapping[str, Mapping[str, float]]) -> Table:
    """baselines: name to APGR by group."""
    table = Table(title=title, title_justify="left")
    table.add_column("prompts of")
    for heading in ("n", "APGR", "95 % CI", "CPT 50 %", "CPT 80 %", *baselines):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, row in quality_cells(found, baselines):
        table.add_row(name, *row)
    return table


def quality_cells(
    found: Mapping[str, Quality], baselines: Mapping[str, Mapping[str, float]]
) -> list[tuple[str, Sequence[str]]]:
    return [
        (
            name,
            [
                f"{quality.count:,}",
                f"{quality.apgr:.3f}",
                f"{quality.low:.3f} – {quality.high:.3f}",
                f"{quality.cpt50:.1f} %",
                f"{quality.cpt80:.1f} %",
                *[f"{areas[name]:.3f}" if name in areas else "-" for areas in baselines.values()],
            ],
        )
        for name, quality in found.items()
    ]

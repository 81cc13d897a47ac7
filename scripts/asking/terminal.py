"""What the commands that ask a gateway show while they run, and how they read numbers."""

import argparse
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_WIDTH = 120  # where no terminal says how wide it is


class Counter:
    """A progress bar on a terminal; elsewhere a line at every tenth. verb: as `asking`."""

    def __init__(self, verb: str, total: int, console: Console) -> None:
        self._verb = verb
        self._total = total
        self._console = console
        self._done = 0
        self._failed = 0
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (
                TextColumn(verb),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[failed]}"),
            )
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task(verb, total=total, failed="")

    def __enter__(self) -> "Counter":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, *, failed: bool) -> None:
        self._done += 1
        self._failed += failed
        errors = f"{self._failed} failed" if self._failed else ""
        if self._bar is not None:
            self._bar.update(self._task, advance=1, failed=errors)
        elif self._done * 10 // self._total > (self._done - 1) * 10 // self._total:
            line = f"{self._verb}: {self._done} of {self._total}{', ' if errors else ''}{errors}"
            self._console.print(line, markup=False, highlight=False)


def terminal(*, stderr: bool) -> Console:
    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=None if is_terminal else PLAIN_WIDTH)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number

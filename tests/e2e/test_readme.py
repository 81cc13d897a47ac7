"""Every command of the README, run as it stands there."""

import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.dev import ROOT, Dev

README = (ROOT / "README.md").read_text()
# Measure for minutes or hours: that they are there, and what they say of themselves, is all that is tried.
MEASURING = tuple(
    f"scripts/{name}"
    for name in ("bench", "chaos", "soak", "faults", "train_router", "batch_load", "simulate", "first_answer")
)


def commands() -> list[str]:
    """Of all shell blocks, comments left out: lines of `sh`, and those that begin with `$` of `console`."""
    found: list[str] = []
    for kind, block in re.findall(r"^```(sh|console)\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        lines = [line for line in block.splitlines() if line.strip()]
        found += [line.split(" #")[0].strip() for line in lines] if kind == "sh" else []
        found += [line.removeprefix("$ ") for line in lines if line.startswith("$ ")] if kind == "console" else []
    return found


@pytest.fixture(scope="module")
def dev() -> Iterator[Dev]:
    running = Dev()
    yield running
    running.stop(signal.SIGTERM)


def test_there_are_commands() -> None:
    """What the tests below are about."""
    assert len(commands()) >= 5
    assert "scripts/dev" in commands()


@pytest.mark.workerd
@pytest.mark.timeout(300)
@pytest.mark.parametrize("command", commands())
def test_command(command: str, dev: Dev, tmp_path: Path) -> None:
    """Ends well, with this run's address, key and files in place of the README's."""
    if command == "scripts/dev":
        assert dev.process.poll() is None  # it is what all others are asked against
        return
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "What is a readme?"}\n')
    command = command.replace("8787", str(dev.port)).replace("nsk_…", dev.key).replace("prompts.jsonl", str(prompts))
    if command.startswith(MEASURING):
        command = command.split()[0] + " --help"
    elif command == "scripts/test":
        command += " tests/test_forge.py"
    elif (
        command.startswith(("scripts/ask", "scripts/keys", "scripts/warm", "scripts/measure"))
        and dev.url not in command
    ):
        command += f" --url {shlex.quote(dev.url)}"

    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=280
    )

    assert done.returncode == 0, done.stdout + done.stderr
    if command.startswith("curl"):
        assert "200 OK" in done.stdout
        assert "nearside-colo: " in done.stdout


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?://|#)([^)#]+)", README))))
def test_link(link: str) -> None:
    """Leads somewhere."""
    assert (ROOT / link).exists()

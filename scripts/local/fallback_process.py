"""cloud_fallback as processes of its own, for tests and benchmarks."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.local.ports import free_port
from scripts.local.worker_spec import ROOT

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class FallbackProcess:
    """A running service; with several workers `process` is their parent."""

    url: str
    process: "subprocess.Popen[bytes]"

    def get(self, path: str) -> tuple[int, str]:
        """Status and body. Raises OSError when nobody listens."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read().decode()

    def begin_to_end(self) -> None:
        self.process.send_signal(signal.SIGTERM)


@contextlib.contextmanager
def running_fallback(
    upstream_url: str, *, workers: int = 1, port: int = 0, env: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[FallbackProcess]:
    """Open to everyone unless `env` says otherwise, ready, and gone at the end. port: 0 picks a free one."""
    port = port or free_port()
    settings = {"CLOUD_UPSTREAM_URL": upstream_url, "FALLBACK_AUTH": "open", "CLOUD_DRAIN_S": "2", **(env or {})}
    command = [sys.executable, "-m", "cloud_fallback", "--port", str(port), "--workers", str(workers)]
    with contextlib.ExitStack() as stack:
        stderr = stack.enter_context(log.open("ab")) if log is not None else subprocess.DEVNULL
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **settings}, stdout=stderr, stderr=stderr, start_new_session=True
        )
        service = FallbackProcess(f"http://127.0.0.1:{port}", process)
        try:
            _wait_until_ready(service)
            yield service
        finally:
            _stop(process)


def _wait_until_ready(service: FallbackProcess) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if service.process.poll() is not None:
            raise RuntimeError(f"cloud_fallback ended with exit code {service.process.returncode}")
        with contextlib.suppress(OSError):
            if service.get("/ready")[0] == 200:
                return
        time.sleep(0.05)
    raise RuntimeError(f"cloud_fallback was not ready within {START_TIMEOUT_S:g} s")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)

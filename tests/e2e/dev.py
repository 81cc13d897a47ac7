"""A running `scripts/dev`, as a user starts it."""

import os
import re
import signal
import subprocess
import time
import uuid
from pathlib import Path

from scripts.local.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]


class Dev:
    """A running `scripts/dev` and what it printed."""

    def __init__(self, *arguments: str) -> None:
        self.mark = f"NEARSIDE_TEST={uuid.uuid4()}"
        self.port, _ = free_ports(2)  # the second is the control port
        name, value = self.mark.split("=")
        self.started_s = time.monotonic()
        self.process = subprocess.Popen(
            [str(ROOT / "scripts" / "dev"), "--port", str(self.port), *arguments],
            env={**os.environ, name: value},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self.output = ""
        for line in self.process.stdout:
            self.output += line
            if "Ctrl-C" in line:
                break
        self.ready_after_s = time.monotonic() - self.started_s

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def processes(self) -> list[str]:
        """Command lines of everything that this run has started and that still lives."""
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self.mark.encode() in environ.read_bytes():
                    command = (environ.parent / "cmdline").read_bytes()
                    if command:  # a zombie has none
                        found.append(command.replace(b"\0", b" ").decode())
            except OSError:
                continue  # ended while we looked
        return found

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        """That it printed."""
        found = re.search(r"nsk_\w+", self.output)
        assert found is not None, self.output
        return found.group()

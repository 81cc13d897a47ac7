"""`scripts/dev` as a user starts it: one command, a key, a curl example that works, and no process left."""

import os
import re
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
READY_S = 60.0


class Dev:
    """A running `scripts/dev` and what it printed."""

    def __init__(self, *arguments: str) -> None:
        self.mark = f"NEARSIDE_TEST={uuid.uuid4()}"
        self.port = _free_port_pair()
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


@pytest.fixture(scope="module")
def dev() -> Iterator[Dev]:
    running = Dev()
    yield running
    if running.process.poll() is None:
        running.stop(signal.SIGTERM)


@pytest.mark.workerd
@pytest.mark.timeout(180)
class TestDev:
    """In order: what a user does in the first minutes."""

    def test_is_ready_soon(self, dev: Dev) -> None:
        """A start with everything set up answers within the time that the README states."""
        assert dev.process.poll() is None, dev.output
        assert httpx.get(f"http://127.0.0.1:{dev.port}/health").status_code == 200
        assert dev.ready_after_s < READY_S

    def test_printed_curl_command_works(self, dev: Dev) -> None:
        """Copied and pasted, it is answered by the edge model."""
        command = dev.output[dev.output.index("curl -i") : dev.output.index("Stop with")]

        answer = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True).stdout

        assert "HTTP/1.1 200" in answer
        assert "nearside-served-by: edge-model" in answer
        assert "nearside-colo:" in answer
        assert "nearside-client-rtt-ms:" in answer

    def test_nobody_gets_in_without_a_key(self, dev: Dev) -> None:
        """No key and a wrong key are both refused, in OpenAI's words."""
        url = f"http://127.0.0.1:{dev.port}/v1/models"

        for headers in ({}, {"authorization": "Bearer nsk_abcd_" + "0" * 32}, {"authorization": "Bearer sk-other"}):
            response = httpx.get(url, headers=headers)
            assert response.status_code == 401
            assert response.json()["error"]["type"] == "invalid_request_error"
            assert response.headers["www-authenticate"] == "Bearer"

    def test_key_lets_in_and_the_cloud_answers(self, dev: Dev) -> None:
        """A complex question goes to the nearest region, streamed."""
        key = re.search(r"nsk_\w+", dev.output)
        assert key is not None
        body = {"messages": [{"role": "user", "content": "Write code that draws the tides"}], "stream": True}

        response = httpx.post(
            f"http://127.0.0.1:{dev.port}/v1/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {key.group()}"},
        )

        assert response.headers["nearside-served-by"] == "cloud"
        assert response.headers["nearside-cloud-region"]
        assert response.text.endswith("data: [DONE]\n\n")

    def test_same_question_is_answered_from_memory(self, dev: Dev) -> None:
        """The second time the isolate itself knows the answer, and the store is not asked."""
        key = re.search(r"nsk_\w+", dev.output)
        assert key is not None
        headers = {"authorization": f"Bearer {key.group()}"}
        body = {"messages": [{"role": "user", "content": "What is a memory?"}]}
        url = f"http://127.0.0.1:{dev.port}/v1/chat/completions"
        httpx.post(url, json=body, headers=headers)
        control = f"http://127.0.0.1:{dev.port + 1}"
        httpx.post(f"{control}/reset", json={})

        response = httpx.post(url, json=body, headers=headers)

        assert response.headers["cache-status"].endswith("detail=memory")
        assert httpx.get(f"{control}/counters").json()["kv"] == 0

    @pytest.mark.parametrize("number", [signal.SIGINT])
    def test_stops_without_a_trace(self, dev: Dev, number: signal.Signals) -> None:
        """After Ctrl-C nothing that it started is left, and its ports are free."""
        assert len(dev.processes()) >= 5

        code = dev.stop(number)

        assert code == 0
        assert dev.processes() == []
        for port in (dev.port, dev.port + 1):
            with socket.socket() as probe:
                probe.setsockopt(
                    socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
                )  # closed connections linger, listeners do not
                probe.bind(("127.0.0.1", port))
                probe.listen()


def test_wrong_option_is_explained() -> None:
    """An error names what is wrong and how to ask for help."""
    result = subprocess.run(
        [str(ROOT / "scripts" / "dev"), "--prot", "1"], capture_output=True, text=True, check=False, timeout=60
    )

    assert result.returncode == 2
    assert "--prot" in result.stderr


def test_taken_port_is_explained() -> None:
    """A port that is in use is named, instead of a traceback alone."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        result = subprocess.run(
            [str(ROOT / "scripts" / "dev"), "--port", str(port)],
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )

    assert result.returncode == 1
    assert f"port {port} is in use" in result.stderr


def _free_port_pair() -> int:
    """A port whose successor, the control port, is free too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port

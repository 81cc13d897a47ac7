"""`scripts/dev` as a user starts it: one command, a key, a curl example that works, and no process left."""

import signal
import socket
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.dev import ROOT, Dev
from tests.edge.control import Control, chat, eventually_cached

READY_S = 60.0


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
        body = {"messages": [{"role": "user", "content": "Write code that draws the tides"}], "stream": True}

        response = httpx.post(
            f"http://127.0.0.1:{dev.port}/v1/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {dev.key}"},
        )

        assert response.headers["nearside-served-by"] == "cloud"
        assert response.headers["nearside-cloud-region"]
        assert response.text.endswith("data: [DONE]\n\n")

    def test_same_question_is_answered_from_memory(self, dev: Dev) -> None:
        """The second time the isolate itself knows the answer: the store is not asked, and may refuse everything."""
        body = chat("What is a memory?")
        headers = {"authorization": f"Bearer {dev.key}"}
        with (
            httpx.Client(base_url=dev.url, headers=headers) as edge,
            httpx.Client(base_url=f"http://127.0.0.1:{dev.port + 1}") as client,
        ):
            eventually_cached(edge, body)
            control = Control(client)
            control.fault("kv", "error")
            before = control.counters()["kv"]
            responses = [edge.post("/v1/chat/completions", json=body) for _ in range(20)]
            asked = control.counters()["kv"] - before
            control.clear()

        assert all(response.headers["cache-status"].endswith("detail=memory") for response in responses)
        assert asked < 20  # what the first question left to be written may still come

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

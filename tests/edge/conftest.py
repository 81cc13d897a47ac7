"""One local stack for all tests of this folder: the real Worker on workerd, through wrangler's test harness."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from scripts.local.stack import Address, Stack, running_stack
from tests.edge.control import Control, cleared_control

WEBHOOK_SECRET = "whsec_" + "ab" * 20


@dataclass(slots=True)
class Received:
    """What the Worker has sent to someone outside. statuses: of the next answers; then 200."""

    url: str
    posts: list[tuple[str, bytes, dict[str, str]]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)


@pytest.fixture(scope="session")
def receiver() -> Iterator[Received]:
    """An HTTP server on loopback that takes whatever is posted to it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.posts.append((self.path, body, {name.lower(): value for name, value in self.headers.items()}))
            self.send_response(received.statuses.pop(0) if received.statuses else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received = Received(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield received
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def stack(receiver: Received) -> Iterator[tuple[Stack, Address]]:
    with running_stack(
        auth="open",
        variables={
            "ALERT_WEBHOOK_URL": f"{receiver.url}/alerts",
            "ALERT_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_TRACES_SAMPLER_ARG": 0,  # only what a test's own traceparent asks for
            "CACHE_ENCRYPTION_KEYS": f"new:{'ab' * 32},old:{'cd' * 32}",
            "MEMORY_CACHE_MIB": 0,
            "PREWARM": "on",
            "STREAM_IDLE_S": 2,
            "EDGE_TIMEOUT_S": 4,
            "CLOUD_TIMEOUT_S": 4,
            "EDGE_RECHECK_S": 5,
            "CACHE_TIMEOUT_S": 2,  # tests of what works; the default's 190 ms are too short for a busy machine
            "SEMANTIC_TIMEOUT_S": 5,
        },
        cloud_variables={
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_TRACES_SAMPLER": "parentbased_always_off",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        },
    ) as running:
        yield running


@pytest.fixture
def worker_log(stack: tuple[Stack, Address]) -> Callable[..., str]:
    """Reads what the Worker has logged."""
    return stack[0].log_of


@pytest.fixture
def edge(stack: tuple[Stack, Address]) -> Iterator[httpx.Client]:
    """A client of the gateway."""
    with httpx.Client(base_url=stack[1].url, timeout=30) as client:
        yield client


@pytest.fixture
def control(stack: tuple[Stack, Address]) -> Iterator[Control]:
    """The control port, with counters at zero and no faults, and again no faults afterwards."""
    with cleared_control(stack[1]) as control:
        yield control

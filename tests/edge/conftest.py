"""One local stack for all tests of this folder: the real Worker on workerd, through wrangler's test harness."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from scripts.local.stack import Address, Stack, running_stack
from tests.edge.control import Control


@pytest.fixture(scope="session")
def stack() -> Iterator[tuple[Stack, Address]]:
    with running_stack(
        auth="open",
        variables={
            "MEMORY_CACHE_MIB": 0,
            "STREAM_IDLE_S": 2,
            "EDGE_TIMEOUT_S": 4,
            "CLOUD_TIMEOUT_S": 4,
            "EDGE_RECHECK_S": 1,
            "SEMANTIC_TIMEOUT_S": 2,  # tests of what works; the default's 190 ms are too short for a busy machine
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
    with httpx.Client(base_url=stack[1].control_url, timeout=10) as client:
        control = Control(client)
        control.clear()
        yield control
        control.clear()

"""Two local stacks: one as `scripts/dev` has it, and one whose models are an echo and which wants keys."""

import os
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
import openai
import pytest

from scripts.local.stack import Address, running_stack
from tests.clients.echo import Echo, running_echo
from tests.edge.control import Control

LIMITS = {"STREAM_IDLE_S": 2, "EDGE_TIMEOUT_S": 3, "CLOUD_TIMEOUT_S": 3}


@pytest.fixture(scope="session")
def stack() -> Iterator[Address]:
    """Simulated models, no keys."""
    with running_stack(auth="open", variables=LIMITS) as (_, address):
        yield address


@dataclass(frozen=True, slots=True)
class EchoStack:
    """The gateway with keys, before models that are a server in this process. No breakers: what the models answer next
    would not be asked for after a few bad answers.
    """

    address: Address
    echo: Echo


@pytest.fixture(scope="session")
def echo_stack() -> Iterator[EchoStack]:
    with ExitStack() as open_until_the_end:
        echo = open_until_the_end.enter_context(running_echo())
        with pytest.MonkeyPatch.context() as patch:  # only while it starts: the other stack reads the same names
            patch.setitem(os.environ, "CLOUD_UPSTREAM_URL", f"{echo.url}/v1")
            patch.setitem(os.environ, "NEARSIDE_AI_UPSTREAM", echo.url)
            _, address = open_until_the_end.enter_context(
                running_stack(auth="keys", variables=LIMITS, cloud_variables={"CLOUD_BREAKERS": "off"})
            )
        yield EchoStack(address, echo)


@pytest.fixture(scope="session")
def http(stack: Address) -> Iterator[httpx.Client]:
    """A plain HTTP client of the gateway."""
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def client(stack: Address) -> Iterator[openai.OpenAI]:
    """The official SDK. It does not try again by itself unless a test says so."""
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="unused", max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture
async def async_client(stack: Address) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="unused", max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def keyed(echo_stack: EchoStack) -> Iterator[httpx.Client]:
    """A plain HTTP client of the gateway with the echo behind it, with a key."""
    address = echo_stack.address
    headers = {"authorization": f"Bearer {address.key}"}
    with httpx.Client(base_url=address.url, headers=headers, timeout=30) as client:
        yield client


@pytest.fixture
def echo(echo_stack: EchoStack) -> Iterator[Echo]:
    """The model behind the gateway, answering with what it was told, before and after the test."""
    echo_stack.echo.reset()
    yield echo_stack.echo
    echo_stack.echo.reset()


@pytest.fixture(scope="session")
def control_port(stack: Address) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.control_url, timeout=10) as client:
        yield client


@pytest.fixture
def control(control_port: httpx.Client) -> Iterator[Control]:
    """The control port, with counters at zero and no faults, and again no faults afterwards."""
    control = Control(control_port)
    control.clear()
    yield control
    control.clear()


@pytest.fixture(autouse=True)
def _third_parties_may_warn() -> Iterator[None]:
    """Warnings are errors for our code; what the clients under test deprecate in each other is not ours."""
    with warnings.catch_warnings():
        for module in ("langchain_core", "langchain_openai", "instructor", "openai"):
            warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")
        yield

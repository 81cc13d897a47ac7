"""Our own client against the running gateway."""

import asyncio

import pytest

from edge_router.client import AsyncClient, Client, RequestRejected, Retries, StreamFailed
from scripts.local.stack import Address
from tests.clients.conftest import EchoStack
from tests.edge.control import Control, easy, hard


def test_answer_then_hit(stack: Address) -> None:
    """The typed report says who answered, and the second time that it was the cache, and what that saved."""
    question = easy()
    with Client(stack.url) as client:
        first = client.chat(question, max_tokens=20)
        second = client.chat(question, max_tokens=20)
        while not second.report.is_cached:  # entries are written after the response
            second = client.chat(question, max_tokens=20)

    assert first.text == second.text
    assert first.report.served_by == "edge-model"
    assert first.report.timings_ms["total"] > 0
    assert second.report.cache is not None
    assert (second.report.cache.status, second.report.cost_usd) == ("hit", 0.0)
    assert second.report.cost_avoided_usd == first.report.cost_usd


def test_stream(stack: Address) -> None:
    """Tokens and sentences add up to the text; times and usage are there."""
    tokens: list[str] = []
    sentences: list[str] = []
    with Client(stack.url) as client:
        done = client.chat(hard(), max_tokens=60, on_token=tokens.append, on_sentence=sentences.append)

    assert "".join(tokens) == done.text
    assert "".join("".join(sentences).split()) == "".join(done.text.split())
    assert done.output_tokens > 1
    assert done.ttft_s is not None
    assert 0 < done.ttft_s <= done.total_s
    assert done.report.served_by == "cloud"
    assert done.report.timings_ms["ttft"] > 0


def test_error_is_typed(stack: Address) -> None:
    """With the gateway's own code and field."""
    with Client(stack.url) as client, pytest.raises(RequestRejected) as caught:
        client.chat("Hi", temperature="hot")

    assert (caught.value.status, caught.value.param) == (400, "temperature")
    assert caught.value.report.request_id


def test_stream_that_breaks(stack: Address, control: Control) -> None:
    """After content there is no second attempt: the error has the gateway's code, and what had come."""
    control.slow("upstream", itl_ms=200)  # what comes at once with the cut is not sent yet: another upstream is asked
    control.fault("cloud", "cut", after_chunks=3)

    with Client(stack.url) as client, pytest.raises(StreamFailed) as caught:
        client.chat(hard(), model="cloud", stream=True, max_tokens=60)

    assert caught.value.code == "stream_cut"
    assert caught.value.text


def test_cancelled_task_stops_the_model(stack: Address, control: Control) -> None:
    """The gateway is told by the closed connection, and tells the model."""
    control.slow("upstream", itl_ms=200)

    async def leave_at_first_token() -> None:
        first = asyncio.Event()
        async with AsyncClient(stack.url) as client:
            call = client.chat(hard(), model="cloud", max_tokens=200, on_token=lambda _: first.set())
            task = asyncio.create_task(call)
            await first.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(leave_at_first_token())

    assert control.cancelled("upstream", within_s=10)


def test_text_arrives_unharmed(echo_stack: EchoStack) -> None:
    """With a key; the model is an echo."""
    question = "naïve 日本。\u2028 👩‍👩‍👧 \\n \t end"
    with Client(echo_stack.address.url, key=echo_stack.address.key, retries=Retries(attempts=1)) as client:
        assert client.chat(question).text == question
        assert client.chat(question, stream=True, use_cache=False).text == question

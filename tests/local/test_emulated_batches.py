"""The simulated provider's batch API, asked by OpenAI's own client."""

import asyncio
import json

import openai
import pytest

from scripts.local.emulator import EmulatorConfig
from tests.local.emulator_client import started


def line(custom_id: str, **body: object) -> bytes:
    chat = {"model": "sim-small", "messages": [{"role": "user", "content": custom_id}], **body}
    request = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": chat}
    return json.dumps(request).encode() + b"\n"


async def test_batch() -> None:
    """Upload, create, wait, read: results are in reverse order, what is wrong is in the error file, and all of it says
    that it is simulated.
    """
    async with started(EmulatorConfig(provider_key="sk-there")) as emulator:
        url = emulator.url("provider", "/v1")
        async with openai.AsyncOpenAI(base_url=url, api_key="sk-there", max_retries=0) as client:
            data = line("a") + line("b") + line("c", messages=7)
            file = await client.files.create(file=("in.jsonl", data), purpose="batch")
            batch = await client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"n": "1"}
            )
            async with asyncio.timeout(20):
                while batch.status != "completed":
                    batch = await client.batches.retrieve(batch.id)
            listed = [each.id async for each in client.batches.list(limit=5)]
            assert batch.output_file_id is not None
            assert batch.error_file_id is not None
            output = (await client.files.content(batch.output_file_id)).text.splitlines()
            errors = (await client.files.content(batch.error_file_id)).text.splitlines()
            deleted = await client.files.delete(file.id)
        async with openai.AsyncOpenAI(base_url=url, api_key="other", max_retries=0) as stranger:
            with pytest.raises(openai.AuthenticationError):
                await stranger.batches.list()

    assert batch.to_dict()["simulated"] is True
    assert listed == [batch.id]
    assert [json.loads(each)["custom_id"] for each in output] == ["b", "a"]
    assert json.loads(output[0])["response"]["body"]["model"] == "simulated/sim-small"
    assert [json.loads(each)["response"]["status_code"] for each in errors] == [400]
    assert deleted.deleted


async def test_cancel() -> None:
    """What is not answered yet is not answered any more."""
    async with started(EmulatorConfig()) as emulator:
        await emulator.latency("upstream", ttft_ms=10_000)
        async with openai.AsyncOpenAI(base_url=emulator.url("provider", "/v1"), api_key="any") as client:
            file = await client.files.create(file=("in.jsonl", line("a")), purpose="batch")
            batch = await client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            cancelled = await client.batches.cancel(batch.id)

    assert cancelled.status == "cancelling"

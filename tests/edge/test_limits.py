"""Limits on the real runtime: 50 requests at once against a limit of 10, counted by an isolate or by an object."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import openai
import pytest

from scripts.keying.__main__ import main
from scripts.local.stack import Address, running_stack
from tests.edge.control import Control, chat, cleared_control, easy
from tests.edge_router.harness import SECRET, bearer, key_records

pytestmark = pytest.mark.workerd

LIMIT, CALLERS = 10, 50
RECORDS = key_records(
    rate={"tenant": "rate", "limits": {"requests_per_minute": LIMIT}},
    ratestrict={"tenant": "ratestrict", "limits": {"requests_per_minute": LIMIT, "strict": True}},
    many={"tenant": "many", "limits": {"concurrency": LIMIT}},
    manystrict={"tenant": "manystrict", "limits": {"concurrency": LIMIT, "strict": True}},
    once={"tenant": "once", "limits": {"requests_per_minute": 1, "strict": True}},
)


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    """Keys and limits have time, because a busy machine is no fault."""
    variables = {"KEYS_TIMEOUT_S": 20, "LIMITS_TIMEOUT_S": 20}
    with running_stack(auth="keys", records=RECORDS.texts, variables=variables) as (_, address):
        yield address


@pytest.fixture
def control(address: Address) -> Iterator[Control]:
    with cleared_control(address) as control:
        yield control


def client(address: Address, key: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(base_url=address.url, headers=bearer(key), timeout=60, limits=limits)


@pytest.mark.parametrize("key", ["rate", "ratestrict"])
async def test_requests_in_a_minute(address: Address, key: str) -> None:
    """Ten are let through, forty get 429 and when to come again."""
    async with client(address, key) as callers:
        responses = await asyncio.gather(*(callers.get("/v1/models") for _ in range(CALLERS)))

    assert Counter(each.status_code for each in responses) == {200: LIMIT, 429: CALLERS - LIMIT}
    refused = next(each for each in responses if each.status_code == 429)
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert refused.headers["ratelimit-policy"] == f'"requests";q={LIMIT};w=60'
    if key == "ratestrict":
        left = {int(each.headers["x-ratelimit-remaining-requests"]) for each in responses if each.status_code == 200}
        assert left == set(range(LIMIT))
        assert refused.headers["ratelimit"].startswith('"requests";r=0;t=')


@pytest.mark.parametrize("key", ["many", "manystrict"])
async def test_streams_at_a_time(address: Address, control: Control, key: str) -> None:
    """Ten run, forty get 429; callers who leave make room."""
    control.slow("ai", itl_ms=3000)
    async with client(address, key) as callers:
        async with AsyncExitStack() as open_streams:

            async def status() -> int:
                body = chat(easy(), model="edge", stream=True, use_cache=False)
                asking = callers.stream("POST", "/v1/chat/completions", json=body)
                return (await open_streams.enter_async_context(asking)).status_code

            statuses = await asyncio.gather(*(status() for _ in range(CALLERS)))
        assert Counter(statuses) == {200: LIMIT, 429: CALLERS - LIMIT}

        for _ in range(200):  # another process has to see that they left
            again = await callers.get("/v1/models")
            if again.status_code == 200:
                break
            await asyncio.sleep(0.1)
        assert again.status_code == 200


def test_official_sdk(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raises its RateLimitError, after it waited as long as it was told to."""
    waits: list[float] = []
    monkeypatch.setattr("openai._base_client.time.sleep", waits.append)
    with openai.OpenAI(base_url=f"{address.url}/v1", api_key=f"nsk_once_{SECRET}", max_retries=1) as sdk:
        assert sdk.models.list().data
        with pytest.raises(openai.RateLimitError) as raised:
            sdk.models.list()

    assert raised.value.code == "rate_limit_exceeded"
    told_s = int(raised.value.response.headers["retry-after"])
    assert [told_s <= wait_s <= 60 for wait_s in waits] == [True]


def test_keys_of_a_running_stack(address: Address, capsys: pytest.CaptureFixture[str]) -> None:
    """scripts/keys makes keys that get in, with what they may do, and takes them away."""

    def keys(*arguments: str) -> Any:
        assert main([*arguments, "--url", address.url, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    def status(key: str, path: str = "/v1/models") -> int:
        return httpx.get(address.url + path, headers={"authorization": f"Bearer {key}"}, timeout=30).status_code

    made = keys("create", "--tenant", "tool", "--scopes", "infer", "--expires", "1d")
    assert [status(made["key"]), status(made["key"], "/v1/metrics")] == [200, 403]
    again = keys("rotate", made["id"])
    assert [status(each["key"]) for each in (made, again)] == [200, 200]

    keys("revoke", made["id"])
    listed = {each["id"]: (each["tenant"], each["state"]) for each in keys("list")}
    assert listed[made["id"]] == ("tool", "disabled")
    assert httpx.get(f"{address.url}/_local/keys").status_code == 403

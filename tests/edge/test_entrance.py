"""The short way into Python (docs/benchmarks/hot-path.md) on the real runtime, and many requests on it at once."""

import asyncio
from collections import Counter
from collections.abc import Callable

import httpx
import pytest

from scripts.local.stack import Address, Stack
from tests.edge.control import Control, chat, easy, events, eventually_cached, hard

pytestmark = pytest.mark.workerd

PATH = "/v1/chat/completions"
EACH = 10  # requests of each of the five kinds


def test_requests_come_in_by_the_short_way(edge: httpx.Client, worker_log: Callable[..., str]) -> None:
    """A runtime that is built otherwise only answers more slowly, so nothing but the log tells."""
    for _ in range(2):  # the isolate's first event opens it
        assert edge.get("/health").status_code == 200

    assert "entrance_closed" not in worker_log("worker", until='"entrance_used"')


def test_many_requests_at_once(
    edge: httpx.Client, control: Control, stack: tuple[Stack, Address], worker_log: Callable[..., str]
) -> None:
    """Each gets its own answer, whole, while work of others is suspended: no request resumes another one's I/O."""
    cached = chat(easy())
    eventually_cached(edge, cached)
    for target in ("ai", "upstream"):
        control.slow(target, ttft_ms=200, itl_ms=5)
    same = hard()
    bodies = [
        body
        for _ in range(EACH)
        for body in (
            cached,
            chat(easy()),
            chat(hard()),
            chat(hard(), stream=True),
            chat(same, stream=True),  # a single flight of all of these
        )
    ]

    async def ask_all() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=len(bodies))
        async with httpx.AsyncClient(base_url=stack[1].url, timeout=60, limits=limits) as client:
            return await asyncio.gather(*(client.post(PATH, json=body) for body in bodies))

    answers = asyncio.run(ask_all())

    assert Counter(answer.status_code for answer in answers) == {200: len(bodies)}
    for body, answer in zip(bodies, answers, strict=True):
        if body.get("stream"):
            assert events(answer)[-1] == "[DONE]"
        else:
            assert answer.json()["choices"][0]["message"]["content"]
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(bodies)
    assert "different request" not in worker_log("worker", until='"entrance_used"')

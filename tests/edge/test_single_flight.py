"""Single flight through the real Durable Object: one call for all who ask the same, as a stream or plainly."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import httpx
import pytest

from scripts.local.stack import running_stack
from tests.edge.control import Control, chat, easy, events, eventually_cached, hard, streamed_text

pytestmark = pytest.mark.workerd

CALLERS = 100
PATH = "/v1/chat/completions"
FORMS = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])

_Result = TypeVar("_Result")


@pytest.fixture(scope="module")
def crowd() -> Iterator[tuple[str, Control]]:
    """A gateway with patience, because a busy machine is no fault, which shares calls of the edge models too.

    Its URL and its control port.
    """
    variables = {"SINGLE_FLIGHT": "all", "FLIGHT_WAIT_MS": 5000, "MEMORY_CACHE_MIB": 0}
    with (
        running_stack(auth="open", variables=variables) as (_, address),
        httpx.Client(base_url=address.control_url, timeout=10) as client,
    ):
        yield address.url, Control(client)


@pytest.fixture
def crowded(crowd: tuple[str, Control]) -> tuple[str, Control]:
    """The same, with counters at zero, and neither faults nor latencies."""
    crowd[1].clear()
    return crowd


def together(url: str, ask: Callable[[httpx.AsyncClient], Coroutine[Any, Any, _Result]]) -> _Result:
    """Runs what several callers do at the same time."""

    async def all_of_them() -> _Result:
        limits = httpx.Limits(max_connections=2 * CALLERS)
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
            return await ask(client)

    return asyncio.run(all_of_them())


async def opened(client: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
    """A stream whose headers have arrived."""
    return await client.send(client.build_request("POST", PATH, json=body), stream=True)


async def at_once(client: httpx.AsyncClient, body: dict[str, Any], callers: int) -> list[httpx.Response]:
    return await asyncio.gather(*(client.post(PATH, json=body) for _ in range(callers)))


async def told(lines: AsyncIterator[str], count: int) -> list[str]:
    """The next events of a stream, as soon as so many have come."""
    heard: list[str] = []
    while len(heard) < count:
        line = await anext(lines)
        if line.startswith("data: "):
            heard.append(line)
    return heard


@pytest.mark.parametrize(
    ("stream", "ttft_ms"),
    [pytest.param(False, 0, id="plain, quick model"), pytest.param(True, 500, id="stream, slow model")],
)
def test_hot_question_makes_one_call(crowded: tuple[str, Control], stream: bool, ttft_ms: float) -> None:
    """However many ask at once: one call, the same text for all, and all but one say that they paid nothing.

    Who is late on a busy machine finds the stored answer instead of the call.
    """
    url, control = crowded
    control.slow("upstream", ttft_ms=ttft_ms)
    body = chat(hard(), stream=stream)

    responses = together(url, lambda client: at_once(client, body, CALLERS))

    assert {response.status_code for response in responses} == {200}
    texts = {streamed_text(r) if stream else r.json()["choices"][0]["message"]["content"] for r in responses}
    assert len(texts) == 1
    assert control.counters()["upstream"] == 1
    reports = [(events(r)[-2] if stream else r.json())["nearside"] for r in responses]
    free = [report for report in reports if report["cost_usd"] == 0]
    assert len(free) == CALLERS - 1
    assert all(report["cost_avoided_usd"] > 0 for report in free)
    assert all(report["cache"].get("collapsed") or report["served_by"] == "exact-cache" for report in free)
    assert any(report["cache"].get("collapsed") for report in free)


def test_late_reader_hears_everything(crowded: tuple[str, Control]) -> None:
    """Who comes in the middle of a stream gets what was sent so far at once, then goes on live."""
    url, control = crowded
    control.slow("upstream", itl_ms=100)  # the stream outlasts a pause of a busy machine
    body = chat(hard(), stream=True, max_tokens=60)

    async def ask(client: httpx.AsyncClient) -> tuple[httpx.Response, list[str]]:
        async with client.stream("POST", PATH, json=body) as first:
            lines = first.aiter_lines()  # to be kept: the stream is closed with it
            early = await told(lines, 8)
            return await client.post(PATH, json=body), early

    late, early = together(url, ask)

    assert events(late)[-1] == "[DONE]"
    assert len(events(late)) > len(early)
    assert "collapsed" in late.headers["cache-status"]
    assert control.counters()["upstream"] == 1


@pytest.mark.parametrize("leaver", [0, 1], ids=["the first leaves", "the second leaves"])
def test_caller_who_leaves_stops_nobody(crowded: tuple[str, Control], leaver: int) -> None:
    """The other hears all of it, the upstream is not stopped, and the answer is stored."""
    url, control = crowded
    control.slow("upstream", itl_ms=20)
    body = chat(hard(), stream=True)

    async def ask(client: httpx.AsyncClient) -> list[str]:
        pair = [await opened(client, body) for _ in range(2)]
        lines = [response.aiter_lines() for response in pair]
        for heard in lines:
            await told(heard, 3)
        await pair[leaver].aclose()
        rest = [line async for line in lines[1 - leaver]]
        await pair[1 - leaver].aclose()
        return rest

    rest = together(url, ask)

    assert rest[-2:] == ["data: [DONE]", ""]
    assert not any('"error"' in line for line in rest)
    counters = control.counters()
    assert (counters["upstream"], counters["cancelled"]["upstream"]) == (1, 0)
    with httpx.Client(base_url=url) as edge:
        assert eventually_cached(edge, body).headers["nearside-served-by"] == "exact-cache"


def test_last_caller_who_leaves_stops_the_upstream(crowded: tuple[str, Control]) -> None:
    """Long before its stream would end: nobody listens any more."""
    url, control = crowded
    control.slow("upstream", itl_ms=500)
    body = chat(hard(), stream=True)

    async def ask(client: httpx.AsyncClient) -> None:
        for response in [await opened(client, body) for _ in range(2)]:
            await response.aclose()

    together(url, ask)

    assert control.counters()["upstream"] == 1
    assert control.cancelled("upstream", within_s=5)


@FORMS
@pytest.mark.parametrize("kind", ["error", "timeout", "malformed", "slow"])
def test_broken_object_costs_nobody_an_answer(edge: httpx.Client, control: Control, kind: str, stream: bool) -> None:
    """Callers go alone when the Durable Object fails, hangs, dawdles or talks nonsense."""
    if kind == "slow":
        control.slow("do", ttft_ms=30_000)
    control.fault("do", kind)

    response = edge.post(PATH, json=chat(hard(), stream=stream))

    assert response.status_code == 200
    assert response.headers["nearside-served-by"] == "cloud"
    assert "collapsed" not in response.headers["cache-status"]
    assert response.elapsed.total_seconds() < 10


@FORMS
def test_object_that_dies_before_the_first_content(edge: httpx.Client, control: Control, stream: bool) -> None:
    """Nothing was told yet: the caller goes alone and nobody sees it."""
    control.fault("do", "cut", after_chunks=0)

    response = edge.post(PATH, json=chat(hard(), stream=stream))

    assert response.status_code == 200
    assert "error" not in response.text
    assert (events(response)[-1] == "[DONE]") if stream else response.json()["choices"]


def test_object_that_dies_after_the_first_content(edge: httpx.Client, control: Control) -> None:
    """Nothing is taken back: one error event, then the end."""
    control.slow("upstream", itl_ms=30)
    control.fault("do", "cut", after_chunks=8)

    *chunks, done = events(edge.post(PATH, json=chat(hard(), stream=True)))

    assert done == "[DONE]"
    assert [chunk for chunk in chunks if "error" in chunk] == [chunks[-1]]
    assert chunks[-1]["choices"][0]["finish_reason"] == "error"


@pytest.mark.parametrize("kind", ["stall", "timeout"])
def test_call_that_takes_too_long_is_stopped(edge: httpx.Client, control: Control, kind: str) -> None:
    """The region that hangs, also in the middle of its body, is told to stop, and another one answers."""
    control.fault("cloud", kind, count=1)

    response = edge.post(PATH, json=chat(hard()))

    hanging = {"wnam": "weur", "weur": "wnam"}[response.headers["nearside-cloud-region"]]
    assert control.cancelled(f"cloud:{hanging}", within_s=5)


def test_uncached_requests_fly_alone(edge: httpx.Client, control: Control) -> None:
    """Who wants an answer of their own gets one."""
    edge.post(PATH, json=chat(hard(), use_cache=False))

    assert control.counters()["do"] == 0


@FORMS
def test_edge_models_are_shared_if_wanted(crowded: tuple[str, Control], stream: bool) -> None:
    """With the policy `all`, calls of Workers AI are shared like those of the cloud; who is late finds the answer."""
    url, control = crowded
    control.slow("ai", ttft_ms=500)
    body = chat(easy(), stream=stream)

    responses = together(url, lambda client: at_once(client, body, 10))

    served_by = {response.headers["nearside-served-by"] for response in responses}
    assert "edge-model" in served_by <= {"edge-model", "exact-cache"}
    assert control.counters()["ai"] == 1

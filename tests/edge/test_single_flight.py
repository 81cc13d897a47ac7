"""Single flight through the real Durable Object."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.edge.control import Control, chat, hard

pytestmark = pytest.mark.workerd

CALLERS = 10


def test_identical_questions_share_one_call(edge: httpx.Client, control: Control) -> None:
    """Of many equal requests at once, one reaches the upstream; the others wait for its answer and say so."""
    control.slow("upstream", ttft_ms=1500)
    body = chat(hard())

    with ThreadPoolExecutor(CALLERS) as callers:
        responses = list(callers.map(lambda _: edge.post("/v1/chat/completions", json=body), range(CALLERS)))

    assert {response.status_code for response in responses} == {200}
    assert len({response.json()["choices"][0]["message"]["content"] for response in responses}) == 1
    assert control.counters()["upstream"] == 1
    collapsed = [response for response in responses if "collapsed" in response.headers["cache-status"]]
    assert len(collapsed) == CALLERS - 1
    assert all(float(response.headers["nearside-cost-usd"]) == 0 for response in collapsed)


@pytest.mark.parametrize("kind", ["error", "timeout", "malformed"])
def test_broken_object_costs_nobody_an_answer(edge: httpx.Client, control: Control, kind: str) -> None:
    """Callers go alone when the Durable Object fails, hangs or talks nonsense."""
    control.fault("do", kind)

    response = edge.post("/v1/chat/completions", json=chat(hard()))

    assert response.status_code == 200
    assert response.headers["nearside-served-by"] == "cloud"


def test_uncached_requests_fly_alone(edge: httpx.Client, control: Control) -> None:
    """Who wants an answer of their own gets one."""
    edge.post("/v1/chat/completions", json=chat(hard(), use_cache=False))

    assert control.counters()["do"] == 0

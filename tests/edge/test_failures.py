"""What the caller sees when a part fails, on the real Worker with faults from the emulators."""

import httpx
import pytest

from tests.edge.control import Control, chat, easy, events, eventually_cached, hard

pytestmark = pytest.mark.workerd


def test_cloud_down_is_a_502_that_says_so(edge: httpx.Client, control: Control) -> None:
    """No region can be reached: 502 `cloud_unavailable`, with the report."""
    control.fault("cloud", "refuse")

    response = edge.post("/v1/chat/completions", json=chat(hard()))

    assert response.status_code == 502
    assert response.json()["error"]["code"] == "cloud_unavailable"
    assert response.headers["nearside-colo"] == "DFW"
    assert response.headers["nearside-route-reason"] == "complex"


def test_second_region_takes_over(edge: httpx.Client, control: Control) -> None:
    """One region down: the next nearest answers. Which is nearest is measured, so each is taken down in turn."""
    failed = []
    for region, other in (("wnam", "weur"), ("weur", "wnam")):
        control.clear()
        control.fault(f"cloud:{region}", "refuse")

        response = edge.post("/v1/chat/completions", json=chat(hard()))

        assert response.status_code == 200
        assert response.headers["nearside-cloud-region"] == other
        failed += [(region, each) for each in response.json()["nearside"].get("fallbacks", [])]

    assert failed
    assert all(each == f"gpt-4o-mini@{region}: cloud_unavailable" for region, each in failed)


@pytest.mark.parametrize("kind", ["error", "timeout", "malformed"])
def test_cache_failure_is_a_miss(edge: httpx.Client, control: Control, kind: str) -> None:
    """A store that fails, hangs or returns garbage never fails the request."""
    body = chat(easy())
    eventually_cached(edge, body)
    control.fault("kv", kind)

    response = edge.post("/v1/chat/completions", json=body)

    assert response.status_code == 200
    assert response.headers["nearside-served-by"] == "edge-model"


@pytest.mark.parametrize("kind", ["error", "capacity", "refuse", "malformed"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_failing_edge_model_falls_back_to_the_cloud(
    edge: httpx.Client, control: Control, kind: str, stream: bool
) -> None:
    """With `auto`, the caller does not notice that Workers AI is down, but the report tells."""
    control.fault("ai", kind)

    response = edge.post("/v1/chat/completions", json=chat(easy(), stream=stream))

    assert response.status_code == 200
    assert response.headers["nearside-served-by"] == "cloud"
    report = (events(response)[0] if stream else response.json())["nearside"]
    assert len(report["fallbacks"]) == 2


def test_pinned_model_has_no_fallback(edge: httpx.Client, control: Control) -> None:
    """Whoever names a model gets that one or its error."""
    control.fault("ai", "capacity")

    response = edge.post("/v1/chat/completions", json=chat(easy(), model="@cf/meta/llama-3.2-3b-instruct"))

    assert response.status_code == 429
    assert response.json()["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize(
    ("target", "model"), [pytest.param("ai", "edge", id="edge"), pytest.param("upstream", "cloud", id="cloud")]
)
def test_stream_cut_half_way_ends_with_one_error(edge: httpx.Client, control: Control, target: str, model: str) -> None:
    """After the first content: exactly one error event, then `[DONE]`; and the piece is never served again."""
    control.slow(target, itl_ms=30)  # what comes at once with the cut is not sent yet, and another upstream is asked
    control.fault(target, "cut", after_chunks=4, count=1)
    body = chat(easy(), model=model)

    response = edge.post("/v1/chat/completions", json={**body, "stream": True})

    *chunks, done = events(response)
    errors = [chunk for chunk in chunks if "error" in chunk]
    assert done == "[DONE]"
    assert errors == [chunks[-1]]
    assert errors[0]["choices"][0]["finish_reason"] == "error"
    assert errors[0]["error"]["code"]
    control.clear()
    again = edge.post("/v1/chat/completions", json=body)
    assert again.headers["nearside-served-by"] != "exact-cache"


@pytest.mark.parametrize(
    ("target", "model"), [pytest.param("ai", "edge", id="edge"), pytest.param("upstream", "cloud", id="cloud")]
)
def test_caller_who_leaves_stops_the_upstream(edge: httpx.Client, control: Control, target: str, model: str) -> None:
    """A disconnect reaches the model long before its stream would end."""
    control.slow(target, itl_ms=500)
    with edge.stream("POST", "/v1/chat/completions", json=chat(easy(), model=model, stream=True)) as response:
        next(response.iter_lines())

    assert control.cancelled(target, within_s=5)


def test_edge_answer_that_comes_too_late(edge: httpx.Client, control: Control) -> None:
    """Workers AI knows no abort: its stream is cancelled when it comes, while the cloud's answer is still under way."""
    control.slow("ai", ttft_ms=4500, itl_ms=500)  # EDGE_TIMEOUT_S is 4
    control.slow("upstream", itl_ms=500)
    with edge.stream("POST", "/v1/chat/completions", json=chat(easy(), stream=True)) as response:
        lines = response.iter_lines()  # kept: without it the stream would be closed
        assert any("content" in line for line in lines)

        assert control.cancelled("ai", within_s=10)

"""The cascade through the real Worker: bad answers of the emulated edge model, real streams, real cancellation."""

from typing import Any

import httpx
import pytest

from tests.edge.control import Control, chat, easy, events, streamed_text

pytestmark = pytest.mark.workerd

STREAMS = [pytest.param(False, id="plain"), pytest.param(True, id="stream")]


def ask(edge: httpx.Client, *, stream: bool, **fields: Any) -> tuple[str, dict[str, Any], httpx.Response]:
    """(the text that arrived, the report at its end, the response). Easy questions: the edge answers first."""
    response = edge.post("/v1/chat/completions", json=chat(easy(), stream=stream, **fields))
    assert response.status_code == 200
    if stream:
        *_, last, done = events(response)
        assert done == "[DONE]"
        return streamed_text(response), last["nearside"], response
    body = response.json()
    return body["choices"][0]["message"]["content"], body["nearside"], response


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(
    ("kind", "reason"),
    [("bad-refusal", "refusal"), ("bad-blank", "empty"), ("bad-unsure", "uncertain")],
)
def test_bad_answer_is_replaced(edge: httpx.Client, control: Control, kind: str, reason: str, stream: bool) -> None:
    """The caller sees the cloud's answer only, one upstream call was made, and the report says why."""
    control.fault("ai", kind)

    text, report, response = ask(edge, stream=stream, cascade="on")

    assert text.startswith("[simulated answer by gpt-")
    assert report["cascade"]["verdict"] == "escalated"
    assert report["cascade"]["reason"] == reason
    assert report["cascade"]["other_cost_usd"] > 0
    assert (report["served_by"], report["route_reason"]) == ("cloud", "escalated")
    assert response.headers["nearside-cascade"] == f"escalated; reason={reason}"
    assert control.counters()["upstream"] == 1


@pytest.mark.parametrize(("kind", "reason"), [("bad-half", "truncated"), ("bad-loop", "repetition")])
def test_answer_whose_end_is_bad(edge: httpx.Client, control: Control, kind: str, reason: str) -> None:
    """A plain one is replaced; of a stream that went out, the end is told."""
    control.fault("ai", kind)

    _, plain, _ = ask(edge, stream=False, cascade="on")
    control.slow("ai", itl_ms=10)
    text, stream, _ = ask(edge, stream=True, cascade="on")

    assert plain["cascade"]["reason"] == reason
    assert text.startswith("[simulated answer by @cf/")
    assert stream["cascade"] == {"verdict": "accepted", "late": reason}


@pytest.mark.parametrize("stream", STREAMS)
def test_good_answer_stays(edge: httpx.Client, control: Control, stream: bool) -> None:
    """The cloud is not asked."""
    text, report, _ = ask(edge, stream=stream, cascade="on")

    assert text.startswith("[simulated answer by @cf/")
    assert report["cascade"] == {"verdict": "accepted"}
    assert control.counters()["upstream"] == 0


def test_beginning_is_not_held_back_for_long(edge: httpx.Client, control: Control) -> None:
    """A model that sends a word every 500 ms is let go after as much, though it never shows enough."""
    control.slow("ai", itl_ms=500)

    _, report, _ = ask(edge, stream=True, cascade="on", max_tokens=12)

    assert report["timings_ms"]["ttft"] < report["timings_ms"]["total"] - 1000


@pytest.mark.parametrize("stream", STREAMS)
def test_race_ends_the_call_that_lost(edge: httpx.Client, control: Control, stream: bool) -> None:
    """Both are asked at once; the provider sees that nobody waits for the loser any more."""
    control.slow("ai", ttft_ms=300)  # the loser's call has arrived by then
    control.slow("upstream", ttft_ms=30_000)

    text, report, _ = ask(edge, stream=stream, cascade="race", use_cache=False)

    assert text.startswith("[simulated answer by @cf/")
    assert report["cascade"]["verdict"] == "accepted"
    assert report["cascade"]["raced"]
    assert control.counters()["upstream"] == 1
    assert control.cancelled("upstream", within_s=5)


def test_race_that_the_cloud_wins(edge: httpx.Client, control: Control) -> None:
    """An edge that takes too long is ended, and the cloud's stream delivered."""
    control.slow("ai", ttft_ms=3000)

    text, report, _ = ask(edge, stream=True, cascade="race")

    assert text.startswith("[simulated answer by gpt-")
    assert report["cascade"]["verdict"] == "overtaken"
    assert control.cancelled("ai", within_s=5)


def test_no_better_answer(edge: httpx.Client, control: Control) -> None:
    """With the cloud down the refusal is delivered, and marked."""
    control.fault("ai", "bad-refusal")
    control.fault("cloud", "error")

    text, report, _ = ask(edge, stream=True, cascade="on")

    assert text.startswith("I'm sorry")
    assert report["cascade"] == {"verdict": "kept", "reason": "refusal", "because": "cloud-failed"}

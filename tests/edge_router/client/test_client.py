"""Both clients: answers, streams, retries, timeouts and errors, each test for the blocking and for the asyncio one."""

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.client import (
    APIError,
    AsyncClient,
    BudgetExceeded,
    Client,
    ClientError,
    Completion,
    ConnectionFailed,
    NotAllowed,
    RateLimited,
    RequestRejected,
    Retries,
    StreamFailed,
    TimedOut,
    Timeouts,
    UnreadableAnswer,
    UpstreamFailed,
)
from edge_router.client.exchange import Call, Exchange
from tests.edge_router.client.server import Pieces, content, events, failing_event, plain, refused, streamed

Handler = Callable[[httpx.Request], httpx.Response]
Ask = Callable[..., Completion]
waits: list[float] = []


def ask_blocking(handler: Handler, question: Any = "Hi", *, retries: Retries = Retries(), **options: Any) -> Completion:  # noqa: B008
    with Client(
        "http://gateway/v1", key="nsk_1", retries=retries, transport=httpx.MockTransport(handler), sleep=waits.append
    ) as client:
        return client.chat(question, **options)


def ask_async(handler: Handler, question: Any = "Hi", *, retries: Retries = Retries(), **options: Any) -> Completion:  # noqa: B008
    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def run() -> Completion:
        async with AsyncClient(
            "http://gateway", key="nsk_1", retries=retries, transport=httpx.MockTransport(handler), sleep=sleep
        ) as client:
            return await client.chat(question, **options)

    return asyncio.run(run())


@pytest.fixture(params=[ask_blocking, ask_async], ids=["blocking", "asyncio"])
def ask(request: pytest.FixtureRequest) -> Ask:
    waits.clear()
    chosen: Ask = request.param
    return chosen


def in_turn(*answers: httpx.Response | Exception) -> tuple[Handler, list[httpx.Request]]:
    """One answer after the other, and what was asked for them."""
    requests: list[httpx.Request] = []
    left = iter(answers)

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handler, requests


def test_plain_answer(ask: Ask) -> None:
    """The text, what it took, and the gateway's report."""
    handler, requests = in_turn(plain("Hello."))

    done = ask(handler, max_tokens=9)

    assert (done.text, done.finish_reason, done.output_tokens, done.ttft_s) == ("Hello.", "stop", 3, None)
    assert (done.report.colo, done.report.cost_usd) == ("CDG", 0.002)
    assert requests[0].url == "http://gateway/v1/chat/completions"
    assert requests[0].headers["authorization"] == "Bearer nsk_1"
    assert json.loads(requests[0].content) == {
        "model": "auto",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hi"}],
    }


def test_listeners_of_a_stream(ask: Ask) -> None:
    """Tokens as they come, each sentence when it is whole, the completion at the end."""
    heard: list[object] = []
    handler, requests = in_turn(streamed(events("Hel", "lo. B", "ye.")))

    done = ask(
        handler,
        on_token=heard.append,
        on_sentence=lambda sentence: heard.append([sentence]),
        on_complete=lambda completion: heard.append(completion),
    )

    assert heard == ["Hel", "lo. B", ["Hello."], "ye.", ["Bye."], done]
    assert json.loads(requests[0].content)["stream_options"] == {"include_usage": True}
    assert (done.text, done.input_tokens, done.report.cost_usd) == ("Hello. Bye.", 7, 0.002)
    assert done.ttft_s is not None
    assert done.ttft_s <= done.total_s


BODY = events("naïve ", "日本", "。")


@settings(max_examples=50)
@given(st.lists(st.integers(0, len(BODY)), max_size=12))
def test_chunks_of_the_network_do_not_matter(cuts: list[int]) -> None:
    """Cut anywhere, also inside a character, the answer is the same."""
    borders = [0, *sorted(cuts), len(BODY)]
    pieces = [BODY[start:end] for start, end in pairwise(borders)]

    for ask in (ask_blocking, ask_async):
        done = ask(lambda _: streamed(*pieces), stream=True)

        assert (done.text, done.finish_reason, done.usage["total_tokens"]) == ("naïve 日本。", "stop", 10)


def test_every_single_byte(ask: Ask) -> None:
    assert ask(lambda _: streamed(*(bytes([byte]) for byte in BODY)), stream=True).text == "naïve 日本。"


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(lambda: refused(429, "upstream_busy", "rate_limit_error"), id="429"),
        pytest.param(lambda: refused(502, "upstream_error"), id="502"),
        pytest.param(lambda: refused(503, "budget_unavailable", "server_error"), id="503"),
        pytest.param(lambda: refused(504, "upstream_timeout"), id="504"),
        pytest.param(lambda: httpx.ConnectError("refused"), id="no connection"),
        pytest.param(lambda: httpx.ConnectTimeout("slow"), id="connecting takes too long"),
        pytest.param(lambda: streamed(failing_event("upstream_error")), id="error event before any content"),
    ],
)
def test_what_is_tried_again(ask: Ask, failure: Callable[[], httpx.Response | Exception]) -> None:
    """As long as nothing of an answer was seen; under the same request id, so that the log shows one call."""
    handler, requests = in_turn(failure(), streamed(events("Yes.")))

    done = ask(handler, stream=True)

    assert (done.text, done.attempts, len(waits)) == ("Yes.", 2, 1)
    assert len({request.headers["x-request-id"] for request in requests}) == 1


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(lambda: refused(400, "invalid_value", "invalid_request_error"), id="400"),
        pytest.param(lambda: refused(500, "internal_error", "server_error"), id="500"),
        pytest.param(lambda: refused(504, "not_cached", "invalid_request_error"), id="only-if-cached"),
        pytest.param(lambda: refused(429, "x", "rate_limit_error", **{"retry-after": "3600"}), id="to wait an hour"),
        pytest.param(lambda: httpx.ReadError("reset"), id="lost after it was sent"),
        pytest.param(lambda: streamed(content("Half")), id="stream without [DONE]"),
        pytest.param(lambda: streamed(content("Half"), failing_event("stream_cut")), id="error after content"),
        pytest.param(lambda: httpx.Response(200, text="<html>"), id="no completion"),
    ],
)
def test_what_is_not_tried_again(ask: Ask, failure: Callable[[], httpx.Response | Exception]) -> None:
    """What would fail again, may have been answered, or has been seen in part."""
    handler, requests = in_turn(failure())

    with pytest.raises(ClientError):
        ask(handler, stream=True)

    assert len(requests) == 1
    assert waits == []


def test_retry_after_is_waited_for(ask: Ask) -> None:
    """Never less, and a little more, so that those who were refused together don't come back together."""
    handler, _ = in_turn(refused(429, "x", "rate_limit_error", **{"retry-after": "2"}), plain("Yes."))

    ask(handler)

    assert 2.0 <= waits[0] <= 2.25


def test_attempts_are_bounded(ask: Ask) -> None:
    """The last failure is raised, with all that the gateway said."""
    handler, requests = in_turn(*(refused(503, "shutting_down") for _ in range(3)))

    with pytest.raises(UpstreamFailed) as caught:
        ask(handler, retries=Retries(attempts=3, base_s=0.5))

    assert len(requests) == 3
    assert waits[0] <= 0.5
    assert waits[1] <= 1.0
    assert (caught.value.code, caught.value.report.request_id) == ("shutting_down", "req_1")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, RequestRejected),
        (401, NotAllowed),
        (402, BudgetExceeded),
        (403, NotAllowed),
        (404, RequestRejected),
        (429, RateLimited),
        (500, UpstreamFailed),
    ],
)
def test_error_by_status(ask: Ask, status: int, expected: type[APIError]) -> None:
    """Typed as docs/errors.md groups them."""
    with pytest.raises(expected, match=f"{status} a_code: No\\."):
        ask(lambda _: refused(status, "a_code"), retries=Retries(attempts=1))


def test_error_without_a_body(ask: Ask) -> None:
    """Of a proxy in between, as any."""
    with pytest.raises(UpstreamFailed, match="502"):
        ask(lambda _: httpx.Response(502, text="<html>"), retries=Retries(attempts=1))


def test_stream_that_breaks(ask: Ask) -> None:
    """The error has what had come."""
    for broken in (failing_event("stream_stalled"), httpx.ReadError("reset")):
        with pytest.raises(StreamFailed) as caught:
            ask(lambda _, broken=broken: streamed(content("Half "), content("of it"), broken), stream=True)

        assert caught.value.text == "Half of it"
        assert caught.value.code in ("stream_stalled", "connection_broken")


def test_bytes_that_are_no_text(ask: Ask) -> None:
    for garbage in (b"data: \xff\n\n", b"data: 7\n\n"):
        with pytest.raises(UnreadableAnswer):
            ask(lambda _, garbage=garbage: streamed(garbage), stream=True)


def test_tool_calls_are_put_together(ask: Ask) -> None:
    """A stream sends their arguments in pieces."""
    deltas = [
        {"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "look_up", "arguments": '{"ci'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": 'ty": "Lima"}'}}]},
    ]
    body = b"".join(
        f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta}]})}\n\n".encode() for delta in deltas
    ) + events(finish_reason="tool_calls")

    done = ask(lambda _: streamed(body), stream=True)

    assert [call["function"] for call in done.tool_calls] == [{"name": "look_up", "arguments": '{"city": "Lima"}'}]
    assert (done.text, done.finish_reason) == ("", "tool_calls")


def test_listener_that_fails_closes_the_connection(ask: Ask) -> None:
    """Its exception is the caller's."""
    body = Pieces(events("One. Two."))
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=body)

    with pytest.raises(ZeroDivisionError):
        ask(lambda _: response, on_token=lambda _: 1 / 0)

    assert body.is_closed


def test_leaving_early_closes_the_connection() -> None:
    """The end of `with` does it, whatever is left unread."""
    body = Pieces(content("One"), events("Two"))
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=body)

    with (
        Client(transport=httpx.MockTransport(lambda _: response)) as client,
        client.stream("Hi") as stream,
    ):
        assert next(iter(stream)) == "One"

    assert body.is_closed
    assert stream.completion.text == "One"


class Hanging(httpx.AsyncByteStream):
    """A body that says something and then nothing, for ever."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self.is_closed = False
        self.is_waiting = asyncio.Event()

    async def __aiter__(self) -> Any:
        for piece in self._pieces:
            yield piece
        self.is_waiting.set()
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.is_closed = True


def hanging_client(body: Hanging, **timeouts: float) -> AsyncClient:
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=body)
    return AsyncClient(transport=httpx.MockTransport(lambda _: response), timeouts=Timeouts(**timeouts))


async def test_cancelling_the_task_closes_the_connection() -> None:
    """The gateway sees it and stops the model."""
    body = Hanging(content("One"))
    async with hanging_client(body) as client:
        task = asyncio.create_task(client.chat("Hi", stream=True))
        await body.is_waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert body.is_closed


@pytest.mark.parametrize(
    ("pieces", "timeouts", "phase"),
    [
        pytest.param([], {"first_token_s": 0.02}, "first_token", id="no token"),
        pytest.param([b": keep-alive\n\n"], {"first_token_s": 0.02}, "first_token", id="heartbeats are no token"),
        pytest.param([content("One")], {"idle_s": 0.02}, "idle", id="silence"),
        pytest.param([content("One")], {"total_s": 0.02}, "total", id="not whole"),
    ],
)
async def test_timeouts(pieces: list[bytes], timeouts: dict[str, float], phase: str) -> None:
    """Each says which it was, closes the connection, and is not tried again: it may have been answered."""
    body = Hanging(*pieces)
    async with hanging_client(body, **timeouts) as client:
        with pytest.raises(TimedOut) as caught:
            await client.chat("Hi", stream=True)

    assert caught.value.phase == phase
    assert body.is_closed


async def test_coroutine_listeners() -> None:
    """Are awaited, so that who speaks a sentence holds back the next."""
    heard: list[str] = []

    async def note(text: str) -> None:
        await asyncio.sleep(0)
        heard.append(text)

    async with AsyncClient(transport=httpx.MockTransport(lambda _: streamed(events("Yes. ", "No.")))) as client:
        await client.chat("Hi", on_token=note, on_sentence=note)

    assert heard == ["Yes. ", "No.", "Yes.", "No."]


def test_connection_errors_have_a_type(ask: Ask) -> None:
    with pytest.raises(ConnectionFailed, match="refused"):
        ask(in_turn(httpx.ConnectError("refused"))[0], retries=Retries(attempts=1))


def test_key_is_not_shown() -> None:
    assert "nsk_" not in repr(Client(key="nsk_1", transport=httpx.MockTransport(lambda _: plain("x"))))


def test_messages_of_a_conversation(ask: Ask) -> None:
    """As in OpenAI's API."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    handler, requests = in_turn(plain("Hello."))

    ask(handler, messages)

    assert json.loads(requests[0].content)["messages"] == messages


def test_answer_that_only_calls_tools(ask: Ask) -> None:
    """Has no text."""
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}

    done = ask(lambda _: httpx.Response(200, json=body))

    assert (done.text, done.tool_calls, done.finish_reason) == ("", calls, "tool_calls")


def test_stream_without_a_finish_reason(ask: Ask) -> None:
    """Is not whole, whatever it says of its end."""
    with pytest.raises(StreamFailed) as caught:
        ask(lambda _: streamed(content("Half"), b"data: [DONE]\n\n"), stream=True)

    assert (caught.value.code, caught.value.text) == ("stream_cut", "Half")


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        pytest.param(Completion(usage={"completion_tokens": 11}, ttft_s=0.5, last_content_s=1.5), 10.0, id="stream"),
        pytest.param(Completion(usage={"completion_tokens": 11}), None, id="plain"),
        pytest.param(Completion(usage={"completion_tokens": 1}, ttft_s=0.5, last_content_s=1.5), None, id="one token"),
        pytest.param(Completion(usage={"completion_tokens": 9}, ttft_s=0.5, last_content_s=0.5), None, id="at once"),
    ],
)
def test_tokens_per_s(completion: Completion, expected: float | None) -> None:
    """After the first content; unknown where there is nothing to measure."""
    assert completion.tokens_per_s == expected


@pytest.mark.parametrize(("heard_s", "phase"), [(60.0, "first_token"), (300.0, "total")])
def test_heartbeats_of_a_blocking_stream(heard_s: float, phase: str) -> None:
    """They keep a connection open, and are no answer: the limits hold all the same."""
    call = Call({}, {}, Timeouts(first_token_s=60.0, total_s=heard_s), started_s=0.0)
    exchange = Exchange(call, attempt=1, now_s=0.0 if phase == "first_token" else 299.0)
    exchange.open(200, {"content-type": "text/event-stream"})
    exchange.feed(b": keep-alive\n\n", heard_s - 0.5)

    with pytest.raises(TimedOut) as caught:
        exchange.feed(b": keep-alive\n\n", heard_s)

    assert caught.value.phase == phase


async def test_stream_of_the_asyncio_client() -> None:
    """Iterated over for its texts; then a coroutine function is told the whole."""
    told: list[str] = []

    async def note(completion: Completion) -> None:
        await asyncio.sleep(0)
        told.append(completion.text)

    async with (
        AsyncClient(transport=httpx.MockTransport(lambda _: streamed(events("Yes. ", "No.")))) as client,
        client.stream("Hi", on_complete=note) as stream,
    ):
        texts = [text async for text in stream]

    assert texts == ["Yes. ", "No."]
    assert told == ["Yes. No."]

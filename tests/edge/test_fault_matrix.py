"""The fault matrix: run once on a stack of its own, then one test for each fault on each route; and the checker itself,
which must find what is wrong in transcripts that break the law."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from scripts.fault_matrix.cases import FAULTS, ROUTES, Fault, Route, lanes
from scripts.fault_matrix.law import Expectation, outcome, violations
from scripts.fault_matrix.oracle import complete_answers
from scripts.fault_matrix.page import Run, fault_matrix
from scripts.fault_matrix.runner import CLOUD_VARIABLES, SHORT_LIMITS, Result, Runner
from scripts.fault_matrix.transcript import Transcript, read_stream
from scripts.local.faults import KINDS
from scripts.local.stack import running_stack

WHOLE = "All of it."
Chunk = dict[str, Any]


# All that is wrong with a proper error of a call that had no time. No limit is longer than 1.2 s.
OUT_OF_TIME = ("status 504", "Retry-After is None", "an error event although", "the fault did not strike")


@pytest.fixture(scope="module")
def results() -> Iterator[list[Result]]:
    with running_stack(auth="open", variables=SHORT_LIMITS, cloud_variables=CLOUD_VARIABLES) as (_, address):

        def run(faults: Sequence[Fault]) -> list[Result]:
            return asyncio.run(Runner(address.url, address.control_url).run(faults))

        yield without_stops(run(FAULTS), run)


def without_stops(results: list[Result], run: Callable[[Sequence[Fault]], list[Result]]) -> list[Result]:
    """The results, with a second one for each cell that was out of time: a machine that stops for a second is to blame
    once, a gateway that breaks the law breaks it again. Whatever else is against the law stays as it is.
    """
    late = [each for each in results if each.violations and all(map(is_out_of_time, each.violations))]
    faults = {each.case.fault.id: each.case.fault for each in late}
    again = {each.case.name: each for each in run(list(faults.values()))} if late else {}
    names = {each.case.name for each in late}
    return [again[each.case.name] if each.case.name in names else each for each in results]


def is_out_of_time(violation: str) -> bool:
    return violation.removeprefix("asked again: ").startswith(OUT_OF_TIME)


@pytest.mark.workerd
@pytest.mark.timeout(420)  # the first of them runs the whole matrix
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.id)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_law_is_kept(results: list[Result], fault: Fault, route: Route) -> None:
    """Plain and streamed, with and without another upstream: the caller gets a whole answer or a proper error.

    Cells that were out of time are run once more, see `without_stops`.
    """
    found = [each for each in results if each.case.fault is fault and each.case.route is route]

    assert len(found) == 4
    assert {each.case.name: each.violations for each in found if each.violations} == {}


@pytest.mark.workerd
@pytest.mark.timeout(420)
@pytest.mark.parametrize("fault", ["cut", "cut-utf8", "malformed", "truncated", "early-end", "stall"])
def test_streams_are_broken_after_content(results: list[Result], fault: str) -> None:
    """The paced faults do strike streams that have begun: without that, the law's hardest article were not tested."""
    outcomes = [
        each.outcome
        for each in results
        if each.case.fault.id == f"{fault}-after-5" and each.case.mode == "stream" and not each.case.has_other
    ]

    assert len(outcomes) == len(ROUTES)
    assert all(each.startswith("error event") and each.endswith("after content") for each in outcomes)


def test_every_kind_is_in_the_matrix() -> None:
    """A fault that the emulators learn is tested from then on."""
    closes_the_edge = {"allowance"}  # for all who come after: tests/edge/test_edge_closed.py
    whole_but_bad = {kind for kind in KINDS if kind.startswith("bad-")}  # tests/edge/test_cascade.py
    assert {fault.kind for fault in FAULTS} == set(KINDS) - closes_the_edge - whole_but_bad


def test_lanes_hold_every_case_once() -> None:
    """Every fault on every route, plain and streamed, with and without another upstream; no target is in two lanes."""
    names = [case.name for groups in lanes().values() for group in groups for case in group.cases]
    targets = [{case.target for group in groups for case in group.cases} for groups in lanes().values()]

    assert len(set(names)) == len(names) == len(FAULTS) * len(ROUTES) * 4
    assert targets == [{"ai"}, {"upstream", "cloud", "cloud:wnam"}]


# The checker


def headers(**more: str) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "x-request-id": "mine",
        "nearside-colo": "DFW",
        "nearside-route-reason": "simple",
        "nearside-served-by": "cloud",
        "nearside-model": "some-model",
        "server-timing": "cloud;dur=1.0, ttft;dur=1.0",
        "cache-status": "nearside; fwd=miss",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }


def expectation(**more: Any) -> Expectation:
    defaults: dict[str, Any] = {
        "is_stream": False,
        "complete": lambda model: (WHOLE,) if model == "some-model" else (),
        "statuses": frozenset({502}),
    }
    return Expectation(**{**defaults, **more})


USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "some-model"}
REPORT = {"served_by": "cloud", "model": "some-model"}


def completion(text: str = WHOLE, **more: Any) -> Chunk:
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    body = {**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE, "nearside": REPORT}
    return {**body, **more}


def plain(body: object, status: int = 200, **more: str) -> Transcript:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Transcript("mine", status, headers(**more), data)


def error_body(**more: object) -> Chunk:
    error = {"message": "It failed.", "type": "upstream_error", "param": None, "code": "upstream_error", **more}
    return {"error": error, "nearside": REPORT}


def chunk(delta: Mapping[str, object], finish: str | None = None, **more: Any) -> Chunk:
    choice = {"index": 0, "delta": dict(delta), "logprobs": None, "finish_reason": finish}
    return {**HEAD, "object": "chat.completion.chunk", "choices": [choice], **more}


FIRST = chunk({"role": "assistant", "content": "All "}, nearside=REPORT)
SECOND = chunk({"content": "of it."})
FINISH = chunk({}, "stop")
LAST = {**chunk({}), "choices": [], "usage": USAGE, "nearside": REPORT}
ERROR = chunk({}, "error", **error_body())
GOOD = (FIRST, SECOND, FINISH, LAST)


def stream(*events: object, tail: bytes = b"", **more: str) -> Transcript:
    """Each event as one; `[DONE]` is to be given."""
    texts = (event if isinstance(event, str) else json.dumps(event) for event in events)
    body = "".join(f"data: {text}\n\n" for text in texts).encode() + tail
    return Transcript("mine", 200, headers(content_type="text/event-stream", **more), body)


STREAMED = expectation(is_stream=True)
ANSWERED = expectation(is_stream=True, must_answer=True)


@pytest.mark.parametrize(
    ("transcript", "expected", "seen"),
    [
        pytest.param(plain(completion()), expectation(must_answer=True), "answered by some-model", id="plain answer"),
        pytest.param(plain(error_body(), 502), expectation(), "502 upstream_error", id="status error"),
        pytest.param(
            plain(error_body(), 429, retry_after="7"),
            expectation(statuses=frozenset({429}), retry_after="7"),
            "429 upstream_error, retry after 7 s",
            id="rate limited",
        ),
        pytest.param(stream(*GOOD, "[DONE]"), ANSWERED, "answered by some-model", id="stream"),
        pytest.param(
            stream(FIRST, ERROR, "[DONE]"), STREAMED, "error event upstream_error after content", id="broken stream"
        ),
        pytest.param(
            stream(ERROR, "[DONE]"), STREAMED, "error event upstream_error before content", id="nobody answered"
        ),
        pytest.param(
            stream(FIRST, ERROR, "[DONE]"),
            replace(ANSWERED, may_break=True),
            "error event upstream_error after content",
            id="too late for another upstream",
        ),
    ],
)
def test_lawful(transcript: Transcript, expected: Expectation, seen: str) -> None:
    """What keeps the law has no violation, and its outcome can be read."""
    assert violations(transcript, expected) == []
    assert outcome(transcript) == seen


def test_heartbeats_and_early_headers_are_lawful() -> None:
    """Comments say nothing; headers that left before the first content name nobody, so the last chunk does."""
    good = stream(*GOOD, "[DONE]", server_timing="decide;dur=1.0")
    early = {
        name: value for name, value in good.headers.items() if name not in ("nearside-model", "nearside-served-by")
    }

    transcript = replace(good, headers=early, body=b": keep-alive\n\n" + good.body)

    assert violations(transcript, ANSWERED) == []
    assert read_stream(transcript.body).heartbeats == 1


@pytest.mark.parametrize(
    ("transcript", "expected", "complaint"),
    [
        pytest.param(plain(completion("All")), expectation(), "only a part of some-model", id="part as a whole"),
        pytest.param(plain(completion("Else.")), expectation(), "not an answer of some-model", id="other text"),
        pytest.param(
            plain(completion(), nearside_model="other"), expectation(), "not an answer of other", id="false name"
        ),
        pytest.param(plain(b""), expectation(), "not a JSON object", id="empty 200"),
        pytest.param(plain(b"<html>"), expectation(), "not a JSON object", id="page as 200"),
        pytest.param(plain({**completion(), **error_body()}), expectation(), "200 with an error", id="error as 200"),
        pytest.param(plain(completion(created="1")), expectation(), "created", id="schema, strictly"),
        pytest.param(plain(completion(usage=None)), expectation(), "no usage", id="no usage"),
        pytest.param(
            plain(completion(usage={**USAGE, "total_tokens": 9})), expectation(), "does not add up", id="wrong sum"
        ),
        pytest.param(plain(completion(nearside=None)), expectation(), "no report", id="no report"),
        pytest.param(plain(completion(), content_type="text/plain"), expectation(), "content type", id="plain text"),
        pytest.param(plain(completion(), nearside_colo=""), expectation(), "no header nearside-colo", id="no colo"),
        pytest.param(plain(completion(), cache_status=""), expectation(), "no header cache-status", id="no cache"),
        pytest.param(plain(completion(), nearside_model=""), expectation(), "no header nearside-model", id="no model"),
        pytest.param(plain(completion(), x_request_id="other"), expectation(), "x-request-id", id="other request"),
        pytest.param(plain(error_body(), 500), expectation(), "status 500", id="500"),
        pytest.param(plain(error_body(), 504), expectation(), "means 502", id="wrong status"),
        pytest.param(plain(error_body(), 400), expectation(), "status 400", id="caller blamed"),
        pytest.param(plain(error_body(), 502), expectation(must_answer=True), "answer was possible", id="gave up"),
        pytest.param(plain(b"<html>", 502), expectation(), "no OpenAI error", id="page as error"),
        pytest.param(plain({"error": "bad"}, 502), expectation(), "no OpenAI error", id="text as error"),
        pytest.param(plain({"error": {"message": "x"}}, 502), expectation(), "error object with", id="few keys"),
        pytest.param(plain(error_body(message=""), 502), expectation(), "without message", id="says nothing"),
        pytest.param(plain(error_body(code=3040), 502), expectation(), "code or param", id="code as number"),
        pytest.param(
            plain(error_body(), 502), expectation(retry_after="7"), "Retry-After is None", id="no Retry-After"
        ),
        pytest.param(stream(*GOOD), STREAMED, "[DONE] 0 times", id="no DONE"),
        pytest.param(stream(*GOOD, "[DONE]", "[DONE]"), STREAMED, "[DONE] 2 times", id="two DONE"),
        pytest.param(stream(*GOOD[:3], "[DONE]", LAST), STREAMED, "not last", id="behind DONE"),
        pytest.param(stream("[DONE]"), STREAMED, "without any chunk", id="only DONE"),
        pytest.param(stream(FIRST, FINISH, LAST, "[DONE]"), STREAMED, "only a part", id="lost end"),
        pytest.param(stream(FIRST, LAST, "[DONE]"), STREAMED, "without a finish reason", id="no finish"),
        pytest.param(stream(FIRST, FINISH, SECOND, LAST, "[DONE]"), STREAMED, "goes on after", id="text after finish"),
        pytest.param(stream(FIRST, SECOND, FINISH, FINISH, LAST, "[DONE]"), STREAMED, "goes on", id="two finishes"),
        pytest.param(stream(SECOND, FINISH, LAST, "[DONE]"), STREAMED, "begin with the role", id="no role"),
        pytest.param(stream(*GOOD, "[DONE]", tail=b"data: {"), STREAMED, "no event", id="half a line"),
        pytest.param(stream(FIRST, "{oops", *GOOD[1:], "[DONE]"), STREAMED, "no event", id="garbage"),
        pytest.param(stream(FIRST, tail=b"event: x\n\n"), STREAMED, "no event", id="event of another API"),
        pytest.param(stream(FIRST, ERROR), STREAMED, "[DONE] 0 times", id="error without DONE"),
        pytest.param(stream(FIRST, ERROR, ERROR, "[DONE]"), STREAMED, "2 error events", id="two errors"),
        pytest.param(stream(FIRST, ERROR, SECOND, "[DONE]"), STREAMED, "follows the error", id="text after error"),
        pytest.param(
            stream(FIRST, {**FINISH, **error_body()}, "[DONE]"),
            STREAMED,
            "without finish_reason error",
            id="clean error",
        ),
        pytest.param(stream(FIRST, chunk({}, "error"), "[DONE]"), STREAMED, "without an error object", id="bare error"),
        pytest.param(stream(FIRST, ERROR, "[DONE]"), ANSWERED, "answer was possible", id="no fallback"),
        pytest.param(
            stream(ERROR, "[DONE]"),
            replace(ANSWERED, may_break=True),
            "answer was possible",
            id="no fallback before content",
        ),
        pytest.param(
            stream(chunk({"role": "assistant", "content": "Else"}, nearside=REPORT), ERROR, "[DONE]"),
            STREAMED,
            "not the beginning",
            id="other text, then error",
        ),
        pytest.param(stream(*GOOD[:3], "[DONE]"), STREAMED, "no report on the last", id="no last report"),
        pytest.param(
            stream(chunk({"role": "assistant"}), *GOOD, "[DONE]"), STREAMED, "on the first", id="no first report"
        ),
        pytest.param(
            stream(FIRST, {**SECOND, "id": "other"}, *GOOD[2:], "[DONE]"), STREAMED, "different ids", id="two ids"
        ),
        pytest.param(
            stream(FIRST, {**SECOND, "created": "1"}, *GOOD[2:], "[DONE]"), STREAMED, "chunk", id="chunk schema"
        ),
        pytest.param(
            stream(*GOOD[:3], {**FINISH, "choices": [], "nearside": REPORT}, "[DONE]"),
            STREAMED,
            "usage was asked for",
            id="usage left out",
        ),
        pytest.param(
            stream(*GOOD, "[DONE]", nearside_model=""), STREAMED, "no header nearside-model", id="model unknown"
        ),
        pytest.param(plain(completion()), STREAMED, "content type of a stream", id="plain answer to a stream"),
    ],
)
def test_unlawful(transcript: Transcript, expected: Expectation, complaint: str) -> None:
    """Each breach of the law is named."""
    assert any(complaint in violation for violation in violations(transcript, expected))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        pytest.param({"trouble": "no end within 40 s"}, "no end within 40 s", id="hang"),
        pytest.param({"next_status": 500}, "next request on the connection got 500", id="next request fails"),
        pytest.param({"next_status": None}, "another connection", id="connection closed"),
    ],
)
def test_unlawful_connections(change: dict[str, Any], complaint: str) -> None:
    """An answer that is right in itself breaks the law when it never ends or spoils what comes after it."""
    transcript = replace(plain(completion()), **change)

    assert any(complaint in violation for violation in violations(transcript, expectation()))


def case_of(predicate: Callable[[Fault, Route], bool]) -> Result:
    cases = (case for groups in lanes().values() for group in groups for case in group.cases)
    case = next(case for case in cases if predicate(case.fault, case.route) and case.mode == "plain")
    model = str(case.body("?")["model"])
    text = complete_answers(case, "?", model)[0]
    return Result(case, "?", plain(completion(text), nearside_model=model), has_struck=True)


def test_broken_answers_that_stay_are_found() -> None:
    """The same question, asked again, must get a whole answer; and a fault that never struck proves nothing."""
    result = case_of(lambda fault, route: fault.id == "cut-at-once")

    assert result.violations == []
    assert replace(result, repeated=result.transcript).violations == []
    again = replace(
        result, repeated=plain(completion("All"), nearside_model=result.transcript.headers["nearside-model"])
    )
    assert any(violation.startswith("asked again: ") for violation in again.violations)
    assert replace(result, has_struck=False).violations == ["the fault did not strike, so nothing is proven"]


@pytest.mark.parametrize(
    ("first", "is_run_again"),
    [
        pytest.param({}, False, id="lawful"),
        pytest.param({"transcript": plain(error_body(), 504)}, True, id="out of time"),
        pytest.param({"has_struck": False}, True, id="not struck"),
        pytest.param({"transcript": plain(error_body(), 500)}, False, id="500"),
        pytest.param({"transcript": plain({"error": "late"}, 504)}, False, id="out of time, and no proper error"),
        pytest.param({"transcript": plain(completion("All"))}, False, id="half an answer"),
    ],
)
def test_who_is_run_again(first: dict[str, Any], is_run_again: bool) -> None:
    """A cell that was out of time and has no other fault; the second result is judged, good or bad."""
    good = case_of(lambda fault, route: fault.id == "cut-at-once")
    bad = replace(good, has_struck=False)
    result = replace(good, **first)

    assert without_stops([result], lambda faults: [good]) == [good if is_run_again else result]
    assert without_stops([result], lambda faults: [bad]) == [bad if is_run_again else result]


def test_page_names_every_violation() -> None:
    """A row a fault, a table a route, and what is against the law by its case and reason."""
    good = case_of(lambda fault, route: fault.id == "refuse")
    bad = replace(good, has_struck=False)
    run = Run("scripts/faults", 1.0, None, {"date": "today", "cores": 2, "cpu": "any", "versions": {"python": "3"}})

    assert "1 cases, 0 against the law" in fault_matrix([good], run)
    page = fault_matrix([bad], run)
    assert "1 cases, 1 against the law" in page
    assert "| refuse | ✗ answered by llama-3.2-3b-instruct |" in page
    assert "refuse edge-native plain alone: the fault did not strike" in page

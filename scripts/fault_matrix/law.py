"""The law that every answer must keep, whatever fails behind the gateway. Pure: a transcript in, violations out.

A checker that can't fail proves nothing: tests/edge/test_fault_matrix.py feeds it an example of every violation.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel, ValidationError

from scripts.fault_matrix.transcript import (
    DONE,
    Stream,
    Transcript,
    choices_of,
    read_json,
    read_stream,
    report_of,
    shown,
)

LAW = (
    "Every answer ends, within its deadline, and the next request on the same connection is answered.",
    "A plain answer is a complete completion with 200, or an OpenAI error object with the right status: 502, 503, "
    "504, or 429 where the upstream is busy, with its Retry-After. Never 500.",
    "A stream fails with such a status before its first content, or it is 200 and ends with `[DONE]`, exactly once "
    "and last: role first, one finish reason per choice, nothing behind it.",
    "A stream that breaks says so: exactly one error event with finish_reason `error`, before `[DONE]`. What came "
    "before it is the beginning of the answer of the model that is named. A stream without an error event is the "
    "whole answer of that model.",
    "A fault before the first content is nobody's business as long as another upstream can answer: the caller gets a "
    "complete answer.",
    "Every success body and every chunk validates against the official SDK's schemas, in strict mode.",
    "Every answer carries nearside-colo, x-request-id, nearside-route-reason, server-timing and cache-status, and who "
    "answered: in the headers or, where these leave before a model that thinks long, in the last chunk's report.",
    "Nothing broken stays: the same question, asked again without faults, gets a complete answer.",
)

REQUIRED_HEADERS = ("nearside-colo", "nearside-route-reason", "server-timing", "cache-status")
ANSWER_HEADERS = ("nearside-served-by", "nearside-model")


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the law asks of one request.

    complete: model id -> the texts that are whole answers of this model.
    statuses: of an error, when there may be one. retry_after: what the upstream said, where it did.
    must_answer: another upstream can answer, or the fault is harmless.
    may_break: but the fault strikes only after the first content.
    """

    is_stream: bool
    complete: Callable[[str], tuple[str, ...]]
    statuses: frozenset[int]
    retry_after: str | None = None
    must_answer: bool = False
    may_break: bool = False


def violations(transcript: Transcript, expected: Expectation) -> list[str]:
    """Each as one phrase; empty when the law is kept."""
    if transcript.trouble is not None:
        return [transcript.trouble]
    found = [*_headers(transcript), *_next_request(transcript)]
    if transcript.status != 200:
        return [*found, *_error_answer(transcript, expected)]
    if expected.is_stream:
        return [*found, *_stream(transcript, expected)]
    return [*found, *_plain(transcript, expected)]


def outcome(transcript: Transcript) -> str:
    """What the caller saw, in a few words."""
    if transcript.trouble is not None:
        return transcript.trouble
    if transcript.status != 200:
        error = _object(_object(read_json(transcript.body)).get("error"))
        kept = transcript.headers.get("retry-after")
        return f"{transcript.status} {error.get('code')}" + (f", retry after {kept} s" if kept else "")
    if not transcript.is_stream:
        return f"answered by {_short(_served_model(transcript, _object(read_json(transcript.body))))}"
    stream = read_stream(transcript.body)
    if stream.errors:
        code = _object(stream.errors[0].get("error")).get("code")
        return f"error event {code} {'after content' if stream.text else 'before content'}"
    return f"answered by {_short(_served_model(transcript, stream.chunks[-1] if stream.chunks else {}))}"


def _headers(transcript: Transcript) -> Iterator[str]:
    for name in REQUIRED_HEADERS:
        if not transcript.headers.get(name):
            yield f"no header {name}"
    if transcript.headers.get("x-request-id") != transcript.request_id:
        yield "x-request-id is not the caller's"


def _next_request(transcript: Transcript) -> Iterator[str]:
    if transcript.next_status is None:
        yield "the next request needed another connection"
    elif transcript.next_status != 200:
        yield f"the next request on the connection got {transcript.next_status}"


def _error_answer(transcript: Transcript, expected: Expectation) -> Iterator[str]:
    if expected.must_answer:
        yield f"status {transcript.status} although a complete answer was possible"
    elif transcript.status not in expected.statuses:
        allowed = " or ".join(map(str, sorted(expected.statuses)))
        yield f"status {transcript.status} where the fault means {allowed}"
    if not transcript.headers.get("content-type", "").startswith("application/json"):
        yield "an error that is not JSON by its content type"
    yield from _error_object(read_json(transcript.body))
    if expected.retry_after is not None and transcript.headers.get("retry-after") != expected.retry_after:
        yield f"Retry-After is {transcript.headers.get('retry-after')}, the upstream said {expected.retry_after}"


def _error_object(body: object) -> Iterator[str]:
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        yield "no OpenAI error object"
        return
    if sorted(error) != ["code", "message", "param", "type"]:
        yield f"an error object with {', '.join(sorted(error))}"
    if not all(isinstance(error.get(name), str) and error[name] for name in ("message", "type")):
        yield "an error without message or type"
    if not all(isinstance(error.get(name), str | None) for name in ("code", "param")):
        yield "an error whose code or param is not text"


def _plain(transcript: Transcript, expected: Expectation) -> Iterator[str]:
    if not transcript.headers.get("content-type", "").startswith("application/json"):
        yield "a completion that is not JSON by its content type"
    body = read_json(transcript.body)
    if not isinstance(body, dict):
        yield f"200 with a body that is not a JSON object: {shown(transcript.body)}"
        return
    if "error" in body:
        yield "200 with an error object"
    yield from _schema(ChatCompletion, body, "completion")
    yield from _usage(body.get("usage"))
    for name in ANSWER_HEADERS:
        if not transcript.headers.get(name):
            yield f"no header {name}"
    if not report_of(body):
        yield "no report in the body"
    messages = [_object(choice.get("message")) for choice in choices_of(body)]
    text = "".join(message.get("content") or "" for message in messages)
    yield from _whole(text, _served_model(transcript, body), expected)


def _stream(transcript: Transcript, expected: Expectation) -> Iterator[str]:
    if not transcript.is_stream:
        yield "200 without the content type of a stream"
    stream = read_stream(transcript.body)
    yield from (f"a line that is no event: {stray}" for stray in stream.strays)
    yield from _ending(stream)
    if not stream.chunks:
        yield "a stream without any chunk"
        return
    yield from _chunks(stream)
    yield from _reports(transcript, stream)
    yield from _told(transcript, stream, expected)


def _ending(stream: Stream) -> Iterator[str]:
    dones = stream.events.count(DONE)
    if dones != 1:
        yield f"[DONE] {dones} times"
    if not stream.events or stream.events[-1] != DONE:
        yield "[DONE] is not last"
    errors = stream.errors
    if len(errors) > 1:
        yield f"{len(errors)} error events"
    if errors and stream.chunks[-1] is not errors[-1]:
        yield "something follows the error event"
    for chunk in errors:
        yield from _error_object({"error": chunk["error"]})
        if [choice.get("finish_reason") for choice in choices_of(chunk)] != ["error"]:
            yield "an error event without finish_reason error"


def _chunks(stream: Stream) -> Iterator[str]:
    finished: dict[Any, str] = {}
    seen: set[Any] = set()
    for chunk in stream.chunks:
        yield from _schema(ChatCompletionChunk, _as_finished(chunk), "chunk")
        for choice in choices_of(chunk):
            index, delta = choice.get("index"), _object(choice.get("delta"))
            if index in finished:
                yield f"choice {index} goes on after its finish reason"
            if index not in seen and delta.get("role") != "assistant" and "error" not in chunk:
                yield f"choice {index} does not begin with the role"
            seen.add(index)
            if choice.get("finish_reason") is not None:
                finished[index] = choice["finish_reason"]
                if choice["finish_reason"] == "error" and "error" not in chunk:
                    yield "finish_reason error without an error object"
    if seen - set(finished):
        yield "a choice without a finish reason"
    if len({chunk.get("id") for chunk in stream.chunks if "error" not in chunk or stream.text}) > 1:
        yield "chunks with different ids"


def _reports(transcript: Transcript, stream: Stream) -> Iterator[str]:
    first, last = report_of(stream.chunks[0]), report_of(stream.chunks[-1])
    if not first:
        yield "no report on the first chunk"
    if not last:
        yield "no report on the last chunk"
    if not stream.text:
        return
    # Headers that left before the first content could not know who would answer.
    left_early = "ttft" not in transcript.headers.get("server-timing", "")
    for name, fact in zip(ANSWER_HEADERS, ("served_by", "model"), strict=True):
        if not transcript.headers.get(name) and not (left_early and last.get(fact)):
            yield f"no header {name}"


def _told(transcript: Transcript, stream: Stream, expected: Expectation) -> Iterator[str]:
    """Whether the text is what the stream claims that it is."""
    model = _served_model(transcript, stream.chunks[-1])
    if not stream.errors:
        yield from _whole(stream.text, model, expected)
        usage_chunks = [chunk for chunk in stream.chunks if chunk.get("usage") is not None]
        if len(usage_chunks) != 1 or usage_chunks[0] is not stream.chunks[-1]:
            yield "usage was asked for and is not on exactly the last chunk"
        else:
            yield from _usage(usage_chunks[0]["usage"])
        return
    if expected.must_answer and not (expected.may_break and stream.text):
        yield "an error event although a complete answer was possible"
    if stream.text and not any(whole.startswith(stream.text) for whole in expected.complete(model or "")):
        yield f"what came before the error is not the beginning of an answer of {model}"


def _whole(text: str, model: str | None, expected: Expectation) -> Iterator[str]:
    if not model:
        yield "nobody is named as who answered"
    elif text not in (answers := expected.complete(model)):
        is_part = any(whole.startswith(text) for whole in answers)
        yield f"{'only a part' if is_part else 'not an answer'} of {model}, and it looks complete"


def _usage(usage: object) -> Iterator[str]:
    if not isinstance(usage, dict):
        yield "no usage"
        return
    yield from _schema(CompletionUsage, usage, "usage")
    if usage.get("total_tokens") != (usage.get("prompt_tokens") or 0) + (usage.get("completion_tokens") or 0):
        yield "usage that does not add up"


def _schema(model: type[BaseModel], body: Mapping[str, Any], what: str) -> Iterator[str]:
    try:
        model.model_validate(body, strict=True)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        yield f"a {what} that the SDK's schema refuses: {'.'.join(map(str, first['loc']))}: {first['msg']}"


def _as_finished(chunk: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's schema has no finish reason for what broke; the rest of an error event must still be a chunk."""
    if "error" not in chunk:
        return chunk
    return {**chunk, "choices": [{**choice, "finish_reason": "stop"} for choice in choices_of(chunk)]}


def _served_model(transcript: Transcript, body: Mapping[str, Any]) -> str | None:
    return transcript.headers.get("nearside-model") or report_of(body).get("model")


def _short(model: str | None) -> str:
    return (model or "nobody").rsplit("/", 1)[-1]


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}

"""An upstream that answers 200 with something that is no answer: the caller gets a strict body or a proper 502."""

import json
from typing import Any

import httpx
import pytest
from openai.types.chat import ChatCompletionChunk

from tests.clients import schemas
from tests.clients.echo import HEAD, Echo, chunk, completion, event_stream
from tests.edge.control import chat, easy, events

pytestmark = pytest.mark.workerd

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def choice(**changes: Any) -> dict[str, Any]:
    """A completion whose only choice has these fields changed, or left out where the value is `...`."""
    entry = {**completion({"content": "Hi"})["choices"][0], **changes}
    return completion({}, choices=[{name: value for name, value in entry.items() if value is not ...}])


def without(name: str) -> dict[str, Any]:
    whole = completion({"content": "Hi"})
    del whole[name]
    return whole


PLAIN = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"null", id="null"),
    pytest.param(b"[]", id="list"),
    pytest.param(b'"text"', id="text"),
    pytest.param(b"<html>Bad gateway</html>", id="HTML"),
    pytest.param(b'{"choices": [', id="truncated"),
    pytest.param(b'{"a":' * 5000 + b"1" + b"}" * 5000, id="deep"),
    pytest.param(b"\xff\xfe", id="not UTF-8"),
    *(
        pytest.param(json.dumps(body).encode(), id=name)
        for name, body in {
            "empty object": {},
            "no choices": completion({}, choices=[]),
            "choices is null": completion({}, choices=None),
            "choices is an object": completion({}, choices={}),
            "choice is text": completion({}, choices=["Hi"]),
            "error with status 200": {"error": {"message": "overloaded"}},
            "error is text": {"error": "overloaded"},
            "no message": choice(message=...),
            "message is text": choice(message="Hi"),
            "content is a number": completion({"content": 5}),
            "content is a list": completion({"content": [{"type": "text", "text": "Hi"}]}),
            "no content at all": completion({}),
            "content is null": completion({"content": None}),
            "role is missing": choice(message={"content": "Hi"}),
            "role is user": choice(message={"role": "user", "content": "Hi"}),
            "role is a number": choice(message={"role": 5, "content": "Hi"}),
            "no finish reason": choice(finish_reason=...),
            "finish reason is null": choice(finish_reason=None),
            "finish reason is a number": choice(finish_reason=5),
            "finish reason is unknown": choice(finish_reason="eos_token"),
            "no index": choice(index=...),
            "index is text": choice(index="0"),
            "logprobs is text": choice(logprobs="x"),
            "calls are text": completion({"content": None, "tool_calls": "f"}),
            "call is text": completion({"content": None, "tool_calls": ["f"]}),
            "call without an id": completion({"content": None, "tool_calls": [{**CALL, "id": None}]}),
            "call without a function": completion({"content": None, "tool_calls": [{"id": "1", "type": "function"}]}),
            "call without a type": completion({"content": None, "tool_calls": [{**CALL, "type": None}]}),
            "arguments are an object": completion(
                {"content": None, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": {"a": 1}}}]}
            ),
            "arguments are missing": completion({"content": None, "tool_calls": [{**CALL, "function": {"name": "f"}}]}),
            "no id": without("id"),
            "id is a number": completion({"content": "Hi"}, id=5),
            "no object": without("object"),
            "another object": completion({"content": "Hi"}, object="text_completion"),
            "no created": without("created"),
            "created is text": completion({"content": "Hi"}, created="now"),
            "created is a fraction": completion({"content": "Hi"}, created=1.5),
            "no model": without("model"),
            "model is a number": completion({"content": "Hi"}, model=5),
            "no usage": without("usage"),
            "usage is text": completion({"content": "Hi"}, usage="many"),
            "usage of texts": completion({"content": "Hi"}, usage={"prompt_tokens": "1", "completion_tokens": "1"}),
            "usage details are text": completion(
                {"content": "Hi"},
                usage={
                    "prompt_tokens": 1,
                    "completion_tokens": 1,
                    "total_tokens": 2,
                    "prompt_tokens_details": "x",
                    "completion_tokens_details": [],
                },
            ),
            "total is wrong": completion(
                {"content": "Hi"}, usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": "x"}
            ),
            "fingerprint is a number": completion({"content": "Hi"}, system_fingerprint=5),
            "service tier is a number": completion({"content": "Hi"}, service_tier=5),
        }.items()
    ),
]


TRANSLATED = ["null", "no choices", "content is null", "no finish reason", "no index", "finish reason is unknown"]
TRANSLATED += ["call without a function", "no id", "created is text", "model is a number", "usage details are text"]


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        pytest.param(path, case.values[0], id=f"{path} {case.id}")
        for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses")
        for case in PLAIN
        if path == "/v1/chat/completions" or case.id in TRANSLATED
    ],
)
def test_plain_garbage_never_reaches_the_caller(keyed: httpx.Client, echo: Echo, path: str, answer: bytes) -> None:
    """Either what is wrong was mended, and the body is strict, or it is a 502 that says so; never a 500."""
    echo.answer = answer
    body: dict[str, Any] = {
        "/v1/chat/completions": chat(easy()),
        "/v1/completions": {"prompt": easy()},
        "/v1/responses": {"input": easy()},
    }[path]

    response = keyed.post(path, json={**body, "model": "gpt-4o-mini"})

    if response.status_code == 200:
        read = {
            "/v1/chat/completions": schemas.chat,
            "/v1/completions": schemas.text,
            "/v1/responses": schemas.responses,
        }[path]
        read(response)
    else:
        assert response.status_code == 502
        assert schemas.error(response).type == "upstream_error"


def delta(**changes: Any) -> bytes:
    """A good stream whose middle chunk has its choice changed."""
    middle = chunk({"content": "Hi"})
    entry = {**middle["choices"][0], **changes}
    middle["choices"] = [{name: value for name, value in entry.items() if value is not ...}]
    return event_stream(chunk({"role": "assistant", "content": ""}), middle, chunk({}, "stop"))


def whole(**changes: Any) -> bytes:
    """A good stream whose chunks all have these fields changed, or left out where the value is `...`."""
    chunks = [chunk({"role": "assistant", "content": ""}), chunk({"content": "Hi"}), chunk({}, "stop")]
    changed = [{**each, **changes} for each in chunks]
    return event_stream(*({k: v for k, v in each.items() if v is not ...} for each in changed))


STREAMS = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"data: [DONE]\n\n", id="nothing but the end"),
    pytest.param(b"data: null\n\ndata: [DONE]\n\n", id="null"),
    pytest.param(b"data: <html>\n\n", id="HTML"),
    pytest.param(b'data: {"error": {"message": "overloaded"}}\n\n', id="error"),
    pytest.param(delta(delta="Hi"), id="delta is text"),
    pytest.param(delta(delta=None), id="delta is null"),
    pytest.param(delta(delta={"content": 5}), id="content is a number"),
    pytest.param(delta(delta={"content": "Hi", "role": 5}), id="role is a number"),
    pytest.param(delta(delta={"content": "Hi", "role": "bot"}), id="role is unknown"),
    pytest.param(delta(delta={"content": "Hi", "function_call": "f"}), id="function call is text"),
    pytest.param(delta(delta={"tool_calls": "f"}), id="calls are text"),
    pytest.param(delta(delta={"tool_calls": [{"index": "0"}]}), id="index of a call is text"),
    pytest.param(delta(delta={"tool_calls": [{**CALL}]}), id="call without an index"),
    pytest.param(delta(delta={"tool_calls": [{**CALL, "index": 0, "type": 5}]}), id="type of a call is a number"),
    pytest.param(
        delta(delta={"tool_calls": [{**CALL, "index": 0, "function": {"name": "f", "arguments": {"a": 1}}}]}),
        id="arguments are an object",
    ),
    pytest.param(delta(index="0"), id="index is text"),
    pytest.param(delta(index=...), id="no index"),
    pytest.param(delta(finish_reason=...), id="no finish reason yet"),
    pytest.param(delta(finish_reason="eos_token"), id="finish reason is unknown"),
    pytest.param(delta(finish_reason=5), id="finish reason is a number"),
    pytest.param(delta(logprobs="x"), id="logprobs is text"),
    pytest.param(whole(id=...), id="no id"),
    pytest.param(whole(id=5), id="id is a number"),
    pytest.param(whole(object=...), id="no object"),
    pytest.param(whole(object="chat.completion"), id="another object"),
    pytest.param(whole(created=...), id="no created"),
    pytest.param(whole(created="now"), id="created is text"),
    pytest.param(whole(model=...), id="no model"),
    pytest.param(whole(model=5), id="model is a number"),
    pytest.param(whole(usage="x"), id="usage is text"),
    pytest.param(whole(system_fingerprint=5), id="fingerprint is a number"),
    pytest.param(json.dumps(completion({"content": "Hi"})).encode(), id="a plain body"),
    pytest.param(
        event_stream(
            chunk({"role": "assistant", "content": "Hi"}), chunk({}, "stop"), {**HEAD, "choices": [], "usage": {"x": 1}}
        ),
        id="usage without counts",
    ),
]


@pytest.mark.parametrize("answer", STREAMS)
def test_streamed_garbage_never_reaches_the_caller(keyed: httpx.Client, echo: Echo, answer: bytes) -> None:
    """Strict chunks to the end; or strict chunks, one error and the end; or a 502 before anything was sent."""
    echo.answer = answer

    response = keyed.post("/v1/chat/completions", json=chat(easy(), model="gpt-4o-mini", stream=True))

    if response.status_code != 200:
        assert response.status_code == 502
        assert schemas.error(response).type == "upstream_error"
        return
    *found, done = events(response)
    assert done == "[DONE]"
    failed = [event for event in found if "error" in event]
    assert failed in ([], found[-1:])
    for event in failed:
        assert event["choices"][0].pop("finish_reason") == "error"
        schemas.ErrorBody.model_validate_json(json.dumps(event), strict=True)
    for event in found:
        ChatCompletionChunk.model_validate_json(json.dumps(event), strict=True)

"""Every documented field of every endpoint with a wrong type or out of range: 400, and `param` is its name."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.clients import schemas
from tests.edge.control import chat

pytestmark = pytest.mark.workerd

RIGHT: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": chat("Hi"),
    "/v1/route": chat("Hi"),
    "/v1/completions": {"prompt": "Hi"},
    "/v1/completions/stream": {"prompt": "Hi"},
    "/v1/completions/batch": {"prompts": ["Hi"]},
    "/v1/responses": {"input": "Hi"},
    "/v1/embeddings": {"input": "Hi", "model": "auto"},
    "/": {"prompt": "Hi"},
}
FUNCTION = {"type": "function", "function": {"name": "f"}}

SHARED: dict[str, list[Any]] = {
    "model": [5, [], {}, True, ""],
    "temperature": ["1", -0.1, 2.1, [], {}, True],
    "top_p": ["1", -0.1, 1.1, [], True],
    "user": [5, [], {}, True],
}
OURS: dict[str, list[Any]] = {
    "use_cache": ["x", 1, []],
    "max_latency_ms": ["x", 0, -1, True],
    "optimize_prompt": ["x", 1],
    "cascade": ["x", 1],
    "residency": [5, "", "EU!", []],
}
SAMPLING: dict[str, list[Any]] = {
    "max_tokens": ["5", 1.5, 0, -1, 10**30, True, []],
    "n": ["1", 0, 129, 1.5, True],
    "stop": [5, [5], ["a"] * 5, {}, True],
    "seed": ["1", 1.5, [], True],
    "presence_penalty": ["1", -2.1, 2.1, True],
    "frequency_penalty": ["1", -2.1, 2.1, True],
    "logit_bias": ["x", [], {"1": "x"}, {"1": 101}],
    "stream": ["x", 1, [], {}],
    "stream_options": [5, "x", [], {"include_usage": "x"}],
}
MODERN: dict[str, list[Any]] = {
    "metadata": ["x", [], {"a": 1}, {"a": None}, {str(i): "x" for i in range(17)}],
    "store": ["x", 1],
    "service_tier": [5, []],
    "parallel_tool_calls": ["x", 1],
    "top_logprobs": ["x", -1, 21, True],
    "prompt_cache_key": [5],
    "safety_identifier": [5],
}


def briefly(*groups: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Two values for each field: where the code that checks them is that of chats."""
    return {name: values[:2] for group in groups for name, values in group.items()}


CHAT: dict[str, list[Any]] = {
    **SHARED,
    **OURS,
    **SAMPLING,
    **MODERN,
    "messages": [None, 5, "x", {}, [], [5], ["x"], [None], [[]], [{}], [{"role": "user"}], [{"content": "x"}]],
    "max_completion_tokens": ["5", 0, 1.5, True],
    "logprobs": ["x", 1],
    "reasoning_effort": [5],
    "verbosity": [5],
    "modalities": ["text", 5, [5]],
    "audio": [5, "x"],
    "prediction": [5, "x"],
    "web_search_options": [5, "x"],
    "response_format": [
        "json", 5, [], {}, {"type": "x"}, {"type": 5}, {"type": "json_schema"},
        {"type": "json_schema", "json_schema": 5}, {"type": "json_schema", "json_schema": {}},
        {"type": "json_schema", "json_schema": {"name": 5}}, {"type": "json_schema", "json_schema": {"name": "a b"}},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": 5}},
        {"type": "json_schema", "json_schema": {"name": "a", "strict": "x"}},
    ],
    "tools": [
        "x", 5, {}, [5], [{}], [{"type": 5}], [{"type": "function"}], [{"type": "function", "function": 5}],
        [{"type": "function", "function": {}}], [{"type": "function", "function": {"name": 5}}],
        [{"type": "function", "function": {"name": "a b"}}],
        [{"type": "function", "function": {"name": "f", "parameters": "x"}}], [FUNCTION, {}],
    ],
    "tool_choice": [
        5, [], "sometimes", {}, {"type": "function"}, {"type": "function", "function": {}},
        {"type": "function", "function": {"name": 5}},
    ],
    "functions": [5, {}, [5], [{}], [{"name": 5}]],
    "function_call": [5, []],
}  # fmt: skip
TEXT: dict[str, list[Any]] = {
    **briefly(SHARED, OURS, SAMPLING),
    "prompt": [None, 5, {}, [], [5], [[5]], [None], ["x", 5], True],
    "best_of": ["x", 0, 21, 2],
    "echo": ["x", 1, True],
    "logprobs": ["x", -1, 6, True],
    "suffix": [5, "x"],
}
FIELDS: dict[str, dict[str, list[Any]]] = {
    "/v1/chat/completions": CHAT,
    "/v1/route": briefly(CHAT),
    "/v1/completions": TEXT,
    "/v1/completions/stream": briefly({name: values for name, values in TEXT.items() if name != "stream"}),
    "/v1/completions/batch": {
        **briefly({name: values for name, values in TEXT.items() if name != "prompt"}),
        "prompts": [None, 5, "x", {}, [], [5], [None]],
        "stream": ["x", True],
    },
    "/v1/responses": {
        **briefly(SHARED, OURS),
        **MODERN,
        "input": [
            None, 5, {}, [], [5], [{}], [{"role": "user"}], [{"content": "x"}], [{"role": 5, "content": "x"}],
            [{"role": "king", "content": "x"}], [{"role": "user", "content": 5}], [{"role": "user", "content": [5]}],
            [{"role": "user", "content": [{"type": "input_text"}]}],
            [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}], [{"type": 5}],
            [{"type": "function_call_output", "call_id": "1", "output": "x"}],
        ],
        "instructions": [5, [], {}],
        "max_output_tokens": ["x", 0, 1.5, True],
        "stream": ["x", 1],
        "stream_options": [5, "x"],
        "text": [
            "x", 5, {"format": 5}, {"format": {}}, {"format": {"type": "x"}}, {"format": {"type": "json_schema"}},
            {"format": {"type": "json_schema", "name": "a"}}, {"format": {"type": "json_schema", "name": "a b"}},
            {"verbosity": 5},
        ],
        "tools": ["x", [5], [FUNCTION]],
        "tool_choice": [5, []],
        "truncation": [5, "x"],
        "reasoning": [5, "x", {"effort": 5}, {"summary": 5}],
        "include": ["x", [5]],
        "max_tool_calls": ["x"],
        "previous_response_id": [5, "resp_1"],
        "conversation": [5, "conv_1"],
        "background": ["x", True],
        "prompt": [5, {"id": "p"}],
    },
    "/v1/embeddings": {
        "input": [None, 5, {}, [], [5], [[5]], [None], "", [""], ["x", 5], True, ["x"] * 2049],
        "model": [5, [], {}, True],
        "dimensions": ["x", 0, 12, 1.5, True],
        "encoding_format": [5, "x", []],
        "user": [5, []],
    },
    "/": {**briefly(SHARED), "prompt": [None, 5, {}, [], ""], "max_tokens": ["x", 0], "stream": ["x", True]},
}  # fmt: skip


def cases() -> Iterator[Any]:
    for path, fields in FIELDS.items():
        for name, values in fields.items():
            yield pytest.param(path, name, values, id=f"{path} {name}")


@pytest.mark.parametrize(("path", "name", "values"), list(cases()))
def test_wrong_field_is_named(http: httpx.Client, path: str, name: str, values: list[Any]) -> None:
    """Whatever is wrong about it, and whatever lies within it; the message names it as well."""
    for value in values:
        extra = {"tools": [FUNCTION]} if name == "tool_choice" and path.startswith("/v1/chat") else {}
        content = json.dumps({**RIGHT[path], **extra, name: value})

        response = http.post(path, content=content.encode())

        assert response.status_code == 400 or (name, response.status_code) == ("model", 404), (value, response.text)
        found = schemas.error(response)
        assert found.type == "invalid_request_error"
        assert found.param is not None, value
        assert found.param == name or found.param.startswith((f"{name}.", f"{name}[")), (value, found)
        assert found.code, value


@pytest.mark.parametrize(
    ("message", "param"),
    [
        pytest.param({"role": 5, "content": "x"}, "role", id="role is a number"),
        pytest.param({"role": "king", "content": "x"}, "role", id="unknown role"),
        pytest.param({"content": "x"}, "role", id="no role"),
        pytest.param({"role": "user"}, "content", id="no content"),
        pytest.param({"role": "user", "content": None}, "content", id="content is null"),
        pytest.param({"role": "user", "content": 5}, "content", id="content is a number"),
        pytest.param({"role": "user", "content": {}}, "content", id="content is an object"),
        pytest.param({"role": "user", "content": [5]}, "content[0]", id="part is a number"),
        pytest.param({"role": "user", "content": [{}]}, "content[0].type", id="part without a type"),
        pytest.param({"role": "user", "content": [{"type": "smell"}]}, "content[0].type", id="unknown part"),
        pytest.param({"role": "user", "content": [{"type": "text"}]}, "content[0].text", id="text without text"),
        pytest.param({"role": "user", "content": [{"type": "text", "text": 5}]}, "content[0].text", id="text: number"),
        pytest.param(
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]},
            "content[1].image_url",
            id="image without an address",
        ),
        pytest.param(
            {"role": "user", "content": [{"type": "image_url", "image_url": "https://x"}]},
            "content[0].image_url",
            id="address is no object",
        ),
        pytest.param(
            {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
            "content[0].image_url.url",
            id="empty image",
        ),
        pytest.param({"role": "user", "content": "x", "name": 5}, "name", id="name is a number"),
        pytest.param({"role": "assistant", "tool_calls": "x"}, "tool_calls", id="calls are text"),
        pytest.param({"role": "assistant", "tool_calls": [{}]}, "tool_calls[0].id", id="call without an id"),
        pytest.param(
            {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]},
            "tool_calls[0].function.arguments",
            id="call without arguments",
        ),
        pytest.param(
            {"role": "assistant", "tool_calls": [{"id": 1, "function": {"name": "f", "arguments": ""}}]},
            "tool_calls[0].id",
            id="id of a call is a number",
        ),
        pytest.param(
            {"role": "assistant", "tool_calls": [{"id": "1", "type": "function"}]},
            "tool_calls[0].function",
            id="call without a function",
        ),
        pytest.param({"role": "tool", "content": "x", "tool_call_id": 5}, "tool_call_id", id="id is a number"),
        pytest.param({"role": "tool", "content": "x"}, "tool_call_id", id="result without an id"),
        pytest.param({"role": "function", "content": "x"}, "name", id="result without a name"),
        pytest.param({"role": "assistant", "content": "x", "refusal": 5}, "refusal", id="refusal is a number"),
    ],
)
def test_wrong_part_of_a_message_is_named(http: httpx.Client, message: dict[str, Any], param: str) -> None:
    """The path leads to the place, whichever message it is in."""
    body = {"messages": [{"role": "user", "content": "Hi"}, message]}

    response = http.post("/v1/chat/completions", json=body)

    assert response.status_code == 400
    assert schemas.error(response).param == f"messages[1].{param}"


@pytest.mark.parametrize("path", [path for path in RIGHT if path != "/"])
def test_required_field_is_missed_by_name(http: httpx.Client, path: str) -> None:
    """An empty object lacks exactly one thing that is required."""
    required = {"/v1/embeddings": "input", "/v1/responses": "input", "/v1/completions/batch": "prompts"}

    found = schemas.error(http.post(path, json={}))

    assert found.code == "missing_required_parameter"
    assert found.param == required.get(path, "messages" if "messages" in RIGHT[path] else "prompt")


@pytest.mark.parametrize("path", list(RIGHT))
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
def test_wrong_method(http: httpx.Client, method: str, path: str) -> None:
    """405 that tells the right one."""
    if (method, path) in (("GET", "/"), ("HEAD", "/")):
        pytest.skip("the page for people")

    response = http.request(method, path)

    assert response.status_code == 405
    assert "POST" in response.headers["allow"]
    if method != "HEAD":
        assert schemas.error(response).code == "method_not_allowed"


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/", "/v2/chat/completions", "/v1/chat/completions/", "/v1/images/generations", "/nope", "//"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_path(http: httpx.Client, method: str, path: str) -> None:
    """404, whatever is sent."""
    response = http.request(method, f"{http.base_url}".rstrip("/") + path, content=b"{}")

    assert response.status_code == 404
    assert schemas.error(response).code == "unknown_path"


@pytest.mark.parametrize("model_id", ["nope", "a/b/c", "%00", "%ff", "auto/", "..%2F..%2Fetc", "x" * 5000])
def test_unknown_model(http: httpx.Client, model_id: str) -> None:
    """Also with names that are none."""
    response = http.get(f"/v1/models/{model_id}")

    assert response.status_code == 404
    assert schemas.error(response).code == "model_not_found"


@pytest.mark.parametrize("path", list(RIGHT))
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="list"),
        pytest.param(b'"text"', id="text"),
        pytest.param(b"prompt=Hi&model=auto", id="form"),
        pytest.param(b"\x1f\x8b\x08\x00\x00\x00\x00\x00", id="gzip"),
        pytest.param('{"prompt": "Hi"}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'\xef\xbb\xbf{"a": ', id="byte order mark and half an object"),
    ],
)
def test_body_that_is_no_json_object(http: httpx.Client, path: str, content: bytes) -> None:
    """No field is at fault, so none is named."""
    response = http.post(path, content=content)

    found = schemas.error(response)
    assert response.status_code == 400
    assert found.type == "invalid_request_error"
    assert found.param is None
    assert found.code in ("invalid_json", "invalid_type")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x", None]
)
def test_json_under_another_content_type(http: httpx.Client, content_type: str | None) -> None:
    """JSON is what it is read as: `curl -d` sends it as a form."""
    headers = {} if content_type is None else {"content-type": content_type}

    response = http.post("/v1/chat/completions", content=json.dumps(chat("Hi")).encode(), headers=headers)

    schemas.chat(response)

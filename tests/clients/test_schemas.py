"""Every success body and every chunk of every endpoint is what the SDK's own models declare, strictly."""

from typing import Any

import httpx
import pytest

from tests.clients import schemas
from tests.edge.control import chat, easy, eventually_cached, hard

pytestmark = pytest.mark.workerd

TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"properties": {"city": {}}}}}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": SCHEMA}}

SIDES = [
    pytest.param("@cf/ibm-granite/granite-4.0-h-micro", {}, id="native edge model"),
    pytest.param("@cf/zai-org/glm-4.7-flash", {}, id="OpenAI-shaped edge model"),
    pytest.param("cloud", {}, id="cloud"),
]
ROUTES = [
    *SIDES,
    pytest.param("edge", {"n": 2}, id="edge, two choices"),
    pytest.param("cloud", {"n": 2}, id="cloud, two choices"),
    pytest.param("edge", {"max_tokens": 2}, id="edge, cut by the limit"),
    pytest.param("cloud", {"max_tokens": 2}, id="cloud, cut by the limit"),
    pytest.param("@cf/ibm-granite/granite-4.0-h-micro", {"max_tokens": 2}, id="native, cut by the limit"),
    pytest.param("edge", {"tools": TOOLS, "tool_choice": "required"}, id="edge, tool call"),
    pytest.param("cloud", {"tools": TOOLS, "tool_choice": "required"}, id="cloud, tool call"),
    pytest.param("edge", {"response_format": JSON_SCHEMA}, id="edge, schema"),
    pytest.param("cloud", {"response_format": JSON_SCHEMA}, id="cloud, schema"),
    pytest.param("cloud", {"stream_options": {"include_usage": True}}, id="cloud, usage asked for"),
    pytest.param("edge", {"stream_options": {"include_usage": True}}, id="edge, usage asked for"),
]


@pytest.mark.parametrize(("model", "fields"), ROUTES)
def test_chat_is_strict(http: httpx.Client, model: str, fields: dict[str, Any]) -> None:
    """Ids, choices, finish reasons and usage are all there and of the right type."""
    body = chat(easy(), model=model, **{k: v for k, v in fields.items() if k != "stream_options"})

    answer = schemas.chat(http.post("/v1/chat/completions", json=body))

    assert answer.id.startswith("chatcmpl-")
    assert answer.usage
    assert [choice.index for choice in answer.choices] == list(range(fields.get("n", 1)))


@pytest.mark.parametrize(("model", "fields"), ROUTES)
def test_chat_stream_is_strict(http: httpx.Client, model: str, fields: dict[str, Any]) -> None:
    """One id, one model, a role first in each choice, one finish reason in each; usage alone in its chunk."""
    chunks = schemas.chat_chunks(
        http.post("/v1/chat/completions", json=chat(easy(), model=model, stream=True, **fields))
    )

    assert len({(chunk.id, chunk.model, chunk.created) for chunk in chunks}) == 1
    for index in range(fields.get("n", 1)):
        mine = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert mine[0].delta.role == "assistant"
        assert [choice.finish_reason is not None for choice in mine] == [False] * (len(mine) - 1) + [True]
    with_usage = [chunk for chunk in chunks if chunk.usage]
    assert with_usage == (chunks[-1:] if "stream_options" in fields else [])
    assert all(not chunk.choices for chunk in with_usage)


@pytest.mark.parametrize("prompt", [pytest.param(easy(), id="edge"), pytest.param(hard(), id="cloud")])
@pytest.mark.parametrize("include_usage", [False, True])
def test_cache_hit_is_strict(http: httpx.Client, prompt: str, include_usage: bool) -> None:
    """Replayed plain and as a stream, whichever side had answered."""
    body = chat(f"{prompt} {include_usage}")
    eventually_cached(http, body)

    plain = http.post("/v1/chat/completions", json=body)
    options = {"stream": True, "stream_options": {"include_usage": include_usage}}
    stream = http.post("/v1/chat/completions", json={**body, **options})

    assert plain.headers["nearside-served-by"] == stream.headers["nearside-served-by"] == "exact-cache"
    answer, chunks = schemas.chat(plain), schemas.chat_chunks(stream)
    assert {chunk.id for chunk in chunks} == {answer.id}
    assert [chunk.usage for chunk in chunks if chunk.usage] == [answer.usage] * include_usage


@pytest.mark.parametrize(("model", "fields"), SIDES)
@pytest.mark.parametrize("prompts", [1, 3], ids=["one prompt", "three prompts"])
@pytest.mark.parametrize("n", [None, 2], ids=["one choice", "two choices"])
def test_text_completions_are_strict(
    http: httpx.Client, model: str, fields: dict[str, Any], prompts: int, n: int | None
) -> None:
    """Plain and streamed; the choices of a list of prompts count on."""
    if n and "granite" in model:
        model = "edge"
    body = {"model": model, "prompt": [easy() for _ in range(prompts)], "n": n, "max_tokens": 5}

    plain = schemas.text(http.post("/v1/completions", json=body))
    chunks = schemas.text_chunks(http.post("/v1/completions", json={**body, "stream": True, "use_cache": False}))

    indexes = list(range(prompts * (n or 1)))
    assert [choice.index for choice in plain.choices] == indexes
    assert sorted({choice.index for chunk in chunks for choice in chunk.choices}) == indexes
    finished = [choice.index for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert sorted(finished) == indexes


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        *SIDES,
        pytest.param("cloud", {"max_output_tokens": 2}, id="cut by the limit"),
        pytest.param(
            "edge",
            {
                "instructions": "Be short.", "temperature": 1, "top_p": 1, "user": "u", "metadata": {"a": "b"},
                "text": {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}},
            },
            id="everything that is echoed",
        ),
    ],
)  # fmt: skip
def test_responses_are_strict(http: httpx.Client, model: str, fields: dict[str, Any]) -> None:
    """The object and each typed event; events are numbered, and the last one holds the whole response."""
    body = {"model": model, "input": easy(), **fields}

    plain = schemas.responses(http.post("/v1/responses", json=body))
    events = schemas.responses_events(http.post("/v1/responses", json={**body, "stream": True, "use_cache": False}))

    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete")
    assert last.response.status == plain.status == last.type.removeprefix("response.")
    assert plain.usage
    assert last.response.usage
    assert plain.output_text
    assert last.response.output_text


@pytest.mark.parametrize("texts", ["one", ["one"], ["one", "two"] * 60], ids=["text", "list of one", "long list"])
def test_embeddings_are_strict(http: httpx.Client, texts: str | list[str]) -> None:
    """Numbers or base64 of the same vectors, in order."""
    numbers = schemas.embeddings(http.post("/v1/embeddings", json={"model": "auto", "input": texts}))
    encoded = schemas.base64_embeddings(
        http.post("/v1/embeddings", json={"model": "auto", "input": texts, "encoding_format": "base64"})
    )

    assert [each.index for each in numbers.data] == list(range(1 if isinstance(texts, str) else len(texts)))
    assert len(encoded.data) == len(numbers.data)
    assert all(len(each.embedding) == 384 for each in numbers.data)
    assert numbers.usage.prompt_tokens > 0


def test_models_are_strict(http: httpx.Client) -> None:
    """The list, and each of its entries by itself."""
    listed = schemas.models(http.get("/v1/models"))

    assert [schemas.model(http.get(f"/v1/models/{each.id}")) for each in listed.data] == listed.data


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/v1/chat/completions", chat(hard(), model="cloud"), id="chat"),
        pytest.param("/v1/completions", {"prompt": hard(), "model": "cloud"}, id="completions"),
        pytest.param("/v1/responses", {"input": hard(), "model": "cloud"}, id="responses"),
        pytest.param("/v1/embeddings", {"input": hard()}, id="embeddings"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_failure_is_an_error_object(
    http: httpx.Client, control: Any, path: str, body: dict[str, Any], stream: bool
) -> None:
    """A model that fails before the first token is a 502 with OpenAI's error object, on every endpoint."""
    control.fault("cloud", "error")
    control.fault("embed", "error")
    if path == "/v1/embeddings" and stream:
        pytest.skip("embeddings are not streamed")

    response = http.post(path, json={**body, **({"stream": True} if stream else {})})

    assert response.status_code == 502
    assert schemas.error(response).type == "upstream_error"

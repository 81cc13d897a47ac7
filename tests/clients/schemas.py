"""Answers held against the models of the official SDK, strictly: no "1" for 1, nothing missing, no unknown literal.

Two of the SDK's models refuse what OpenAI itself sends, so they are mended here, and only there:
`Completion` demands a finish reason in every chunk of a stream, and `Embedding` numbers where base64 was asked for.
"""

import json
from typing import Literal

import httpx
from openai.types import Completion as TextCompletion
from openai.types import CompletionChoice as TextChoice
from openai.types import CreateEmbeddingResponse, Embedding, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from tests.edge.control import events


class TextChunkChoice(TextChoice):
    finish_reason: Literal["stop", "length", "content_filter"] | None  # type: ignore[assignment]  # None until the last


class TextChunk(TextCompletion):
    choices: list[TextChunkChoice]  # type: ignore[assignment]  # see above


class Base64Embedding(Embedding):
    embedding: str  # type: ignore[assignment]  # what the SDK itself decodes before it builds its model


class Base64Embeddings(CreateEmbeddingResponse):
    data: list[Base64Embedding]  # type: ignore[assignment]  # see above


class ModelList(BaseModel):
    """The SDK reads it as a page, which is no plain model."""

    object: Literal["list"]
    data: list[Model]


_STREAM_EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


class ErrorObject(BaseModel, extra="forbid"):
    """OpenAI's error: four keys, none of them left out."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    error: ErrorObject


def chat(response: httpx.Response) -> ChatCompletion:
    return ChatCompletion.model_validate_json(_answer(response), strict=True)


def chat_chunks(response: httpx.Response) -> list[ChatCompletionChunk]:
    """The chunks of a whole stream, `[DONE]` not among them."""
    return [ChatCompletionChunk.model_validate_json(json.dumps(each), strict=True) for each in stream_events(response)]


def text(response: httpx.Response) -> TextCompletion:
    return TextCompletion.model_validate_json(_answer(response), strict=True)


def text_chunks(response: httpx.Response) -> list[TextChunk]:
    return [TextChunk.model_validate_json(json.dumps(each), strict=True) for each in stream_events(response)]


def responses(response: httpx.Response) -> Response:
    return Response.model_validate_json(_answer(response), strict=True)


def responses_events(response: httpx.Response) -> list[ResponseStreamEvent]:
    """The typed events; each one's `event:` line says what its data says."""
    blocks = [block.split("\n") for block in response.text.split("\n\n") if block and not block.startswith(":")]
    pairs = [(block[0].removeprefix("event: "), block[1].removeprefix("data: ")) for block in blocks]
    assert [name for name, _ in pairs] == [json.loads(data)["type"] for _, data in pairs]
    return [_STREAM_EVENT.validate_json(data, strict=True) for _, data in pairs]


def embeddings(response: httpx.Response) -> CreateEmbeddingResponse:
    return CreateEmbeddingResponse.model_validate_json(_answer(response), strict=True)


def base64_embeddings(response: httpx.Response) -> Base64Embeddings:
    return Base64Embeddings.model_validate_json(_answer(response), strict=True)


def models(response: httpx.Response) -> ModelList:
    return ModelList.model_validate_json(_answer(response), strict=True)


def model(response: httpx.Response) -> Model:
    return Model.model_validate_json(_answer(response), strict=True)


def error(response: httpx.Response) -> ErrorObject:
    """The error of a refusal: JSON, with the right keys of the right types and a word about what is wrong."""
    assert response.status_code >= 400, response.text[:200]
    assert response.headers["content-type"] == "application/json"
    found = ErrorBody.model_validate_json(response.content, strict=True).error
    assert found.message
    assert found.type
    return found


def stream_events(response: httpx.Response) -> list[dict[str, object]]:
    """All events before `[DONE]`, which is there once and last."""
    assert response.status_code == 200, response.text[:200]
    assert response.headers["content-type"].startswith("text/event-stream")
    *found, done = events(response)
    assert done == "[DONE]"
    assert "[DONE]" not in found
    return found


def _answer(response: httpx.Response) -> bytes:
    assert response.status_code == 200, response.text[:200]
    assert response.headers["content-type"] == "application/json"
    return response.content

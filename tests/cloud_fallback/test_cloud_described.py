"""The service in process against its own OpenAPI document: schemathesis asks, every answer is one that is described."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.schemas import APIOperation

from scripts.openapi.__main__ import CLOUD_DOCUMENT
from tests.cloud_fallback.harness import COMPLETION, DONE, call, chunk, service
from tests.described import BOUNDED, asked, check

ANSWERS: dict[str, Any] = {
    "/v1/chat/completions": COMPLETION,
    "/v1/completions": {**COMPLETION, "object": "text_completion", "choices": [{"index": 0, "text": "hi"}]},
    "/v1/embeddings": {"object": "list", "data": [], "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}},
}


class Provider(httpx.AsyncBaseTransport):
    """Answers every call well, as a stream when one is asked for."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if json.loads(await request.aread()).get("stream") and request.url.path != "/v1/embeddings":
            events = chunk() + chunk("", usage=COMPLETION["usage"]) + DONE
            return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=events)
        return httpx.Response(200, json=ANSWERS[request.url.path])


async def test_document_is_served() -> None:
    """As it lies beside the code, to callers without a signature too."""
    keys = "edge-1:" + "ab" * 32
    answer = await call(service(Provider(), fallback_auth="keys", fallback_keys=keys), "GET", "/openapi.json")

    assert answer.headers["content-type"] == "application/json"
    assert answer.content == CLOUD_DOCUMENT.read_bytes()


@pytest.mark.parametrize(("operation", "mode"), asked(CLOUD_DOCUMENT))
@settings(BOUNDED, max_examples=8)
@given(data=st.data())
def test_answers_are_as_described(
    operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, data: st.DataObject
) -> None:
    """For requests that fit the document and for requests that don't."""
    case = data.draw(operation.as_strategy(generation_mode=mode))

    check(case, case.call(app=service(Provider())))

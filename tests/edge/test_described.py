"""The real Worker against its own OpenAPI document: schemathesis asks, every answer is one that is described."""

from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.schemas import APIOperation

from scripts.local.stack import Address, Stack
from scripts.openapi.__main__ import EDGE_DOCUMENT
from tests.described import BOUNDED, asked, check

pytestmark = pytest.mark.workerd


def test_document_is_served(edge: httpx.Client) -> None:
    """As it lies in the repository, from beside the pages."""
    response = edge.get("/openapi.json")

    assert response.headers["content-type"] == "application/json"
    assert response.content == EDGE_DOCUMENT.read_bytes()


@pytest.mark.parametrize(("operation", "mode"), asked(EDGE_DOCUMENT))
@settings(BOUNDED, max_examples=6)
@given(data=st.data())
def test_answers_are_as_described(
    stack: tuple[Stack, Address], operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, data: st.DataObject
) -> None:
    """For requests that fit the document and for requests that don't."""
    case = data.draw(operation.as_strategy(generation_mode=mode))

    for name in [name for name in case.headers or {} if name.lower() == "nearside-emulate-cf"]:
        del case.headers[name]  # understood by the local front alone, which answers without the Worker
    check(case, case.call(base_url=stack[1].url))

"""`langchain-openai` with nothing changed but the base URL."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field, SecretStr

from scripts.local.stack import Address
from tests.edge.control import easy

pytestmark = pytest.mark.workerd

SIDES = ["edge", "cloud"]


class Weather(BaseModel):
    """Tells the weather in a city."""

    city: str = Field(description="Name of the city")


@pytest.fixture
async def options(stack: Address) -> AsyncIterator[dict[str, Any]]:
    """What its classes take in common. LangChain itself never closes its connections."""
    async with openai.DefaultAsyncHttpxClient() as http_async_client:
        with openai.DefaultHttpxClient() as http_client:
            yield {
                "base_url": f"{stack.url}/v1",
                "api_key": SecretStr("unused"),
                "max_retries": 0,
                "http_client": http_client,
                "http_async_client": http_async_client,
            }


@pytest.mark.parametrize("model", SIDES)
async def test_invoke(options: dict[str, Any], model: str) -> None:
    """Text, usage and the finish reason arrive where LangChain keeps them."""
    answer = ChatOpenAI(model=model, **options).invoke(easy())

    assert answer.content
    assert answer.usage_metadata
    assert answer.usage_metadata["total_tokens"] > 0
    assert answer.response_metadata["finish_reason"] == "stop"


@pytest.mark.parametrize("model", SIDES)
async def test_stream(options: dict[str, Any], model: str) -> None:
    """The chunks add up to one message."""
    chunks = list(ChatOpenAI(model=model, **options).stream(easy()))

    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    assert len(chunks) > 2
    assert whole.content
    assert whole.response_metadata["finish_reason"] == "stop"


async def test_batch_and_async(options: dict[str, Any]) -> None:
    """Several at once, both ways."""
    model = ChatOpenAI(model="auto", **options)

    assert [bool(answer.content) for answer in model.batch([easy(), easy(), easy()])] == [True] * 3
    assert (await model.ainvoke(easy())).content


@pytest.mark.parametrize("model", SIDES)
async def test_tools(options: dict[str, Any], model: str) -> None:
    """A call, its result, and the answer."""
    asking = ChatOpenAI(model=model, **options).bind_tools([Weather], tool_choice="Weather")
    question = HumanMessage(easy())

    call = asking.invoke([question])
    assert isinstance(call, AIMessage)
    assert call.tool_calls[0]["name"] == "Weather"
    result = ToolMessage("Sunny.", tool_call_id=call.tool_calls[0]["id"])
    assert ChatOpenAI(model=model, **options).invoke([question, call, result]).content


@pytest.mark.parametrize("model", SIDES)
async def test_structured_output(options: dict[str, Any], model: str) -> None:
    """Through a strict schema."""
    structured = ChatOpenAI(model=model, **options).with_structured_output(Weather, method="json_schema")

    assert isinstance(structured.invoke(easy()), Weather)


async def test_embeddings_of_text(options: dict[str, Any]) -> None:
    """With `check_embedding_ctx_length=False` LangChain sends text, and that works."""
    embedder = OpenAIEmbeddings(model="auto", check_embedding_ctx_length=False, **options)

    assert [len(vector) for vector in embedder.embed_documents(["one", "two"])] == [384, 384]
    assert len(embedder.embed_query("one")) == 384


def test_embeddings_of_tokens(client: openai.OpenAI) -> None:
    """Left alone LangChain sends OpenAI's token numbers, which mean nothing to our model: the error says what to do.

    The numbers are sent as they would be; making them here would download OpenAI's vocabulary.
    """
    with pytest.raises(openai.BadRequestError, match="send 'input' as text") as raised:
        client.embeddings.create(model="auto", input=[[9906, 1917], [15339]])

    assert raised.value.param == "input"

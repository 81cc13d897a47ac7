"""`instructor`: JSON mode, schema mode and tools, each giving back the pydantic model."""

import json

import instructor
import openai
import pytest
from pydantic import BaseModel

from tests.clients.conftest import EchoStack
from tests.clients.echo import Echo, completion
from tests.edge.control import easy

pytestmark = pytest.mark.workerd


class Place(BaseModel):
    city: str
    inhabitants: int


@pytest.mark.parametrize("model", ["edge", "cloud"])
@pytest.mark.parametrize("mode", [instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS])
def test_mode(client: openai.OpenAI, mode: instructor.Mode, model: str) -> None:
    """The answer is the object that was asked for."""
    answer = instructor.from_openai(client, mode=mode).create(
        model=model, response_model=Place, messages=[{"role": "user", "content": easy()}], max_retries=0
    )

    assert isinstance(answer, Place)


@pytest.mark.parametrize("model", ["@cf/zai-org/glm-4.7-flash", "gpt-4o-mini"])
def test_json_mode(echo_stack: EchoStack, echo: Echo, model: str) -> None:
    """`json_object` and the schema in the prompt reach the model. It is one that answers as it was told."""
    echo.answer = json.dumps(completion({"content": '{"city": "Lyon", "inhabitants": 5}'})).encode()
    address = echo_stack.address

    with openai.OpenAI(base_url=f"{address.url}/v1", api_key=address.key, max_retries=0) as client:
        answer = instructor.from_openai(client, mode=instructor.Mode.JSON).create(
            model=model, response_model=Place, messages=[{"role": "user", "content": easy()}], max_retries=0
        )

    assert (answer.city, answer.inhabitants) == ("Lyon", 5)
    assert echo.received[-1]["response_format"] == {"type": "json_object"}

"""OpenAI's own Python SDK, with nothing changed but the base URL: what it sends works, what it gets it understands."""

import asyncio
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolUnionParam
from pydantic import BaseModel

from tests.edge.control import Control, easy, hard

pytestmark = pytest.mark.workerd

SIDES = ["edge", "cloud"]
WEATHER: ChatCompletionToolUnionParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


class Place(BaseModel):
    city: str
    inhabitants: int


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("model", SIDES)
def test_chat(client: openai.OpenAI, model: str) -> None:
    """A plain answer with usage."""
    answer = client.chat.completions.create(model=model, messages=user(easy()))

    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize("model", SIDES)
def test_chat_stream(client: openai.OpenAI, model: str) -> None:
    """Iterating ends by itself; the chunks make up the plain answer; usage comes last when asked for."""
    prompt = easy()

    with client.chat.completions.create(
        model=model, messages=user(prompt), stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)

    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    plain = client.chat.completions.create(model=model, messages=user(prompt))
    assert text == plain.choices[0].message.content
    assert chunks[-1].usage
    assert chunks[-1].choices == []


@pytest.mark.parametrize("model", SIDES)
def test_stream_helper(client: openai.OpenAI, model: str) -> None:
    """`chat.completions.stream` collects the chunks into the same completion."""
    with client.chat.completions.stream(model=model, messages=user(easy())) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()

    assert "".join(deltas) == final.choices[0].message.content
    assert final.choices[0].finish_reason == "stop"


def test_streaming_response(client: openai.OpenAI) -> None:
    """`with_streaming_response` has the headers before the body, and the lines as they are on the wire."""
    with client.chat.completions.with_streaming_response.create(
        model="edge", messages=user(easy()), stream=True
    ) as response:
        served_by = response.headers["nearside-served-by"]
        lines = [line for line in response.iter_lines() if line]

    assert served_by == "edge-model"
    assert lines[-1] == "data: [DONE]"


def test_raw_response(client: openai.OpenAI) -> None:
    """`with_raw_response` reads our headers, and the request id is where the SDK looks for it."""
    raw = client.chat.completions.with_raw_response.create(model="cloud", messages=user(easy()))

    assert raw.headers["nearside-served-by"] == "cloud"
    assert raw.headers["nearside-cloud-region"]
    assert raw.request_id == raw.headers["x-request-id"]
    assert raw.parse().choices[0].message.content


async def test_async_client(async_client: openai.AsyncOpenAI) -> None:
    """Plain answers and a stream at the same time."""

    async def streamed() -> str:
        stream = await async_client.chat.completions.create(model="edge", messages=user(easy()), stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def plain(model: str) -> str | None:
        answer = await async_client.chat.completions.create(model=model, messages=user(easy()))
        return answer.choices[0].message.content

    answers = await asyncio.gather(streamed(), plain("edge"), plain("cloud"))

    assert all(answers)


@pytest.mark.parametrize("model", SIDES)
def test_several_choices(client: openai.OpenAI, model: str) -> None:
    """`n`: that many, each with its index."""
    answer = client.chat.completions.create(model=model, messages=user(easy()), n=3)

    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(choice.message.content for choice in answer.choices)


@pytest.mark.parametrize("model", SIDES)
def test_stop_and_limit(client: openai.OpenAI, model: str) -> None:
    """`stop` ends before the word, a limit says `length`."""
    prompt = easy()
    whole = client.chat.completions.create(model=model, messages=user(prompt)).choices[0].message.content
    assert whole
    word = whole.split()[-1]

    stopped = client.chat.completions.create(model=model, messages=user(prompt), stop=[word]).choices[0]
    limited = client.chat.completions.create(model=model, messages=user(prompt), max_completion_tokens=2).choices[0]

    assert word not in (stopped.message.content or "")
    assert stopped.finish_reason == "stop"
    assert limited.finish_reason == "length"


def test_everything_else_is_accepted(client: openai.OpenAI) -> None:
    """Parameters of the SDK that we only pass on, roles, names, and fields that nobody knows."""
    answer = client.chat.completions.create(
        model="auto",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": easy()}], "name": "Eve"},
            {"role": "assistant", "content": "It is one."},
            {"role": "user", "content": "Are you sure?"},
        ],
        seed=7,
        user="u-1",
        metadata={"team": "a"},
        temperature=0.5,
        top_p=0.9,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        store=False,
        service_tier="auto",
        extra_body={"brand_new": {"x": 1}},
    )

    assert answer.choices[0].message.content


@pytest.mark.parametrize("model", ["auto", *SIDES])
def test_tool_call_and_its_result(client: openai.OpenAI, model: str) -> None:
    """The call comes back parsed, its result is sent as a tool message, and the conversation goes on."""
    conversation = user(f"{easy()} And the weather?")

    asked = client.chat.completions.create(
        model=model, messages=conversation, tools=[WEATHER], tool_choice="required"
    ).choices[0]
    assert asked.finish_reason == "tool_calls"
    assert asked.message.tool_calls
    call = asked.message.tool_calls[0]
    assert call.type == "function"
    assert call.function.name == "weather"

    result: ChatCompletionMessageParam = {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}
    said: Any = asked.message.model_dump(exclude_none=True)
    final = client.chat.completions.create(model=model, messages=[*conversation, said, result], tools=[WEATHER])
    assert final.choices[0].message.content


@pytest.mark.parametrize("model", SIDES)
def test_streamed_tool_call(client: openai.OpenAI, model: str) -> None:
    """The pieces of the arguments make up the JSON."""
    with client.chat.completions.stream(
        model=model, messages=user(easy()), tools=[WEATHER], tool_choice="required"
    ) as stream:
        final = stream.get_final_completion().choices[0]

    assert final.finish_reason == "tool_calls"
    assert final.message.tool_calls
    assert final.message.tool_calls[0].function.name == "weather"
    assert "city" in final.message.tool_calls[0].function.arguments


@pytest.mark.parametrize("model", SIDES)
def test_structured_output(client: openai.OpenAI, model: str) -> None:
    """`parse` with a pydantic model, and the object that came back is one."""
    parsed = client.chat.completions.parse(model=model, messages=user(easy()), response_format=Place)

    assert isinstance(parsed.choices[0].message.parsed, Place)


@pytest.mark.parametrize("model", SIDES)
def test_json_object(client: openai.OpenAI, model: str) -> None:
    """Any object, as the prompt says."""
    answer = client.chat.completions.create(
        model=model, messages=user(f"{easy()} Answer in JSON."), response_format={"type": "json_object"}
    )

    assert (answer.choices[0].message.content or "").startswith("{")


def test_image_goes_where_it_is_seen(client: openai.OpenAI) -> None:
    """`auto` sends it to a model with vision; a side without one refuses and names the parameter."""
    seen: list[ChatCompletionMessageParam] = [
        {
            "role": "user",
            "content": [{"type": "text", "text": easy()}, {"type": "image_url", "image_url": {"url": PIXEL}}],
        }
    ]

    raw = client.chat.completions.with_raw_response.create(model="auto", messages=seen)
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="edge", messages=seen)

    assert raw.headers["nearside-served-by"] == "cloud"
    assert raw.headers["nearside-route-reason"] == "images"
    assert refused.value.param == "messages"


def test_embeddings(client: openai.OpenAI) -> None:
    """The SDK asks for base64 unless told not to: both ways give the same numbers."""
    texts = [easy(), easy()]

    packed = client.embeddings.create(model="auto", input=texts)
    plain = client.embeddings.create(model="auto", input=texts, encoding_format="float", user="u-1")

    assert [len(each.embedding) for each in packed.data] == [384, 384]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-7)


async def test_async_embeddings(async_client: openai.AsyncOpenAI) -> None:
    """The same for the asynchronous client."""
    answer = await async_client.embeddings.create(model="auto", input="Hello")

    assert len(answer.data[0].embedding) == 384


@pytest.mark.parametrize("model", SIDES)
def test_text_completions(client: openai.OpenAI, model: str) -> None:
    """A prompt, a list of them, and a stream."""
    one = client.completions.create(model=model, prompt=easy())
    several = client.completions.create(model=model, prompt=[easy(), easy()])
    with client.completions.create(model=model, prompt=easy(), stream=True) as stream:
        streamed = "".join(chunk.choices[0].text for chunk in stream)

    assert one.choices[0].text
    assert [choice.index for choice in several.choices] == [0, 1]
    assert streamed


@pytest.mark.parametrize("model", SIDES)
def test_responses(client: openai.OpenAI, model: str) -> None:
    """Text in, `output_text` out; the stream helper collects the same object."""
    plain = client.responses.create(model=model, input=easy(), instructions="Be brief.")
    with client.responses.stream(model=model, input=[{"role": "user", "content": easy()}]) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()

    assert plain.status == "completed"
    assert plain.output_text
    assert "".join(deltas) == final.output_text != ""
    assert final.usage


def test_structured_response(client: openai.OpenAI) -> None:
    """`responses.parse` with a pydantic model."""
    parsed = client.responses.parse(model="edge", input=easy(), text_format=Place)

    assert isinstance(parsed.output_parsed, Place)


def test_models(client: openai.OpenAI) -> None:
    """Listed, and retrieved one by one, slashes included."""
    ids = [model.id for model in client.models.list()]

    assert "auto" in ids
    assert [client.models.retrieve(each).id for each in ids] == ids


def test_cached_answer(client: openai.OpenAI, control: Control) -> None:
    """A repeated question costs no call, plain or streamed."""
    prompt = hard()
    first = client.chat.completions.create(model="auto", messages=user(prompt))
    for _ in range(100):
        raw = client.chat.completions.with_raw_response.create(model="auto", messages=user(prompt))
        if raw.headers["nearside-served-by"] == "exact-cache":
            break
    with client.chat.completions.stream(model="auto", messages=user(prompt)) as stream:
        replayed = stream.get_final_completion()

    assert raw.headers["nearside-served-by"] == "exact-cache"
    assert raw.parse().choices[0].message.content == first.choices[0].message.content
    assert replayed.choices[0].message.content == first.choices[0].message.content

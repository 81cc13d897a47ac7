"""Failures as the SDK's own exceptions: the class, what it carries, and whether the SDK tries again."""

import time
from typing import Any

import openai
import pytest

from tests.clients.conftest import EchoStack
from tests.edge.control import Control, easy

pytestmark = pytest.mark.workerd


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(
        **{"model": "auto", "messages": [{"role": "user", "content": easy()}], **fields}
    )


@pytest.mark.parametrize(
    ("fields", "kind", "param", "code"),
    [
        pytest.param({"temperature": 3}, openai.BadRequestError, "temperature", "integer_above_max_value", id="range"),
        pytest.param({"messages": []}, openai.BadRequestError, "messages", "empty_array", id="no messages"),
        pytest.param({"model": "gpt-99"}, openai.NotFoundError, "model", "model_not_found", id="unknown model"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_wrong_request(
    client: openai.OpenAI,
    fields: dict[str, Any],
    kind: type[openai.APIStatusError],
    param: str,
    code: str,
    stream: bool,
) -> None:
    """The exception has the parameter and the code as attributes, and the id to ask us about."""
    with pytest.raises(kind) as raised:
        ask(client, stream=stream, **fields)

    error = raised.value
    assert (error.param, error.code, error.type) == (param, code, "invalid_request_error")
    assert error.request_id


def test_unknown_path(client: openai.OpenAI) -> None:
    """What we do not serve is a NotFoundError, not a crash of the SDK."""
    with pytest.raises(openai.NotFoundError) as raised:
        client.moderations.create(input="x")

    assert raised.value.code == "unknown_path"


@pytest.mark.parametrize("key", ["wrong", "nsk_00000000_" + "0" * 48])
def test_wrong_key(echo_stack: EchoStack, key: str) -> None:
    """A key that is none, and one that nobody has, look the same."""
    with (
        openai.OpenAI(base_url=f"{echo_stack.address.url}/v1", api_key=key, max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as raised,
    ):
        ask(client)

    assert raised.value.code == "invalid_api_key"


def test_right_key(echo_stack: EchoStack) -> None:
    """The SDK sends it as we want it."""
    address = echo_stack.address
    with openai.OpenAI(base_url=f"{address.url}/v1", api_key=address.key, max_retries=0) as client:
        answer = ask(client)

    assert answer.choices[0].message.content.startswith("What is item")


def test_rate_limit_tells_when_to_come_back(client: openai.OpenAI, control: Control) -> None:
    """The upstream's `Retry-After` is handed on."""
    control.fault("upstream", "429-retry-after")

    with pytest.raises(openai.RateLimitError) as raised:
        ask(client, model="cloud", temperature=1)

    assert raised.value.response.headers["retry-after"] == "1"
    assert raised.value.type == "rate_limit_error"


def test_sdk_waits_and_tries_again(client: openai.OpenAI, control: Control) -> None:
    """One failure, then an answer: the caller sees the answer, no sooner than `Retry-After` allows."""
    control.fault("upstream", "429-retry-after", count=2)  # one in each region
    started_s = time.monotonic()

    answer = ask(client.with_options(max_retries=2), model="gpt-4o-mini")

    assert answer.choices[0].message.content
    assert time.monotonic() - started_s >= 1


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        pytest.param("error", 502, id="upstream fails"),
        pytest.param("malformed", 502, id="upstream sends garbage"),
        pytest.param("refuse", 502, id="upstream is gone"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_upstream_failure(client: openai.OpenAI, control: Control, kind: str, status: int, stream: bool) -> None:
    """502: the SDK's InternalServerError, which it tries again by default."""
    control.fault("upstream", kind)

    with pytest.raises(openai.InternalServerError) as raised:
        ask(client, model="gpt-4o-mini", stream=stream)

    assert raised.value.status_code == status
    assert raised.value.code


def test_upstream_timeout(client: openai.OpenAI, control: Control) -> None:
    """No answer in time from a pinned edge model is a 504."""
    control.fault("ai", "timeout")

    with pytest.raises(openai.InternalServerError) as raised:
        ask(client, model="@cf/zai-org/glm-4.7-flash")

    assert raised.value.status_code == 504
    assert raised.value.code == "upstream_timeout"


def test_stream_that_breaks_raises(client: openai.OpenAI, control: Control) -> None:
    """What was sent was read; then the error event becomes an APIError, never a stream that just ends."""
    control.slow("upstream", itl_ms=30)
    control.fault("upstream", "cut", after_chunks=4)
    texts: list[str | None] = []

    with ask(client, model="gpt-4o-mini", stream=True) as stream, pytest.raises(openai.APIError) as raised:
        texts.extend(chunk.choices[0].delta.content for chunk in stream)

    assert any(texts)
    assert raised.value.code
    assert raised.value.type == "upstream_error"


def test_response_stream_that_breaks_says_so(client: openai.OpenAI, control: Control) -> None:
    """The Responses API has an event of its own for it."""
    control.slow("upstream", itl_ms=30)
    control.fault("upstream", "cut", after_chunks=4)

    with client.responses.create(model="gpt-4o-mini", input=easy(), stream=True) as stream:
        *_, last = stream

    assert last.type == "response.failed"
    assert last.response.error


def test_impatient_caller(client: openai.OpenAI, control: Control) -> None:
    """The SDK's own timeout works, and the next request on the client too."""
    control.slow("ai", ttft_ms=1500)

    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=0.3), model="edge")

    control.clear()
    assert ask(client, model="edge").choices[0].message.content

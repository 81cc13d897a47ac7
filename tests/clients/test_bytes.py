"""Text goes through byte for byte: what the model is asked, and what the caller gets back. The model is an echo."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.clients.echo import HEAD, Echo
from tests.edge.control import chat, events, streamed_text

pytestmark = pytest.mark.workerd

BYPASS = {"cache-control": "no-store"}
# One model of each dialect at the edge, and the cloud.
MODELS = ["@cf/ibm-granite/granite-4.0-h-micro", "@cf/zai-org/glm-4.7-flash", "gpt-4o-mini"]
ODD_TEXTS = [
    pytest.param("日本語 🎉 ünï", id="multi-byte"),
    pytest.param("e\u0301 is not \u00e9", id="two normal forms"),
    pytest.param("null \x00 bell \x07 delete \x7f", id="control characters"),
    pytest.param("  white\tspace\r\n\u00a0\u2028\u2029 \n", id="white space, also outside"),
    pytest.param("👩‍👩‍👧‍👦 \u202eright to left\u202c \ufeffmark \uffff", id="joined, marked, non-character"),
    pytest.param('"}],"role":"system" \\ \\u0041 </script> data: [DONE]\n\n', id="text that looks like the wire"),
    pytest.param("\U0010ffff\U00010000", id="beyond the basic plane"),
]


def ask(keyed: httpx.Client, text: str, **fields: Any) -> httpx.Response:
    return keyed.post("/v1/chat/completions", json=chat(text, **fields), headers=BYPASS)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_text_arrives_and_returns_unchanged(keyed: httpx.Client, echo: Echo, model: str, text: str) -> None:
    """Plain and streamed, at the edge and in the cloud: neither trimmed nor normalised."""
    plain = ask(keyed, text, model=model)
    stream = ask(keyed, text, model=model, stream=True)

    assert [body["messages"][-1]["content"] for body in echo.received] == [text, text]
    assert plain.json()["choices"][0]["message"]["content"] == text
    assert streamed_text(stream) == text


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1, max_size=200), model=st.sampled_from(MODELS), stream=st.booleans())
def test_any_text_arrives_and_returns_unchanged(
    keyed: httpx.Client, echo: Echo, text: str, model: str, stream: bool
) -> None:
    """Whatever Unicode holds, except halves of surrogate pairs, which have no bytes."""
    echo.reset()

    response = ask(keyed, text, model=model, stream=stream)

    answer = streamed_text(response) if stream else response.json()["choices"][0]["message"]["content"]
    assert echo.received[-1]["messages"][-1]["content"] == text
    assert answer == text


def test_chunks_that_we_add_belong_to_the_model_s_stream(keyed: httpx.Client, echo: Echo) -> None:
    """The usage at the end has the id, the model and the time of the chunks before."""
    response = ask(keyed, "Hi", model="gpt-4o-mini", stream=True, stream_options={"include_usage": True})

    heads = {(each["id"], each["model"], each["created"]) for each in events(response) if each != "[DONE]"}
    assert heads == {(HEAD["id"], HEAD["model"], HEAD["created"])}


def test_half_a_surrogate_pair_reaches_the_cloud(keyed: httpx.Client, echo: Echo) -> None:
    """JSON can carry it escaped; so do we, in both directions."""
    text = "\ud83d alone"

    response = keyed.post(
        "/v1/chat/completions", content=json.dumps(chat(text, model="gpt-4o-mini")).encode(), headers=BYPASS
    )

    assert echo.received[-1]["messages"][-1]["content"] == text
    assert response.json()["choices"][0]["message"]["content"] == text


def test_parameters_and_unknown_fields_reach_the_cloud_as_they_came(keyed: httpx.Client, echo: Echo) -> None:
    """Everything but our own fields is passed on; ours are not, since an upstream may refuse what it does not know."""
    fields = {
        "temperature": 0.25, "top_p": 0.5, "seed": 7, "stop": ["END"], "n": 1, "max_completion_tokens": 9,
        "presence_penalty": 0.5, "frequency_penalty": -0.5, "user": "u", "metadata": {"a": "b"},
        "logit_bias": {"50256": -100}, "logprobs": False, "service_tier": "auto", "brand_new": {"x": [1, 2.5, None]},
        "reasoning_effort": "low", "store": False, "parallel_tool_calls": False, "verbosity": "low",
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}],
        "tool_choice": "auto", "response_format": {"type": "json_object"},
    }  # fmt: skip

    response = ask(keyed, "x", model="gpt-4o-mini", use_cache=False, max_latency_ms=500, **fields)

    received = echo.received[-1]
    assert response.status_code == 200
    assert {name: received[name] for name in fields} == fields
    assert "use_cache" not in received
    assert "max_latency_ms" not in received


def test_messages_of_every_role_reach_the_cloud_as_they_came(keyed: httpx.Client, echo: Echo) -> None:
    """Roles, names, parts, calls and results are not touched."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "s"},
        {"role": "developer", "content": [{"type": "text", "text": "d"}]},
        {"role": "user", "name": "Eve", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
        {"role": "assistant", "content": "", "refusal": "no"},
        {"role": "user", "content": "and now?"},
    ]

    response = keyed.post("/v1/chat/completions", json={"model": "gpt-4o-mini", "messages": messages}, headers=BYPASS)

    assert response.status_code == 200
    assert echo.received[-1]["messages"] == messages

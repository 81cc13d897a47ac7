"""The most that a chat may cost: never less than what it then costs."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.auth import Tenant
from edge_router.budgets.money import Cost, nano_usd
from edge_router.budgets.worst_case import TEMPLATE_TOKENS, worst_case
from edge_router.cascade.policy import Mode
from edge_router.catalog import Catalog, Model
from edge_router.chat_call import ChatCall
from edge_router.report import Report
from edge_router.requests import parse_chat
from edge_router.routing import Route
from tests.edge_router.harness import CLOUD_FAST, CLOUD_QUALITY, EDGE_LARGE, EDGE_SMALL, MODELS, chat_body
from tests.fakes import CollectingBackground

IMAGE = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "https://a.test/b.png"}}]


def most(body: dict[str, Any], *models: Model, mode: Mode = "off", catalog: Catalog | None = None) -> Cost:
    call = ChatCall(parse_chat(body), body, Tenant("acme"), None, {}, CollectingBackground(), Report("r"), 0.0)
    return worst_case(call, Route(models, ("simple",)), mode, catalog or Catalog(MODELS))


def cost(model: Model, input_tokens: int, output_tokens: int) -> Cost:
    return Cost(nano_usd(model.cost_usd(input_tokens, output_tokens)), input_tokens + output_tokens)


def test_input_and_limit() -> None:
    """As many tokens as the request has bytes, and what chat templates add; all of the output that it allows."""
    body = {"messages": [{"role": "user", "content": "é"}], "max_tokens": 50}
    size = len(b'{"messages":[{"role":"user","content":""}],"max_tokens":50}') + 2

    assert most(body, EDGE_SMALL) == cost(EDGE_SMALL, size + TEMPLATE_TOKENS, 50)


@pytest.mark.parametrize(
    ("fields", "output_tokens"),
    [
        pytest.param({}, 2048, id="no limit: the one that we set"),
        pytest.param({"max_tokens": 10, "n": 3}, 30, id="several choices"),
        pytest.param({"max_tokens": 10, "max_completion_tokens": 20}, 20, id="the newer name"),
    ],
)
def test_output(fields: dict[str, Any], output_tokens: int) -> None:
    """Times the number of choices."""
    longer, shorter = (most(chat_body(**fields, user="x" * length), CLOUD_FAST) for length in (1001, 1))

    assert (longer - shorter).tokens == 1000
    body_bytes = shorter.tokens - output_tokens - TEMPLATE_TOKENS
    assert 60 < body_bytes < 150


def test_dearest_model() -> None:
    """Any model of the route may come to answer."""
    assert most(chat_body(), EDGE_SMALL, CLOUD_FAST, CLOUD_QUALITY) == most(chat_body(), CLOUD_QUALITY)


def test_cascade() -> None:
    """May pay for an answer of the edge and for one of the cloud."""
    both = most(chat_body(), EDGE_SMALL, EDGE_LARGE, CLOUD_FAST, mode="on")

    assert both == most(chat_body(), EDGE_LARGE) + most(chat_body(), CLOUD_FAST)


def test_stand_in() -> None:
    """Where Workers AI can't be used, the cloud model that stands in for its model may answer."""
    small = Model("small", "edge", "edge-small", 8_000, 1.0, 2.0, stand_in=CLOUD_QUALITY.id)
    catalog = Catalog([small, *MODELS])

    assert most(chat_body(), small, catalog=catalog) == most(chat_body(), CLOUD_QUALITY)
    assert most(chat_body(), small, CLOUD_FAST, mode="race", catalog=catalog) == most(
        chat_body(), CLOUD_QUALITY
    ) + most(chat_body(), CLOUD_FAST)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"messages": [{"role": "user", "content": IMAGE}], "max_tokens": 10}, id="an image"),
        pytest.param(chat_body("x" * 200_000, max_tokens=10), id="more text than fits"),
    ],
)
def test_no_more_than_fits(body: dict[str, Any]) -> None:
    """Only its model knows what an image counts as: it may fill the context window, which no input exceeds."""
    assert most(body, CLOUD_FAST) == cost(CLOUD_FAST, CLOUD_FAST.context_window_tokens, 10)


@given(
    prompt=st.text(max_size=200),
    input_share=st.floats(0, 1),
    output_share=st.floats(0, 1),
    model=st.sampled_from(MODELS),
    limit=st.integers(1, 5_000),
)
def test_any_answer(prompt: str, input_share: float, output_share: float, model: Model, limit: int) -> None:
    """Costs at most what was reserved, as long as its model keeps to the limit."""
    input_tokens = int(input_share * len(prompt.encode("utf-8", "replace")))
    answer = cost(model, input_tokens, int(output_share * limit))
    reserved = most(chat_body(prompt, max_tokens=limit), *MODELS)

    assert answer.nano_usd <= reserved.nano_usd
    assert answer.tokens <= reserved.tokens

"""Routing: which model answers a request, which follow if it fails, and the reason."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.catalog import DEFAULT_MODELS, TIERS, Catalog, Model
from edge_router.complexity import KeywordRules
from edge_router.errors import NotFound, RequestRejected
from edge_router.routing import Conditions, Needs, Route, choose_route
from tests.edge_router.harness import CLOUD_FAST, CLOUD_QUALITY, EDGE_LARGE, EDGE_SMALL, MODELS

QUIET = Conditions()
THRESHOLDS = KeywordRules().thresholds(edge_share=None, quality_floor=None)


def route(
    needs: Needs, complexity: float = 0.0, models: Sequence[Model] = MODELS, conditions: Conditions = QUIET
) -> Route:
    return choose_route(needs, complexity, Catalog(models), THRESHOLDS, conditions)


@pytest.mark.parametrize(
    ("needs", "complexity", "first", "reason"),
    [
        pytest.param(Needs(), 0.0, EDGE_SMALL, "simple", id="easiest"),
        pytest.param(Needs(), 0.29, EDGE_SMALL, "simple", id="just simple"),
        pytest.param(Needs(), 0.3, EDGE_LARGE, "medium", id="thresholds are inclusive"),
        pytest.param(Needs(), 0.69, EDGE_LARGE, "medium", id="just medium"),
        pytest.param(Needs(), 0.7, CLOUD_FAST, "complex", id="complex"),
        pytest.param(Needs(), 0.9, CLOUD_QUALITY, "complex", id="very complex"),
        pytest.param(Needs(tools=True), 0.0, EDGE_LARGE, "tools", id="tools"),
        pytest.param(Needs(json=True), 0.0, EDGE_LARGE, "json", id="json"),
        pytest.param(Needs(images=True), 0.0, CLOUD_FAST, "images", id="images"),
        pytest.param(Needs(images=True, tools=True), 0.5, CLOUD_FAST, "images", id="images and tools"),
        pytest.param(Needs(tools=True), 0.5, EDGE_LARGE, "medium", id="tools where they are served anyway"),
        pytest.param(Needs(tokens=8_000), 0.0, EDGE_SMALL, "simple", id="exactly fits"),
        pytest.param(Needs(tokens=8_001), 0.0, EDGE_LARGE, "context-window", id="too long for the first"),
        pytest.param(Needs(tokens=32_001), 0.0, CLOUD_FAST, "context-window", id="too long for the edge"),
        pytest.param(Needs("edge"), 0.0, EDGE_SMALL, "forced-edge", id="edge, simple"),
        pytest.param(Needs("edge"), 0.5, EDGE_LARGE, "forced-edge", id="edge, medium"),
        pytest.param(Needs("edge", tools=True), 0.0, EDGE_LARGE, "forced-edge", id="edge with tools"),
        pytest.param(Needs("cloud"), 0.0, CLOUD_FAST, "forced-cloud", id="cloud, simple"),
        pytest.param(Needs("cloud"), 0.95, CLOUD_QUALITY, "forced-cloud", id="cloud, very complex"),
        pytest.param(Needs("edge-large-1"), 0.95, EDGE_LARGE, "pinned", id="pinned"),
    ],
)
def test_first_model(needs: Needs, complexity: float, first: Model, reason: str) -> None:
    """What the request needs comes first, then how hard it is."""
    chosen = route(needs, complexity)

    assert (chosen.first, chosen.reason) == (first, reason)


def test_complexity_that_decided() -> None:
    """It is told, except where a pinned model left nothing to decide."""
    assert route(Needs(), 0.5).complexity == 0.5
    assert route(Needs("edge-large-1"), 0.5).complexity is None


@pytest.mark.parametrize("complexity", [0.0, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_forced_side(side: str, complexity: float) -> None:
    """Every model of the route is on it."""
    assert {model.side for model in route(Needs(side), complexity).models} == {side}


@settings(max_examples=100)
@given(
    complexity=st.floats(0, 1),
    needs=st.builds(
        Needs,
        model=st.sampled_from(["auto", "edge", "cloud"]),
        tokens=st.sampled_from([0, 10_000, 100_000]),
        tools=st.booleans(),
        json=st.booleans(),
    ),
)
def test_fallbacks(needs: Needs, complexity: float) -> None:
    """They get stronger or stay as strong, and each one can serve the request."""
    try:
        models = route(needs, complexity, DEFAULT_MODELS).models
    except RequestRejected:
        return

    tiers = [TIERS.index(model.tier) for model in models]
    assert tiers == sorted(tiers)
    assert all(model.context_window_tokens >= needs.tokens for model in models)
    assert all("tools" in model.features for model in models if needs.tools)


def test_pinned_model_that_may_fail() -> None:
    """Has no fallback: whoever names a model wants that one."""
    assert route(Needs("edge-small-1")).models == (EDGE_SMALL,)


def test_stronger_models_that_can_not_serve() -> None:
    """A weaker one is used, the next weaker first, and the reason says why."""
    small = Model("small", "edge", "edge-small", 1_000_000)
    large = Model("large", "edge", "edge-large", 1_000_000)

    chosen = route(Needs(tokens=200_000), 0.8, [small, large, CLOUD_FAST])

    assert chosen.models == (large, small)
    assert chosen.reason == "context-window"


def test_tier_without_models() -> None:
    """The next one serves; nothing refused the request, so complexity stays the reason."""
    cloud = Model("short", "cloud", "cloud-fast", 1_000, features=("tools",))

    chosen = route(Needs(tokens=20_000), 0.0, [EDGE_LARGE, cloud])

    assert chosen.models == (EDGE_LARGE,)
    assert chosen.reason == "simple"


WILDCARD = Model("@cf/*", "edge", "edge-large", 10_000)


def test_model_under_a_wildcard() -> None:
    """It may be pinned by its full name, with the wildcard's facts."""
    chosen = route(Needs("@cf/a/b"), models=[*MODELS, WILDCARD])

    assert chosen.first.id == "@cf/a/b"
    assert chosen.first.context_window_tokens == 10_000


def test_wildcard_in_automatic_routing() -> None:
    """Never chosen: it names no model."""
    assert WILDCARD not in route(Needs(), 0.5, [*MODELS, WILDCARD]).models


@pytest.mark.parametrize("name", ["gpt-9", "@cf/*", "", "auto "])
def test_model_that_does_not_exist(name: str) -> None:
    """A 404 with OpenAI's code."""
    with pytest.raises(NotFound) as caught:
        route(Needs(name), models=[*MODELS, WILDCARD])

    assert (caught.value.status, caught.value.param, caught.value.code) == (404, "model", "model_not_found")


def test_unknown_model_with_an_absurd_name() -> None:
    """The message shows a short, printable part of it."""
    with pytest.raises(NotFound) as caught:
        route(Needs("m\r\n\ud800" + "x" * 1_000))

    assert len(caught.value.message) < 200
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("needs", "models", "param", "code"),
    [
        pytest.param(Needs(tokens=10**6), MODELS, "messages", "context_length_exceeded", id="too long for all"),
        pytest.param(
            Needs("edge-small-1", tokens=9_000), MODELS, "messages", "context_length_exceeded", id="too long for one"
        ),
        pytest.param(Needs("edge-small-1", tools=True), MODELS, "tools", "unsupported_value", id="pinned, tools"),
        pytest.param(
            Needs("edge-small-1", json=True), MODELS, "response_format", "unsupported_value", id="pinned, json"
        ),
        pytest.param(Needs("edge", images=True), MODELS, "messages", "unsupported_value", id="images at the edge"),
        pytest.param(Needs("edge"), [CLOUD_FAST], "model", "unsupported_value", id="no model at the edge"),
        pytest.param(Needs(), [WILDCARD], "model", "unsupported_value", id="only wildcards"),
        pytest.param(
            Needs(tools=True, tokens=10**6),
            MODELS,
            "messages",
            "context_length_exceeded",
            id="tools are served, but nowhere at this length",
        ),
    ],
)
def test_request_that_no_model_can_serve(needs: Needs, models: Sequence[Model], param: str, code: str) -> None:
    """A 400 that names what stands in the way."""
    with pytest.raises(RequestRejected) as caught:
        route(needs, models=models)

    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, code)

"""Routing: which model answers a request, which follow if it fails, and the reason."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.catalog import DEFAULT_MODELS, TIERS, Catalog, Model
from edge_router.complexity import KeywordRules
from edge_router.errors import NotFound, RequestRejected
from edge_router.routing import Conditions, Needs, Reason, Route, choose_route, next_in_time, patience_ms
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


def times(**ms: float) -> Callable[[Model], float]:
    """Predicted times by tier, with a line for a hyphen."""
    return lambda model: ms[model.tier.replace("-", "_")]


USUAL = times(edge_small=100, edge_large=300, cloud_fast=500, cloud_quality=900)


@pytest.mark.parametrize(
    ("left_ms", "complexity", "predicted_ms", "first", "reasons"),
    [
        pytest.param(100, 0.0, USUAL, EDGE_SMALL, ("simple",), id="just in time"),
        pytest.param(99, 0.0, USUAL, EDGE_SMALL, ("simple", "deadline-missed"), id="all late: the fastest"),
        pytest.param(-5, 0.95, USUAL, EDGE_SMALL, ("complex", "deadline-missed"), id="late already"),
        pytest.param(600, 0.95, USUAL, CLOUD_FAST, ("complex", "deadline"), id="a weaker one in time: the strongest"),
        pytest.param(2000, 0.95, USUAL, CLOUD_QUALITY, ("complex",), id="time enough"),
        pytest.param(
            400,
            0.0,
            times(edge_small=500, edge_large=450, cloud_fast=350, cloud_quality=380),
            CLOUD_FAST,
            ("simple", "deadline"),
            id="the edge is slow",
        ),
    ],
)
def test_deadline(
    left_ms: float, complexity: float, predicted_ms: Callable[[Model], float], first: Model, reasons: tuple[str, ...]
) -> None:
    """What would be late gives way to what would not, even to a weaker model; if all would, to the fastest."""
    chosen = route(Needs(left_ms=left_ms), complexity, conditions=Conditions(predicted_ms))

    assert (chosen.first, chosen.reasons) == (first, reasons)


def test_late_models_stay_as_the_last_resort() -> None:
    """A late answer is better than none: the fastest of them first, but never a weaker one."""
    slow_edge = times(edge_small=900, edge_large=800, cloud_fast=200, cloud_quality=700)

    chosen = route(Needs(left_ms=500), 0.5, conditions=Conditions(slow_edge))

    assert chosen.models == (CLOUD_FAST, CLOUD_QUALITY, EDGE_LARGE)
    assert chosen.predicted_ms == {
        "edge-small-1": 900, "edge-large-1": 800, "cloud-fast-1": 200, "cloud-quality-1": 700,
    }  # fmt: skip


def test_deadline_of_a_pinned_model() -> None:
    """It is used all the same, and the reason says what will happen."""
    in_time = route(Needs("cloud-fast-1", left_ms=500), conditions=Conditions(USUAL))
    late = route(Needs("cloud-fast-1", left_ms=499), conditions=Conditions(USUAL))

    assert (in_time.models, in_time.reasons) == ((CLOUD_FAST,), ("pinned",))
    assert (late.models, late.reasons) == ((CLOUD_FAST,), ("pinned", "deadline-missed"))


def test_deadline_keeps_to_a_forced_side() -> None:
    """model: "cloud" means the cloud, late or not."""
    chosen = route(Needs("cloud", left_ms=200), conditions=Conditions(USUAL))

    assert (chosen.first, chosen.reasons) == (CLOUD_FAST, ("simple", "forced-cloud", "deadline-missed"))


@settings(max_examples=200)
@given(
    left_ms=st.floats(-100, 1000),
    complexity=st.floats(0, 1),
    ms=st.tuples(*[st.floats(1, 1000)] * 4),
    side=st.sampled_from(["auto", "edge", "cloud"]),
)
def test_first_model_is_in_time_or_the_fastest(
    left_ms: float, complexity: float, ms: tuple[float, ...], side: str
) -> None:
    """Of all that the caller leaves to choose from."""
    predicted_ms = dict(zip((model.id for model in MODELS), ms, strict=True))
    conditions = Conditions(lambda model: predicted_ms[model.id])
    chosen = route(Needs(side, left_ms=left_ms), complexity, conditions=conditions)

    open_to_it = [predicted_ms[model.id] for model in MODELS if side in ("auto", model.side)]
    if min(open_to_it) <= left_ms:
        assert predicted_ms[chosen.first.id] <= left_ms
    else:
        assert predicted_ms[chosen.first.id] == min(open_to_it)
        assert chosen.reason == "deadline-missed"


@pytest.mark.parametrize(
    ("cheap_ms", "first"),
    [
        pytest.param(100, "cheap", id="as fast"),
        pytest.param(300, "cheap", id="three times as slow"),
        pytest.param(301, "dear", id="slower than that"),
    ],
)
def test_price_decides_within_a_tier(cheap_ms: float, first: str) -> None:
    """The cheaper model goes first, unless it is much slower. Equals stay as the catalog has them."""
    dear = replace(EDGE_SMALL, id="dear", output_usd_per_million=3.0)
    cheap, same = replace(dear, id="cheap", output_usd_per_million=2.9), replace(dear, id="same")
    conditions = Conditions(lambda model: cheap_ms if model.id == "cheap" else 100)

    chosen = route(Needs(), models=[dear, same, cheap], conditions=conditions)

    assert chosen.first.id == first
    assert [model.id for model in chosen.models if model.id != "cheap"] == ["dear", "same"]


def test_models_that_fail_at_present() -> None:
    """They go last, and remain for the case that nothing else works either."""
    chosen = route(Needs(), 0.5, conditions=Conditions(down={"edge-large-1"}))
    all_down = route(Needs(), 0.8, conditions=Conditions(down={"cloud-fast-1", "cloud-quality-1"}))

    assert (chosen.models, chosen.reason) == ((CLOUD_FAST, CLOUD_QUALITY, EDGE_LARGE), "unhealthy")
    assert (all_down.models, all_down.reason) == ((CLOUD_FAST, CLOUD_QUALITY), "complex")


def test_fallback_that_fails_at_present() -> None:
    """That is no reason for the first model."""
    chosen = route(Needs(), 0.5, conditions=Conditions(down={"cloud-fast-1"}))

    assert (chosen.models, chosen.reason) == ((EDGE_LARGE, CLOUD_QUALITY, CLOUD_FAST), "medium")


def test_residency() -> None:
    """No edge model can promise where it runs: the cloud answers, if it has a region in the area."""
    chosen = route(Needs(residency="eu"), conditions=Conditions(residencies={"eu", "us"}))

    assert (chosen.models, chosen.reasons) == ((CLOUD_FAST, CLOUD_QUALITY), ("simple", "residency"))


@pytest.mark.parametrize("model", ["auto", "edge", "cloud", "edge-small-1", "cloud-fast-1"])
def test_residency_that_nothing_can_keep(model: str) -> None:
    """Fails closed, and names the parameter."""
    residencies = {"us"} if model in ("auto", "cloud", "cloud-fast-1") else {"eu"}

    with pytest.raises(RequestRejected) as caught:
        route(Needs(model, residency="eu"), conditions=Conditions(residencies=residencies))

    assert (caught.value.status, caught.value.param) == (400, "residency")


def test_next_model_in_time() -> None:
    """The first that can still make it; when none can, the fastest."""
    predicted_ms = {"edge-small-1": 100.0, "edge-large-1": 300.0, "cloud-fast-1": 200.0}
    models = [EDGE_LARGE, CLOUD_FAST, EDGE_SMALL]

    assert [next_in_time(models, predicted_ms, left_ms) for left_ms in (300, 299, 199, 99)] == [0, 1, 2, 2]


def test_patience() -> None:
    """Until the last moment at which another model can make it, but never less than the model itself should take."""
    predicted_ms = {"edge-small-1": 100.0, "edge-large-1": 300.0}

    assert patience_ms(EDGE_SMALL, [EDGE_LARGE], predicted_ms, 1000) == 700
    assert patience_ms(EDGE_SMALL, [EDGE_LARGE], predicted_ms, 400) == 100
    assert patience_ms(EDGE_SMALL, [EDGE_LARGE], predicted_ms, 399) == float("inf")
    assert patience_ms(EDGE_SMALL, [], predicted_ms, 1000) == float("inf")


def test_every_reason_is_explained() -> None:
    """docs/routing.md lists the reasons that there are, and no others."""
    page = (Path(__file__).parents[2] / "docs" / "routing.md").read_text()
    listed = re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)

    assert sorted(listed) == sorted(get_args(Reason))

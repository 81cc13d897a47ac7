"""Keys that may use some models only: what they may ask, that no way out of a failure leaves them, what they see."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.allowed_models import AllowedModels
from edge_router.catalog import Catalog, Model
from edge_router.embeddings import MODEL as EMBEDDER
from edge_router.errors import UpstreamError
from edge_router.replies import Reply
from tests.edge_router.harness import (
    CLOUD_FAST,
    CLOUD_QUALITY,
    COMPLEX_PROMPT,
    EDGE_LARGE,
    EDGE_SMALL,
    SIMPLE_PROMPT,
    FixedScore,
    World,
    answer_cloud,
    answer_edge,
    bearer,
    chat_body,
    cloud,
    edge,
    error_of,
    key_records,
    read_json,
    read_stream,
)
from tests.fakes import CloudCall, EdgeCall, FakeUpstreamResponse

SIMULATED = Model("sim-*", "cloud", "cloud-fast", 128_000)
MODELS = (
    replace(EDGE_SMALL, stand_in=CLOUD_QUALITY.id),
    replace(EDGE_LARGE, stand_in="sim-5"),
    CLOUD_FAST,
    CLOUD_QUALITY,
    SIMULATED,
)


def world(*patterns: str, **parts: Any) -> World:
    """A tenant with two keys: k001 may use some models, full all of them."""
    keys = key_records(k001={"tenant": "acme", "models": list(patterns)}, full={"tenant": "acme"})
    return World(**{"auth": "keys", "keys": keys, "models": MODELS, **parts})


async def asked(around: World, **fields: Any) -> Reply:
    return await around.ask(chat_body(**fields), headers=bearer())


@pytest.mark.parametrize(
    ("patterns", "allowed"),
    [
        pytest.param(("auto",), {"edge-small-1", "edge-large-1", "cloud-fast-1", "cloud-quality-1"}, id="auto"),
        pytest.param(("edge",), {"edge-small-1", "edge-large-1"}, id="a side"),
        pytest.param(("cloud-fast-1",), {"cloud-fast-1"}, id="an id"),
        pytest.param(("cloud-*", "edge-small-1"), {"cloud-fast-1", "cloud-quality-1", "edge-small-1"}, id="a prefix"),
        pytest.param(("cloud-fast",), set(), id="a prefix without its star"),
        pytest.param(("*",), {"edge-small-1", "edge-large-1", "cloud-fast-1", "cloud-quality-1"}, id="all"),
    ],
)
def test_patterns(patterns: tuple[str, ...], allowed: set[str]) -> None:
    """Ids, prefixes, and the words for a side or for every model."""
    models = AllowedModels(patterns).of(Catalog(MODELS[:4])).models

    assert {model.id for model in models} == allowed


@pytest.mark.parametrize(
    ("patterns", "model", "status"),
    [
        pytest.param(["cloud-fast-1"], "cloud-fast-1", 200, id="allowed"),
        pytest.param(["cloud-fast-1"], "cloud-quality-1", 403, id="another"),
        pytest.param(["cloud-fast-1"], "auto", 200, id="decided among what is allowed"),
        pytest.param(["cloud-fast-1"], "cloud", 200, id="its side"),
        pytest.param(["cloud-fast-1"], "edge", 403, id="the other side"),
        pytest.param(["sim-4*"], "sim-429", 200, id="an id of a wildcard"),
        pytest.param(["sim-4*"], "sim-500", 403, id="another id of the wildcard"),
        pytest.param(["sim-4*"], "auto", 403, id="a wildcard is only ever pinned"),
        pytest.param(["gone"], "auto", 403, id="nothing that exists"),
        pytest.param(["gone"], "gone", 404, id="allowed and does not exist"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/route", "/v1/responses", "/"])
async def test_model_asked_for(path: str, patterns: list[str], model: str, status: int) -> None:
    """403 for what the key may not use, wherever it is asked for; no model is called."""
    around = world(*patterns)
    bodies = {"/v1/responses": {"input": SIMPLE_PROMPT}, "/": {"prompt": SIMPLE_PROMPT}}
    reply = await around.ask({**bodies.get(path, chat_body()), "model": model}, path=path, headers=bearer())

    assert reply.status == status
    if status == 403:
        assert (error_of(reply)["code"], error_of(reply)["param"]) == ("model_not_allowed", "model")
        assert around.calls == 0


@pytest.mark.parametrize(
    ("patterns", "status"), [(["edge"], 200), ([EMBEDDER], 200), (["@cf/*"], 200), (["auto"], 200), (["cloud"], 403)]
)
async def test_embedder(patterns: list[str], status: int) -> None:
    """Is a model of the edge."""
    reply = await world(*patterns).ask({"input": "Hi"}, path="/v1/embeddings", headers=bearer())

    assert reply.status == status


@settings(max_examples=150, deadline=None)
@given(
    patterns=st.lists(st.sampled_from([*(model.id for model in MODELS[:4]), "edge", "cloud", "sim-4*"]), min_size=1),
    model=st.sampled_from(["auto", "edge", "cloud", *(model.id for model in MODELS[:4]), "sim-4", "sim-5"]),
    failing=st.sets(st.sampled_from([*(model.id for model in MODELS[:4]), "sim-4"])),
    refusing=st.booleans(),
    score=st.sampled_from([0.1, 0.4, 0.6, 0.8, 0.95]),
    cascade=st.sampled_from(["off", "on", "race"]),
    is_bound=st.booleans(),
    stream=st.booleans(),
    fields=st.sampled_from([{}, {"max_latency_ms": 100}, {"cascade": True}, {"cascade": "race"}]),
)
async def test_nothing_leaves_the_allowed_models(
    patterns: list[str],
    model: str,
    failing: set[str],
    refusing: bool,
    score: float,
    cascade: Any,
    is_bound: bool,
    stream: bool,
    fields: dict[str, Any],
) -> None:
    """Whatever fails, however it is asked: fallbacks, cascade, stand-ins and doubled calls stay within them."""
    called: set[str] = set()

    def answer(call: EdgeCall | CloudCall) -> FakeUpstreamResponse:
        name = call.model_id if isinstance(call, EdgeCall) else call.body["model"]
        called.add(name)
        if name in failing:
            raise UpstreamError("down")
        if isinstance(call, CloudCall):
            return answer_cloud(call)
        if refusing and not call.inputs.get("stream"):
            return FakeUpstreamResponse.plain({"response": "I'm sorry, but I can't help with that."})
        return answer_edge(call)

    around = world(*patterns, edge=edge(answer), cloud=cloud(answer), scorer=FixedScore(score), cascade=cascade)
    around.edge.is_bound = is_bound
    allowed = AllowedModels(tuple(patterns))
    reply = await asked(around, model=model, stream=stream, **fields)
    if not isinstance(reply.body, str):
        await read_stream(reply)

    sides = {**{each.id: each.side for each in MODELS}, "sim-4": "cloud", "sim-5": "cloud"}
    assert all(allowed.allows(name, sides[name]) for name in called)


async def test_decision_explained() -> None:
    """Tells nothing of what the key may not use."""
    reply = await world("cloud-fast-1").ask(chat_body(), path="/v1/route", headers=bearer())

    assert "cloud-quality-1" not in str(reply.body)
    assert [each["model"] for each in read_json(reply)["candidates"]] == ["cloud-fast-1"]


@pytest.mark.parametrize("semantic", ["off", "on"])
async def test_answer_stored_by_another_key(semantic: Any) -> None:
    """One that a model gave which this key may not use is not served to it, also when it is near, or all else fails."""
    around = world("edge", semantic_cache=semantic, scorer=FixedScore(0.8))
    gateway = around.gateway()

    async def models_of(*keys: str) -> list[Any]:
        replies = []
        for key in keys:
            reply = await around.ask(chat_body(COMPLEX_PROMPT), headers=bearer(key), of=gateway)
            await around.background.finish()
            replies.append((reply.headers["nearside-served-by"], reply.headers["nearside-model"]))
        return replies

    assert await models_of("full", "full") == [("cloud", "cloud-fast-1"), ("exact-cache", "cloud-fast-1")]
    assert await models_of("k001", "k001") == [("edge-model", "edge-large-1"), ("exact-cache", "edge-large-1")]
    assert await models_of("full") == [("exact-cache", "edge-large-1")]


@pytest.mark.parametrize(
    ("patterns", "listed"),
    [
        pytest.param(["edge"], ["auto", "edge", "edge-small-1", "edge-large-1", EMBEDDER], id="a side"),
        pytest.param(["cloud-fast-1"], ["auto", "cloud", "cloud-fast-1"], id="an id"),
        pytest.param(["sim-*"], [], id="a wildcard is not listed"),
    ],
)
async def test_list_of_models(patterns: list[str], listed: list[str]) -> None:
    """Only those, also one by one."""
    around = world(*patterns)
    reply = await around.ask(path="/v1/models", method="GET", headers=bearer())
    assert [model["id"] for model in read_json(reply)["data"]] == listed

    for model_id in ("auto", "edge", "cloud", EDGE_SMALL.id, CLOUD_FAST.id, EMBEDDER):
        one = await around.ask(path=f"/v1/models/{model_id}", method="GET", headers=bearer())
        assert one.status == (200 if model_id in listed else 404)

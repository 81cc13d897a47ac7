"""Answers without Workers AI: its free allocation is used up, or there is no AI binding."""

from dataclasses import replace

import pytest

from edge_router.catalog import CatalogError, parse_catalog
from tests.edge_router.harness import (
    CLOUD_FAST,
    CLOUD_QUALITY,
    EDGE_LARGE,
    EDGE_SMALL,
    Asking,
    World,
    answer_edge,
    chat_body,
    edge,
    error_of,
    read_json,
    read_stream,
    streamed_text,
    text_of,
)
from tests.fakes import EdgeCall, FakeUpstreamResponse

USED_UP = '{"internalCode": 3036, "description": "daily free allocation used up"}'
WITH_STAND_INS = (
    replace(EDGE_SMALL, stand_in=CLOUD_QUALITY.id),
    replace(EDGE_LARGE, stand_in=CLOUD_FAST.id),
    CLOUD_FAST,
    CLOUD_QUALITY,
)
MIDNIGHT_IN_S = 86_400 - 1_790_000_000 % 86_400  # from the fake clock's start


def used_up(call: EdgeCall) -> FakeUpstreamResponse:
    return FakeUpstreamResponse.plain(USED_UP, status=429)


async def test_allowance_used_up() -> None:
    """The cloud answers, this and the next requests, and Workers AI is asked once in ten minutes."""
    world = World(edge=edge(used_up))
    asking = Asking(world)
    first = await asking.ask(model="auto", messages=chat_body()["messages"])
    second = await asking.ask(model="auto", messages=chat_body()["messages"])
    world.clock.advance(601)
    world.edge.handler = answer_edge
    later = await asking.ask(model="auto", messages=chat_body()["messages"])

    assert [reply.headers["nearside-served-by"] for reply in (first, second, later)] == ["cloud", "cloud", "edge-model"]
    assert [reply.headers["nearside-route-reason"] for reply in (first, second)] == ["edge-allowance"] * 2
    assert read_json(first)["nearside"]["fallbacks"] == ["edge-small-1: edge_allowance_used_up"]
    assert len(world.edge.calls) == 2


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(("model", "stand_in"), [("edge", CLOUD_QUALITY.id), (EDGE_LARGE.id, CLOUD_FAST.id)])
async def test_stand_ins(model: str, stand_in: str, stream: bool) -> None:
    """Where the catalog names a cloud model for an edge model, even those who ask for the edge get an answer."""
    world = World(models=WITH_STAND_INS, edge=edge(used_up))
    asking = Asking(world)
    for _ in range(2):
        reply = await asking.ask(model=model, messages=chat_body()["messages"], stream=stream)

        text = streamed_text(await read_stream(reply)) if stream else text_of(reply)
        assert text == f"Paris, says {stand_in}@fra."
        assert reply.headers["nearside-route-reason"] == "edge-allowance"
    assert len(world.edge.calls) == 1


async def test_nothing_stands_in() -> None:
    """Who asks for the edge alone is told when it is back: at midnight, UTC."""
    world = World(edge=edge(used_up))
    asking = Asking(world)
    for _ in range(2):
        reply = await asking.ask(model="edge")

        assert reply.status == 429
        assert error_of(reply)["code"] == "edge_allowance_used_up"
        assert reply.headers["retry-after"] == str(MIDNIGHT_IN_S)
    assert len(world.edge.calls) == 1


async def test_allowance_comes_back_at_midnight() -> None:
    """Not ten minutes later."""
    world = World(edge=edge(used_up))
    world.clock.advance(MIDNIGHT_IN_S - 5)
    asking = Asking(world)
    await asking.ask(model="edge")
    world.clock.advance(6)
    world.edge.handler = answer_edge

    assert (await asking.ask(model="edge")).status == 200


async def test_no_binding() -> None:
    """No edge model is asked; who wants one alone gets 503."""
    world = World()
    world.edge.is_bound = False
    auto, forced = await world.ask(chat_body()), await world.ask(chat_body(model="edge"))

    assert auto.headers["nearside-served-by"] == "cloud"
    assert auto.headers["nearside-route-reason"] == "edge-absent"
    assert (forced.status, error_of(forced)["code"]) == (503, "edge_absent")
    assert world.edge.calls == []


@pytest.mark.parametrize("stand_in", ["nobody", "@cf/edge", 5])
def test_stand_in_that_is_no_cloud_model(stand_in: object) -> None:
    """Stops the start with one line."""
    entry = {"id": "@cf/edge", "side": "edge", "tier": "edge-small", "context_window_tokens": 1, "stand_in": stand_in}
    with pytest.raises(CatalogError, match="@cf/edge: stand_in must be the id of a cloud model"):
        parse_catalog([entry])


async def test_session_affinity() -> None:
    """Equal for the turns of one conversation and for one `prompt_cache_key`; never for two tenants' words."""
    world = World()
    turn = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 1+1?"}]
    more = [*turn, {"role": "assistant", "content": "2"}, {"role": "user", "content": "And 2+2?"}]
    for body in (
        {"messages": turn},
        {"messages": more},
        {"messages": turn[1:]},
        {"messages": turn, "prompt_cache_key": "k"},
        {"messages": more, "prompt_cache_key": "k"},
    ):
        await world.ask({**body, "model": "edge"})

    first, second, other, keyed, keyed_too = [call.affinity for call in world.edge.calls]
    assert first == second
    assert keyed == keyed_too
    assert len({first, other, keyed}) == 3
    assert first is not None
    assert len(first) == 32


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 4}}, {"hit_percent": 40.0}),
        ({"prompt_tokens_details": {"cached_tokens": 0}}, {"hit_percent": 0.0}),
        ({"prompt_tokens_details": {"cached_tokens": 11}}, None),
        ({"prompt_tokens_details": {"cached_tokens": "4"}}, None),
        ({}, None),
    ],
)
async def test_prompt_cache_of_the_provider(details: dict[str, object], expected: object) -> None:
    """Reported as a percentage of the input tokens, when the provider says it and it can be."""
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, **details}
    world = World(edge=edge(lambda call: FakeUpstreamResponse.plain({"response": "Paris.", "usage": usage})))
    reply = await world.ask(chat_body())

    assert read_json(reply)["nearside"].get("prompt_cache") == expected

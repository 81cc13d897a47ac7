"""How many lines are answered at a time: light ones four, heavy ones by themselves."""

import asyncio

import pytest

from edge_router import embeddings
from edge_router.batches.room import CONCURRENT_LINES, ROOM, Room, weight_of
from tests.edge_router.batches.harness import BatchWorld, line
from tests.edge_router.harness import World, answer_edge, edge
from tests.fakes import EdgeCall, FakeUpstreamResponse


@pytest.mark.parametrize(
    ("path", "body", "together"),
    [
        ("/v1/chat/completions", {"messages": []}, CONCURRENT_LINES),
        ("/v1/embeddings", {"input": "one"}, CONCURRENT_LINES),
        ("/v1/embeddings", {"input": ["text"] * 100}, CONCURRENT_LINES),
        ("/v1/embeddings", {"input": ["text"] * 1000}, 2),
        ("/v1/embeddings", {"input": ["text"] * 1025}, 1),
        ("/v1/embeddings", {"input": ["text"] * embeddings.MAX_TEXTS}, 1),
        ("/v1/embeddings", {"input": ["text"] * 10_000}, 1),
        ("/v1/embeddings", {"input": 7}, CONCURRENT_LINES),
    ],
)
async def test_how_many_at_a_time(path: str, body: dict[str, object], together: int) -> None:
    """As many as fit; all of them have their turn, in their order."""
    room, inside, most, order = Room(), 0, 0, []

    async def enter(number: int) -> None:
        nonlocal inside, most
        async with room.taken(weight_of(path, body)):
            order.append(number)
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*map(enter, range(9)))

    assert (most, order) == (together, [*range(9)])


async def test_heavy_line_has_its_turn() -> None:
    """Light lines that come after a heavy one wait for it, or it would never have room."""
    room = Room()
    order: list[str] = []

    async def enter(name: str, weight: int) -> None:
        async with room.taken(weight):
            order.append(name)
            await asyncio.sleep(0)

    await asyncio.gather(enter("light", 1), enter("heavy", ROOM), enter("late", 1))

    assert order == ["light", "heavy", "late"]


async def test_room_is_given_back() -> None:
    """By a line that fails, by one that is cancelled while it waits, and by one that is cancelled inside."""
    room = Room()

    async def fail() -> None:
        async with room.taken(ROOM):
            raise ValueError("fails")

    async def stay() -> None:
        async with room.taken(ROOM):
            await asyncio.Event().wait()

    with pytest.raises(ValueError, match="fails"):
        await fail()
    inside, waiting = asyncio.ensure_future(stay()), asyncio.ensure_future(stay())
    await asyncio.sleep(0)
    for each in (waiting, inside):
        each.cancel()
    await asyncio.gather(inside, waiting, return_exceptions=True)

    async with asyncio.timeout(1), room.taken(ROOM):
        pass


async def test_large_embeddings_come_one_at_a_time() -> None:
    """Of lines with 2,048 texts each, the vectors of one are in memory at a time, and every line is answered."""
    running: dict[str, int] = {}
    together: list[int] = []

    def answer(call: EdgeCall) -> FakeUpstreamResponse:
        running[call.inputs["text"][0]] = 1
        together.append(len(running))
        return answer_edge(call)

    world = World(edge=edge(answer))
    batches = BatchWorld(world)
    ended: list[str] = []
    real = batches.gateway.answer_later

    async def watched(
        key_id: str | None, tenant_id: str, path: str, body: dict[str, object], background: object
    ) -> object:
        found = await real(key_id, tenant_id, path, body, background)  # type: ignore[arg-type]  # passed on as it came
        texts = body["input"]
        assert isinstance(texts, list)
        running.pop(texts[0])
        ended.append(texts[0])
        return found

    batches.gateway.answer_later = watched  # type: ignore[assignment, method-assign]  # it only watches
    lines = [line(f"e{n}", "/v1/embeddings", input=[f"text {n}"] * embeddings.MAX_TEXTS) for n in range(3)]

    batch = await batches.run(await batches.create("\n".join(lines), endpoint="/v1/embeddings"))

    assert batch["request_counts"]["completed"] == 3
    assert max(together) == 1
    assert sorted(ended) == ["text 0", "text 1", "text 2"]

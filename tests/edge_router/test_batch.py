"""`/v1/completions/batch`: many prompts at once, each answered or failed for itself."""

import json
from dataclasses import replace
from typing import Any

import pytest

from edge_router.cloud_api import REGION_HEADER
from edge_router.endpoints import CONCURRENT_CALLS
from edge_router.errors import UpstreamError
from edge_router.replies import Reply
from edge_router.text_completions import MAX_PROMPTS
from tests.edge_router.harness import (
    COMPLEX_PROMPT,
    EDGE_SMALL,
    FRANKFURT,
    SIMPLE_PROMPT,
    World,
    cloud,
    edge,
    error_of,
    native,
    read_json,
)
from tests.fakes import CloudCall, EdgeCall, FakeUpstreamResponse

PATH = "/v1/completions/batch"


def prompt_of(call: EdgeCall) -> str:
    text = call.inputs["messages"][-1]["content"]
    assert isinstance(text, str)
    return text


def echo(call: EdgeCall) -> FakeUpstreamResponse:
    return FakeUpstreamResponse.plain(native(prompt_of(call)))


def small(**fields: Any) -> World:
    """One model at the edge and nothing else."""
    return World(**{"models": (EDGE_SMALL,), "edge": edge(echo), **fields})


async def ask(world: World, prompts: object, **fields: Any) -> Reply:
    return await world.ask({"prompts": prompts, **fields}, path=PATH)


class Meter:
    """An edge that answers after a pause and counts how many calls it had at the same time."""

    def __init__(self, pauses_s: list[float]) -> None:
        self._pauses_s = pauses_s
        self._running = 0
        self.most = 0

    def __call__(self, call: EdgeCall) -> FakeUpstreamResponse:
        self._running += 1
        self.most = max(self.most, self._running)
        body = json.dumps(native(prompt_of(call))).encode()
        return FakeUpstreamResponse(self._pauses_s[int(prompt_of(call))], body, b" ", on_read=Countdown(self._left))

    def _left(self) -> None:
        self._running -= 1


class Countdown:
    """Tells of the third read of an answer, its last."""

    def __init__(self, at_end: Any) -> None:
        self._left = 3
        self._at_end = at_end

    def __call__(self) -> None:
        self._left -= 1
        if not self._left:
            self._at_end()


async def test_batch() -> None:
    """One text a prompt, in their order, with the sum of the costs."""
    world = small()
    reply = await ask(world, ["one", "two", "three"])
    body = read_json(reply)

    assert body["responses"] == ["one", "two", "three"]
    assert (body["count"], body["errors"]) == (3, [])
    assert body["nearside"]["cost_usd"] == pytest.approx(3 * 0.00002)
    assert reply.headers["nearside-model"] == "edge-small-1"
    assert len(world.telemetry.records) == 1


async def test_batch_of_one() -> None:
    """Has the report of its only prompt."""
    body = read_json(await ask(small(), ["one"]))

    assert body["responses"] == ["one"]
    assert body["nearside"]["model"] == "edge-small-1"
    assert body["nearside"]["complexity"] == 0.2


async def test_attempts_that_failed() -> None:
    """Those of all prompts are told, and the area that holds for all."""

    def no_cloud(_: CloudCall) -> FakeUpstreamResponse:
        return FakeUpstreamResponse.plain({"error": {"message": "down"}}, status=500)

    world = World(cloud=cloud(no_cloud), regions=(replace(FRANKFURT, residency="eu"),))
    report = read_json(await ask(world, ["one", "two"], residency="eu"))["nearside"]

    assert len(report["fallbacks"]) >= 2
    assert report["residency"] == "eu"


async def test_order() -> None:
    """Is that of the prompts, whoever answers first."""
    meter = Meter([0.03, 0.02, 0.01, 0.0])
    body = read_json(await ask(small(edge=edge(meter)), ["0", "1", "2", "3"]))

    assert body["responses"] == ["0", "1", "2", "3"]


async def test_prompts_at_the_same_time() -> None:
    """As many as a Worker may wait for, and no more."""
    meter = Meter([0.005] * 10)
    body = read_json(await ask(small(edge=edge(meter)), [str(place) for place in range(10)]))

    assert body["count"] == 10
    assert meter.most == CONCURRENT_CALLS == 4


async def test_time() -> None:
    """What it took, and what it would have taken one after the other."""
    world = small()

    def take_100_ms(call: EdgeCall) -> FakeUpstreamResponse:
        world.clock.advance(0.1)
        return echo(call)

    world.edge.handler = take_100_ms
    body = read_json(await ask(world, ["one", "two"]))

    assert body["latency_ms"] == pytest.approx(200)
    assert body["sequential_ms"] >= body["latency_ms"]


async def test_prompt_that_fails() -> None:
    """Leaves null in its place and says why; the others are answered."""

    def fails_on_two(call: EdgeCall) -> FakeUpstreamResponse:
        if prompt_of(call) == "two":
            raise UpstreamError("Workers AI can't be reached.")
        return echo(call)

    reply = await ask(small(edge=edge(fails_on_two)), ["one", "two", "three"])
    body = read_json(reply)

    assert reply.status == 200
    assert body["responses"] == ["one", None, "three"]
    assert [(entry["index"], entry["error"]["code"]) for entry in body["errors"]] == [(1, "upstream_error")]
    assert set(body["errors"][0]["error"]) == {"message", "type", "param", "code"}


async def test_prompt_that_the_cloud_refuses() -> None:
    """Is told in its place too."""
    world = World()
    refusal = {"error": {"message": "Bad.", "param": "messages", "code": "bad"}}
    world.cloud.handler = lambda call: FakeUpstreamResponse.plain(refusal, status=400, headers={REGION_HEADER: "fra"})
    body = read_json(await ask(world, [SIMPLE_PROMPT, COMPLEX_PROMPT]))

    assert body["responses"] == ["Paris, says edge-small-1.", None]
    assert [(entry["index"], entry["error"]["param"]) for entry in body["errors"]] == [(1, "messages")]


async def test_shared_fields() -> None:
    """Hold for every prompt."""
    world = small()
    await ask(world, ["one", "two"], max_tokens=7, temperature=0.5)

    assert [(call.inputs["max_tokens"], call.inputs["temperature"]) for call in world.edge.calls] == [(7, 0.5)] * 2


@pytest.mark.parametrize("name", ["stream", "echo"])
async def test_what_a_batch_does_not_do(name: str) -> None:
    """Its answers come together, without the prompts."""
    world = small()
    reply = await ask(world, ["one"], **{name: True})

    assert (reply.status, error_of(reply)["param"]) == (400, name)
    assert world.calls == 0


async def test_prompts_that_are_stored() -> None:
    """Cost nothing; the others are asked."""
    world = small()
    await ask(world, ["one"])
    await world.background.finish()
    reply = await ask(world, ["one", "two"])

    assert read_json(reply)["responses"] == ["one", "two"]
    assert world.calls == 2
    assert reply.headers["nearside-cost-usd"] == "0.00002"
    assert reply.headers["nearside-cost-avoided-usd"] == "0.00002"
    assert reply.headers["cache-status"] == "nearside; fwd=miss"


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        pytest.param({}, "prompts", "missing_required_parameter", id="no prompts"),
        pytest.param({"prompts": "one"}, "prompts", "invalid_type", id="text"),
        pytest.param({"prompts": []}, "prompts", "empty_array", id="an empty list"),
        pytest.param({"prompts": ["a"] * (MAX_PROMPTS + 1)}, "prompts", "array_above_max_length", id="too many"),
        pytest.param({"prompts": ["a", 5]}, "prompts[1]", "invalid_type", id="a number"),
        pytest.param({"prompts": ["a"], "n": 0}, "n", "integer_below_min_value", id="a wrong field"),
        pytest.param({"prompts": ["a"], "max_tokens": "7"}, "max_tokens", "invalid_type", id="a field of a wrong type"),
    ],
)
async def test_request_that_is_refused(body: dict[str, Any], param: str, code: str) -> None:
    """400 that names the parameter; no model is asked."""
    world = World()
    reply = await world.ask(body, path=PATH)

    assert reply.status == 400
    assert (error_of(reply)["param"], error_of(reply)["code"]) == (param, code)
    assert world.calls == 0


async def test_bug_in_one_prompt() -> None:
    """Is a bug of the whole: 500, and nothing goes on."""

    def bug(call: EdgeCall) -> FakeUpstreamResponse:
        raise ZeroDivisionError

    world = small(edge=edge(bug))
    reply = await ask(world, ["one", "two"])

    assert (reply.status, error_of(reply)["code"]) == (500, "internal_error")

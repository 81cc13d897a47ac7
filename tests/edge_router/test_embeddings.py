"""`/v1/embeddings`: vectors in OpenAI's shape, what is refused, and an embedder that fails."""

import base64
import json
from array import array
from typing import Any

import pytest

from edge_router.embeddings import DIMENSIONS, MAX_TEXTS, MODEL
from edge_router.errors import UpstreamError
from edge_router.replies import Reply
from edge_router.tokens import estimate_tokens
from tests.edge_router.harness import World, edge, error_of, read_json, vector_of
from tests.fakes import STALL, EdgeCall, FakeUpstreamResponse, Step

PATH = "/v1/embeddings"
VECTOR = vector_of("a")


async def ask(world: World, **body: Any) -> Reply:
    return await world.ask(body, path=PATH)


def vectors_of(reply: Reply) -> list[list[float]]:
    return [item["embedding"] for item in read_json(reply)["data"]]


async def test_one_text() -> None:
    """A list with one vector of floats; the counts are estimates, because the embedder does not count."""
    world = World()
    reply = await ask(world, input="Paris", model="auto")
    body = read_json(reply)
    tokens = estimate_tokens("Paris")

    assert body["data"] == [{"object": "embedding", "index": 0, "embedding": vector_of("Paris")}]
    assert (body["object"], body["model"]) == ("list", MODEL)
    assert body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert body["nearside"]["usage_estimated"] is True
    assert body["nearside"]["cost_usd"] == pytest.approx(tokens * 0.02e-6)
    assert reply.headers["nearside-served-by"] == "edge-model"
    assert reply.headers["nearside-model"] == MODEL
    assert reply.headers["nearside-route-reason"] == "pinned"
    assert "embed;dur=" in reply.headers["server-timing"]


async def test_what_the_embedder_gets() -> None:
    """The texts and the way of pooling, which must be the same for all vectors that are ever compared."""
    world = World()
    await ask(world, input=["a", "b"], model=MODEL, user="u")

    assert [(call.model_id, call.inputs) for call in world.edge.calls] == [
        (MODEL, {"text": ["a", "b"], "pooling": "cls"})
    ]


async def test_base64() -> None:
    """Little-endian 32-bit floats: what OpenAI's SDKs ask for by default, and the same numbers."""
    plain = vectors_of(await ask(World(), input=["a", "bb"]))
    texts = [
        item["embedding"] for item in read_json(await ask(World(), input=["a", "bb"], encoding_format="base64"))["data"]
    ]
    decoded = [array("f", base64.b64decode(text)) for text in texts]

    assert [list(vector) for vector in decoded] == [list(array("f", vector)) for vector in plain]
    assert base64.b64decode(texts[0])[:4] == b"\x00\x00\x80\x3f"  # 1.0


async def test_many_texts() -> None:
    """Are sent in parts of what the embedder takes at once, and come back in their order."""
    texts = ["x" * (1 + place) for place in range(250)]
    world = World()
    reply = await ask(world, input=texts)

    assert [len(call.inputs["text"]) for call in world.edge.calls] == [100, 100, 50]
    assert vectors_of(reply) == [vector_of(text) for text in texts]
    assert [item["index"] for item in read_json(reply)["data"]] == list(range(250))


async def test_parts_that_answer_in_another_order() -> None:
    """Come back in the order of the texts all the same."""
    pauses = [0.02, 0.01, 0.0]

    def slow(call: EdgeCall) -> FakeUpstreamResponse:
        body = json.dumps({"data": [vector_of(text) for text in call.inputs["text"]]})
        return FakeUpstreamResponse(pauses.pop(0), body.encode())

    texts = ["x" * (1 + place) for place in range(201)]

    assert vectors_of(await ask(World(edge=edge(slow)), input=texts)) == [vector_of(text) for text in texts]


@pytest.mark.parametrize("model", ["auto", "edge", MODEL])
async def test_names_of_the_embedder(model: str) -> None:
    """The router's names and its own."""
    assert (await ask(World(), input="a", model=model)).status == 200


@pytest.mark.parametrize("dimensions", [None, DIMENSIONS])
async def test_dimensions(dimensions: int | None) -> None:
    """Those that the model has may be asked for."""
    assert len(vectors_of(await ask(World(), input="a", dimensions=dimensions))[0]) == DIMENSIONS


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        pytest.param({"input": None}, "input", "invalid_type", id="null"),
        pytest.param({"input": []}, "input", "empty_array", id="an empty list"),
        pytest.param({"input": ""}, "input", "empty_string", id="empty text"),
        pytest.param({"input": ["a", ""]}, "input[1]", "empty_string", id="empty text in a list"),
        pytest.param({"input": ["a", "\ud800"]}, "input[1]", "invalid_value", id="half a surrogate pair"),
        pytest.param({"input": [1, 2]}, "input", "invalid_type", id="tokens"),
        pytest.param({"input": [[1], [2]]}, "input", "invalid_type", id="lists of tokens"),
        pytest.param({"input": ["a"] * (MAX_TEXTS + 1)}, "input", "array_above_max_length", id="too many"),
        pytest.param({"input": "a", "dimensions": 64}, "dimensions", "unsupported_value", id="other dimensions"),
        pytest.param({"input": "a", "dimensions": "384"}, "dimensions", "invalid_type", id="dimensions as text"),
        pytest.param(
            {"input": "a", "encoding_format": "hex"}, "encoding_format", "invalid_value", id="an odd encoding"
        ),
    ],
)
async def test_request_that_is_refused(fields: dict[str, Any], param: str, code: str) -> None:
    """400 that names the parameter; the embedder is not asked."""
    world = World()
    reply = await ask(world, **fields)

    assert reply.status == 400
    assert (error_of(reply)["param"], error_of(reply)["code"]) == (param, code)
    assert world.calls == 0


@pytest.mark.parametrize("model", ["text-embedding-3-small", "edge-small-1", "cloud"])
async def test_model_that_is_no_embedder(model: str) -> None:
    """404 with OpenAI's code."""
    reply = await ask(World(), input="a", model=model)

    assert (reply.status, error_of(reply)["param"], error_of(reply)["code"]) == (404, "model", "model_not_found")


def answers(*steps: Step, status: int = 200) -> World:
    return World(edge=edge(lambda call: FakeUpstreamResponse(*steps, status=status)), timeout_s=0.02)


def with_first(number: str) -> bytes:
    """A whole answer whose first number is this."""
    return b'{"data": [[' + ", ".join([number, *map(str, VECTOR[1:])]).encode() + b"]]}"


@pytest.mark.parametrize(
    ("step", "status"),
    [
        pytest.param(b"no json", 502, id="not JSON"),
        pytest.param(b"[" * 100_000, 502, id="nested too deeply"),
        pytest.param(b"[]", 502, id="a list"),
        pytest.param(b"{}", 502, id="no data"),
        pytest.param(b'{"data": null}', 502, id="null data"),
        pytest.param(b'{"data": []}', 502, id="no vector"),
        pytest.param(json.dumps({"data": [VECTOR, VECTOR]}).encode(), 502, id="too many vectors"),
        pytest.param(json.dumps({"data": [VECTOR[1:]]}).encode(), 502, id="too short a vector"),
        pytest.param(json.dumps({"data": [5]}).encode(), 502, id="a vector that is a number"),
        pytest.param(with_first("NaN"), 502, id="NaN"),
        pytest.param(with_first("-Infinity"), 502, id="infinite"),
        pytest.param(with_first("1e999"), 502, id="too large a number"),
        pytest.param(with_first("1" + "0" * 400), 502, id="too large a whole number"),
        pytest.param(with_first('"x"'), 502, id="text"),
        pytest.param(with_first("null"), 502, id="null"),
        pytest.param(UpstreamError("cut"), 502, id="breaks off"),
        pytest.param(STALL, 504, id="never answers"),
    ],
)
async def test_embedder_that_fails(step: Step, status: int) -> None:
    """The upstream's fault is 502 or 504, never 500, and no vector is invented."""
    world = answers(step)
    reply = await ask(world, input="a")

    assert reply.status == status
    assert error_of(reply)["type"] == "upstream_error"
    assert reply.headers["nearside-route-reason"] == "pinned"
    assert "crash" not in world.log.names()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(429, b"", (429, "upstream_busy"), id="429"),
        pytest.param(400, b"3040: out of capacity", (429, "upstream_busy"), id="out of capacity"),
        pytest.param(408, b"", (504, "upstream_timeout"), id="408"),
        pytest.param(500, b"5007: No such model", (502, "upstream_error"), id="an internal code"),
    ],
)
async def test_embedder_that_answers_with_an_error(status: int, body: bytes, expected: tuple[int, str]) -> None:
    """As with every model at the edge."""
    reply = await ask(answers(body, status=status), input="a")

    assert (reply.status, error_of(reply)["code"]) == expected


async def test_embedder_that_can_not_be_reached() -> None:
    """502."""

    def down(call: EdgeCall) -> FakeUpstreamResponse:
        raise UpstreamError("Workers AI can't be reached.")

    assert (await ask(World(edge=edge(down)), input="a")).status == 502


async def test_embedder_that_nobody_waits_for_any_more() -> None:
    """Is told, and so are the other parts of the same request."""
    responses: list[FakeUpstreamResponse] = []

    def stall(call: EdgeCall) -> FakeUpstreamResponse:
        responses.append(FakeUpstreamResponse(STALL))
        return responses[-1]

    reply = await ask(World(edge=edge(stall), timeout_s=0.02), input=["a"] * 150)

    assert reply.status == 504
    assert [response.cancels for response in responses] == [1, 1]

"""The emulated Vectorize index. Time is advanced by hand."""

from collections.abc import Callable
from typing import Any

import pytest

from scripts.local.vectorize import VectorizeError, VectorizeIndex
from tests.local.emulator_client import Emulator


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def axis(position: int, value: float = 1.0) -> list[float]:
    """A vector along one of the 384 axes."""
    values = [0.0] * 384
    values[position] = value
    return values


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def index(clock: Clock) -> VectorizeIndex:
    return VectorizeIndex(clock)


def ids(answer: dict[str, Any]) -> list[str]:
    return [match["id"] for match in answer["matches"]]


def test_a_write_is_visible_after_its_delay(index: VectorizeIndex, clock: Clock) -> None:
    """Not before; describe tells up to which mutation."""
    mutation = index.upsert([{"id": "a", "values": axis(0)}])
    before = (index.query(axis(0)), index.describe())
    clock.now_s = 0.5
    after = (index.query(axis(0)), index.describe())

    assert before[0] == {"matches": [], "count": 0}
    assert before[1]["processedUpToMutation"] is None
    assert after[0] == {"matches": [{"id": "a", "score": 1.0}], "count": 1}
    assert after[1]["processedUpToMutation"] == mutation["mutationId"]
    assert (after[1]["vectorCount"], after[1]["dimensions"]) == (1, 384)


@pytest.fixture
def filled(index: VectorizeIndex) -> VectorizeIndex:
    index.visible_after_s = 0.0
    mixed = [x + y for x, y in zip(axis(0), axis(1), strict=True)]
    index.upsert(
        [
            {"id": "a", "values": axis(0), "namespace": "one", "metadata": {"n": 1, "tag": "x", "in": {"k": 5}}},
            {"id": "b", "values": mixed, "namespace": "one", "metadata": {"n": 2, "tag": "y"}},
            {"id": "c", "values": axis(1), "namespace": "two", "metadata": {"n": 3, "tag": "x" * 100}},
            {"id": "d", "values": axis(0, -1.0)},
        ]
    )
    return index


def test_cosine_order(filled: VectorizeIndex) -> None:
    """Length does not matter; opposite is -1."""
    answer = filled.query(axis(0, 3.0))

    assert ids(answer) == ["a", "b", "c", "d"]
    assert [match["score"] for match in answer["matches"]] == pytest.approx([1.0, 0.5**0.5, 0.0, -1.0])


def test_namespace_and_top_k(filled: VectorizeIndex) -> None:
    assert ids(filled.query(axis(1), {"namespace": "one"})) == ["b", "a"]
    assert ids(filled.query(axis(1), {"topK": 1})) == ["c"]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        pytest.param({"n": 2}, "b", id="implicit eq"),
        pytest.param({"n": {"$eq": 2}}, "b", id="eq"),
        pytest.param({"n": {"$ne": 2}}, "acd", id="ne"),
        pytest.param({"n": {"$lt": 2}}, "a", id="lt"),
        pytest.param({"n": {"$lte": 2}}, "ab", id="lte"),
        pytest.param({"n": {"$gt": 2}}, "c", id="gt"),
        pytest.param({"n": {"$gte": 2, "$lt": 3}}, "b", id="range"),
        pytest.param({"n": {"$gt": "2"}}, "", id="a number is not a string"),
        pytest.param({"tag": {"$in": ["x", "y"]}}, "ab", id="in"),
        pytest.param({"tag": {"$nin": ["x", "y"]}}, "cd", id="nin"),
        pytest.param({"in.k": 5}, "a", id="nested"),
        pytest.param({"n": {"$gte": 1}, "tag": "y"}, "b", id="all conditions"),
    ],
)
def test_filter(filled: VectorizeIndex, condition: dict[str, Any], expected: str) -> None:
    assert sorted(ids(filled.query(axis(0), {"filter": condition}))) == list(expected)


@pytest.mark.parametrize(
    ("level", "metadata"),
    [
        (None, None),
        (False, None),
        ("none", None),
        (True, {"n": 3, "tag": "x" * 100}),
        ("all", {"n": 3, "tag": "x" * 100}),
        ("indexed", {"n": 3, "tag": "x" * 64}),
    ],
)
def test_returned_metadata(filled: VectorizeIndex, level: Any, metadata: dict[str, Any] | None) -> None:
    """Indexed strings are cut to 64 bytes."""
    match = filled.query(axis(1), {"topK": 1, "returnMetadata": level})["matches"][0]

    assert match.get("metadata") == metadata
    assert match["namespace"] == "two"
    assert "values" not in match


def test_by_id(filled: VectorizeIndex) -> None:
    assert ids(filled.query_by_id("c", {"topK": 2})) == ["c", "b"]
    assert [row["id"] for row in filled.get_by_ids(["a", "nobody"])] == ["a"]
    assert filled.get_by_ids(["a"])[0]["values"] == axis(0)
    assert filled.query(axis(0), {"topK": 1, "returnValues": True})["matches"][0]["values"] == axis(0)


def test_insert_keeps_and_upsert_replaces(filled: VectorizeIndex) -> None:
    filled.insert([{"id": "a", "values": axis(7)}])
    kept = filled.get_by_ids(["a"])[0]["values"]
    filled.upsert([{"id": "a", "values": axis(7)}])
    replaced = filled.get_by_ids(["a"])[0]["values"]

    assert (kept, replaced) == (axis(0), axis(7))


def test_delete(filled: VectorizeIndex) -> None:
    assert set(filled.delete_by_ids(["a", "nobody"])) == {"mutationId"}
    assert filled.describe()["vectorCount"] == 3


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda i: i.query([1.0]), id="query dimensions"),
        pytest.param(lambda i: i.upsert([{"id": "a", "values": [1.0]}]), id="dimensions"),
        pytest.param(lambda i: i.upsert([{"id": "a", "values": ["x"] * 384}]), id="not numbers"),
        pytest.param(lambda i: i.upsert([{"id": "é" * 33, "values": axis(0)}]), id="id of 66 bytes"),
        pytest.param(lambda i: i.upsert([{"values": axis(0)}]), id="no id"),
        pytest.param(lambda i: i.upsert([{"id": "a", "namespace": "n" * 65, "values": axis(0)}]), id="namespace"),
        pytest.param(
            lambda i: i.upsert([{"id": "a", "metadata": {"k": "x" * 10_300}, "values": axis(0)}]), id="metadata"
        ),
        pytest.param(lambda i: i.upsert([{"id": "a", "metadata": {"a.b": 1}, "values": axis(0)}]), id="key"),
        pytest.param(lambda i: i.upsert([{"id": "a", "metadata": "x", "values": axis(0)}]), id="metadata type"),
        pytest.param(lambda i: i.upsert([]), id="nothing"),
        pytest.param(lambda i: i.upsert([{"id": "a", "values": axis(0)}] * 1001), id="batch of 1001"),
        pytest.param(lambda i: i.query(axis(0), {"topK": 101}), id="topK over 100"),
        pytest.param(lambda i: i.query(axis(0), {"topK": 51, "returnMetadata": "all"}), id="topK over 50"),
        pytest.param(lambda i: i.query(axis(0), {"topK": 0}), id="topK of 0"),
        pytest.param(lambda i: i.query(axis(0), {"returnMetadata": "some"}), id="metadata level"),
        pytest.param(lambda i: i.query(axis(0), {"filter": {"n": {"$like": 1}}}), id="operator"),
        pytest.param(lambda i: i.query(axis(0), {"filter": {"n": {"$in": 1}}}), id="in without array"),
        pytest.param(lambda i: i.query(axis(0), {"filter": {"$n": 1}}), id="filter key"),
        pytest.param(lambda i: i.query(axis(0), {"filter": {"n": "x" * 3000}}), id="filter size"),
        pytest.param(lambda i: i.query(axis(0), {"filter": "n"}), id="filter type"),
        pytest.param(lambda i: i.query_by_id("nobody"), id="unknown id"),
        pytest.param(lambda i: i.get_by_ids(["a"] * 21), id="too many ids"),
        pytest.param(lambda i: i.call("query", []), id="missing argument"),
    ],
)
def test_refused(index: VectorizeIndex, call: Callable[[VectorizeIndex], object]) -> None:
    """What the binding refuses, at the call and not later."""
    with pytest.raises(VectorizeError):
        call(index)


async def test_over_http(emulator: Emulator) -> None:
    """The binding's arguments as an array; errors as {code, error}; the delay is settable."""
    await emulator.latency("vectorize", visible_after_ms=0)
    written = await emulator.vectorize("upsert", [{"id": "a", "values": axis(0), "metadata": {"n": 1}}])
    found = await emulator.vectorize("query", axis(0), {"returnMetadata": "all"})
    wrong = await emulator.vectorize("query", [1.0])
    unknown = await emulator.vectorize("explode")
    counters = await emulator.counters()
    cleared = await emulator.control("DELETE", "/vectors")

    assert set(written.json()) == {"mutationId"}
    assert found.json() == {"matches": [{"id": "a", "metadata": {"n": 1}, "score": 1.0}], "count": 1}
    assert (wrong.status, wrong.json()["code"]) == (400, 40006)
    assert unknown.status == 404
    assert counters["vectorize"] == 4
    assert cleared["vectorCount"] == 0


@pytest.mark.parametrize(("kind", "status"), [("error", 500), ("capacity", 429), ("503", 503), ("html-error", 502)])
async def test_fault(emulator: Emulator, kind: str, status: int) -> None:
    await emulator.fault("vectorize", kind, count=1)

    assert (await emulator.vectorize("describe")).status == status
    assert (await emulator.vectorize("describe")).status == 200

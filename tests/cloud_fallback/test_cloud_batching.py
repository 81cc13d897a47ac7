"""Embeddings asked for together go upstream together, and each caller gets what it would have got alone."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge_router.cloud_api import DEADLINE_HEADER
from tests.cloud_fallback.harness import ScriptedBody, call, service

CATALOG = """
[[models]]
id = "embedder"
tier = "cloud-fast"
context_window_tokens = 8
input_usd_per_million = 0.0
output_usd_per_million = 0.0
batching = {batching}
"""


class Embedder(httpx.AsyncBaseTransport):
    """The vector of a text is its length. `bad` is refused, `lost` is left out of the answer."""

    def __init__(self, *, fails: bool = False) -> None:
        self.asked: list[dict[str, Any]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled = 0
        self._fails = fails

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.asked.append(body)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        status, answer = 200, self._answer(texts)
        if self._fails:
            status, answer = 500, {}
        elif "bad" in texts:
            status, answer = 400, {"error": {"message": "x", "code": "bad_input", "param": "input"}}
        kind = {"content-type": "application/json"}
        return httpx.Response(status, headers=kind, stream=ScriptedBody([json.dumps(answer).encode()]))

    def _answer(self, texts: list[Any]) -> dict[str, Any]:
        data = [
            {"object": "embedding", "index": i, "embedding": [float(len(text))]}
            for i, text in enumerate(texts)
            if text != "lost"
        ]
        tokens = sum(map(len, texts))
        return {
            "object": "list",
            "data": data,
            "model": "m",
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    @property
    def inputs(self) -> list[Any]:
        return [body["input"] for body in self.asked]


def embedding_service(embedder: Embedder, tmp_path: Path, batching: str = "{ window_ms = 10 }") -> Any:
    file = tmp_path / "models.toml"
    file.write_text(CATALOG.replace("{batching}", batching))
    return service(embedder, models_file=file)


async def ask(app: Any, asked: object, **fields: object) -> httpx.Response:
    return await call(app, "POST", "/v1/embeddings", {"model": "embedder", "input": asked, **fields})


async def asked_by(embedder: Embedder) -> None:
    """Waits until a batch has gone."""
    async with asyncio.timeout(10):
        while not embedder.asked:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def waiting(embedder: Embedder, tmp_path: Path, *texts: str) -> list["asyncio.Task[httpx.Response]"]:
    """Callers of one batch, which is at the embedder and stays there until its gate opens."""
    embedder.gate.clear()
    app = embedding_service(embedder, tmp_path)
    calls = [asyncio.create_task(ask(app, text)) for text in texts]
    await asked_by(embedder)
    return calls


async def leave(*calls: "asyncio.Task[httpx.Response]") -> None:
    for each in calls:
        each.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_joined(tmp_path: Path) -> None:
    """64 callers at a time are one upstream call, and each gets its own vectors in its own order."""
    embedder = Embedder()
    app = embedding_service(embedder, tmp_path)

    answers = await asyncio.gather(*(ask(app, ["x" * n, "y"]) for n in range(1, 65)))

    assert len(embedder.asked) == 1
    for n, answer in enumerate(answers, start=1):
        assert [entry["embedding"] for entry in answer.json()["data"]] == [[float(n)], [1.0]]
        assert [entry["index"] for entry in answer.json()["data"]] == [0, 1]
    assert sum(answer.json()["usage"]["prompt_tokens"] for answer in answers) == sum(range(1, 65)) + 64


async def test_bounds_of_a_batch(tmp_path: Path) -> None:
    """max_items sends a batch at once, and a call's inputs are never torn apart."""
    embedder = Embedder()
    app = embedding_service(embedder, tmp_path, "{ window_ms = 1000, max_items = 4 }")

    await asyncio.gather(*(ask(app, ["a", "b", "c"]) for _ in range(2)), *(ask(app, "d") for _ in range(2)))

    assert sorted(map(len, embedder.inputs)) == [2, 3, 3]


async def test_a_bad_input_is_its_callers_alone(tmp_path: Path) -> None:
    """Whose input the upstream refuses gets its 400; the others get their vectors."""
    embedder = Embedder()
    app = embedding_service(embedder, tmp_path)

    answers = await asyncio.gather(*(ask(app, text) for text in ["a", "b", "bad", "c", "d"]))

    assert [answer.status_code for answer in answers] == [200, 200, 400, 200, 200]
    assert answers[2].json()["error"]["code"] == "bad_input"
    assert len(embedder.asked) < 8


async def test_a_lost_input_is_its_callers_alone(tmp_path: Path) -> None:
    """An answer that lacks an entry fails the caller who asked for it."""
    answers_to = embedding_service(Embedder(), tmp_path)

    answers = await asyncio.gather(*(ask(answers_to, text) for text in ["a", "lost", "b"]))

    assert [answer.status_code for answer in answers] == [200, 502, 200]


async def test_failure_of_all(tmp_path: Path) -> None:
    """When the upstream fails, every caller hears so; the call is not taken apart."""
    embedder = Embedder(fails=True)
    app = embedding_service(embedder, tmp_path)

    answers = await asyncio.gather(*(ask(app, "a") for _ in range(3)))

    assert [answer.status_code for answer in answers] == [502] * 3
    assert len(embedder.asked) == 1


async def test_shapes_are_not_mixed(tmp_path: Path) -> None:
    """Calls are joined with their likes; one with a field we don't know, or an odd input, goes alone as it is."""
    embedder = Embedder()
    app = embedding_service(embedder, tmp_path)
    asked: list[tuple[object, dict[str, object]]] = [
        ("a", {}), ("b", {}), ("c", {"dimensions": 1}), ("d", {"dimensions": 2}), ("e", {"new": 1}), ([[1], [2]], {}),
        (["f", [1]], {}),
    ]  # fmt: skip

    answers = await asyncio.gather(*(ask(app, text, **fields) for text, fields in asked))

    assert all(answer.status_code == 200 for answer in answers)
    assert sorted(json.dumps(each) for each in embedder.inputs) == sorted(
        json.dumps(each) for each in (["a", "b"], [[1], [2]], ["c"], ["d"], "e", ["f", [1]])
    )


async def test_caller_who_leaves(tmp_path: Path) -> None:
    """Before the batch goes its inputs are dropped; when all have left, the upstream call ends."""
    embedder = Embedder()
    embedder.gate.clear()
    app = embedding_service(embedder, tmp_path, "{ window_ms = 1000, max_items = 4 }")
    calls = [asyncio.create_task(ask(app, text)) for text in "abc"]
    await asyncio.sleep(0.01)

    calls[1].cancel()
    calls += [asyncio.create_task(ask(app, text)) for text in "de"]  # the batch is full before its window ends
    await asked_by(embedder)
    await leave(*calls)
    async with asyncio.timeout(10):
        while not embedder.cancelled:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    assert embedder.inputs == [["a", "c", "d", "e"]]


async def test_bounded(tmp_path: Path) -> None:
    """More than may wait is refused with 503 and Retry-After."""
    app = embedding_service(Embedder(), tmp_path, "{ window_ms = 50, max_waiting = 2 }")

    answers = await asyncio.gather(*(ask(app, "a") for _ in range(4)))

    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503]


@pytest.mark.parametrize("asked", ["", [], None, True, {"a": 1}], ids=str)
async def test_what_is_no_input_is_the_upstreams_to_judge(asked: object, tmp_path: Path) -> None:
    """It goes upstream alone and as it came."""
    embedder = Embedder()
    embedder._answer = lambda texts: {"data": [{"embedding": [0.0]}]}  # type: ignore[method-assign]

    await ask(embedding_service(embedder, tmp_path), asked)

    assert embedder.inputs == [asked]


async def test_lists_of_tokens(tmp_path: Path) -> None:
    """One list is one input; several callers' go together."""
    embedder = Embedder()
    app = embedding_service(embedder, tmp_path)
    embedder._answer = lambda texts: {  # type: ignore[method-assign]
        "data": [{"index": i, "embedding": [float(len(text))]} for i, text in enumerate(texts)]
    }

    answers = await asyncio.gather(ask(app, [1, 2, 3]), ask(app, [4]))

    assert [answer.json()["data"][0]["embedding"] for answer in answers] == [[3.0], [1.0]]
    assert embedder.inputs == [[[1, 2, 3], [4]]]
    assert all("usage" not in answer.json() for answer in answers)  # nobody counted


async def test_caller_who_leaves_while_the_others_wait(tmp_path: Path) -> None:
    """Their answers come, and their refusals are their own."""
    embedder = Embedder()
    calls = await waiting(embedder, tmp_path, "a", "bad", "left", "b")

    await leave(calls[2])
    embedder.gate.set()
    answers = await asyncio.gather(calls[0], calls[1], calls[3])

    assert [answer.status_code for answer in answers] == [200, 400, 200]


async def test_caller_who_leaves_before_the_answer_is_handed_out(tmp_path: Path) -> None:
    """Good or bad, it goes to those who are there."""
    for fails, status in ((False, 200), (True, 502)):
        embedder = Embedder(fails=fails)
        calls = await waiting(embedder, tmp_path, "left", "a")

        await leave(calls[0])
        embedder.gate.set()

        assert (await calls[1]).status_code == status


async def test_callers_who_leave_before_a_refusal(tmp_path: Path) -> None:
    """Nothing is asked for them when the batch is taken apart."""
    embedder = Embedder()
    calls = await waiting(embedder, tmp_path, "left", "left too", "bad", "b")

    await leave(*calls[:2])
    embedder.gate.set()

    assert [answer.status_code for answer in await asyncio.gather(*calls[2:])] == [400, 200]
    assert embedder.inputs == [["left", "left too", "bad", "b"], ["bad", "b"], ["bad"], ["b"]]


async def test_batch_that_is_full_with_one_call(tmp_path: Path) -> None:
    """Waits for no others."""
    embedder = Embedder()
    app = embedding_service(embedder, tmp_path, "{ window_ms = 1000, max_items = 2 }")

    await ask(app, ["a", "b"])

    assert embedder.inputs == [["a", "b"]]


async def test_deadline_of_a_batch(tmp_path: Path) -> None:
    """Is each caller's own: who can't wait is told, and the others get their answer."""
    embedder = Embedder()
    embedder.gate.clear()
    app = embedding_service(embedder, tmp_path)
    body = {"model": "embedder", "input": "a"}
    patient = asyncio.create_task(ask(app, "b"))

    hurried = await call(app, "POST", "/v1/embeddings", body, {DEADLINE_HEADER: "50"})
    embedder.gate.set()

    assert (hurried.status_code, (await patient).status_code) == (504, 200)

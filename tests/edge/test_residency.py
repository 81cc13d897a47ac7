"""Residency on the real Worker: all that could keep or pass on a question is on, and is looked at afterwards."""

import json
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts.local.stack import Address, Stack
from tests.edge.conftest import Received
from tests.edge.control import Control, chat

pytestmark = pytest.mark.workerd

FRANKFURT = json.dumps({"colo": "FRA", "latitude": "50.1", "longitude": "8.7"})
ALL_ON = {"use_cache": True, "semantic_cache": True, "cascade": "race"}
CALLER = secrets.token_hex(8)
WITHIN_S = 20.0
PARTS = ("worker", "emulator", "region-weur", "region-wnam")
WRITTEN_AFTER_S = 1.5  # what is written together waits for a second


class Stores:
    """What lies in the emulated stores, on disk."""

    def __init__(self, stack: Stack) -> None:
        self._state = stack.state / "v3"

    def kept(self) -> set[Path]:
        """Entries of the cache, and databases of flights."""
        return {*self._state.glob("kv/CACHE/blobs/*"), *self._state.glob("do/*Flight/*.sqlite")}

    def holding(self, word: str) -> list[Path]:
        return [path for path in self._state.rglob("*") if path.is_file() and word.encode() in path.read_bytes()]


def requests(word: str) -> list[tuple[str, Mapping[str, Any]]]:
    """An easy and a hard question, and each other path that takes text."""
    easy, hard = f"What is {word}?", f"Write code for {word}"
    return [
        ("/v1/chat/completions", chat(easy)),
        ("/v1/chat/completions", chat(hard)),
        ("/v1/chat/completions", chat(hard, stream=True)),
        ("/v1/completions", {"prompt": [easy, hard]}),
        ("/v1/responses", {"input": hard, "stream": True}),
        ("/v1/completions/batch", {"prompts": [easy, hard]}),
        ("/", {"prompt": easy}),
    ]


def exported(receiver: Received, trace_id: str) -> bytes:
    """All that was sent to the collector, once this trace is there."""
    since_s = time.monotonic()
    while not any(trace_id.encode() in body for _, body, _ in receiver.posts):
        assert time.monotonic() - since_s < WITHIN_S
        time.sleep(0.1)
    return b"".join(body for _, body, _ in receiver.posts)


def test_nothing_leaves_the_area(
    stack: tuple[Stack, Address], edge: httpx.Client, control: Control, receiver: Received
) -> None:
    """Edge models, embedder, index, the other region, KV, flights, traces and logs hear nothing of any question, asked
    twice. Without an area they do, so it would have been seen.
    """
    word, trace_id, stores = f"Zauberlehrling{time.time_ns()}", secrets.token_hex(16), Stores(stack[0])
    headers = {"nearside-emulate-cf": FRANKFURT, "traceparent": f"00-{trace_id}-{CALLER}-01"}
    before = stores.kept()

    for path, body in requests(word) * 2:
        answer = edge.post(path, json={**body, **ALL_ON, "residency": "eu"}, headers=headers)
        assert (answer.status_code, answer.headers["nearside-residency"]) == (200, "eu"), answer.text
    time.sleep(WRITTEN_AFTER_S)
    sent = exported(receiver, trace_id)
    counters = control.counters()

    assert [counters[target] for target in ("ai", "embed", "vectorize")] == [0, 0, 0]
    assert counters["cloud"]["wnam"] == 0 < counters["cloud"]["weur"]
    assert stores.kept() == before
    assert stores.holding(word) == []
    assert word.encode() not in sent
    for part in PARTS:
        assert word not in stack[0].log_of(part, until="")

    for path, body in requests(word)[:2]:
        edge.post(path, json={**body, **ALL_ON}, headers=headers)
    assert all(control.arrived(target, 1) for target in ("ai", "embed", "vectorize"))
    assert stores.kept() > before

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
from tests.edge.control import Control, at_rest, becomes_true, chat, files_holding

pytestmark = pytest.mark.workerd

FRANKFURT = json.dumps({"colo": "FRA", "latitude": "50.1", "longitude": "8.7"})
ALL_ON = {"use_cache": True, "semantic_cache": True, "cascade": "race"}
CALLER = secrets.token_hex(8)
WITHIN_S = 20.0
PARTS = ("worker", "emulator", "region-weur", "region-wnam")
WRITTEN_AFTER_S = 1.5  # what is written together waits for a second


def entries(stack: Stack) -> set[Path]:
    """Of the cache, as they lie in KV."""
    return set(stack.state.glob("v3/kv/CACHE/blobs/*"))


def flights(stack: Stack) -> set[Path]:
    """The databases of their objects."""
    return set(stack.state.glob("v3/do/*Flight/*.sqlite"))


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


def test_nothing_leaves_the_area(
    stack: tuple[Stack, Address], edge: httpx.Client, control: Control, receiver: Received
) -> None:
    """Edge models, embedder, index, the other region, KV, flights, traces and logs hear nothing of any question, asked
    twice. Without an area they do, so it would have been seen.
    """
    running, word, trace_id = stack[0], f"Zauberlehrling{time.time_ns()}", secrets.token_hex(16)
    headers = {"nearside-emulate-cf": FRANKFURT, "traceparent": f"00-{trace_id}-{CALLER}-01"}
    entries_before, flights_before = at_rest(lambda: (entries(running), flights(running)))

    for path, body in requests(word) * 2:
        answer = edge.post(path, json={**body, **ALL_ON, "residency": "eu"}, headers=headers)
        assert (answer.status_code, answer.headers["nearside-residency"]) == (200, "eu"), answer.text
    time.sleep(WRITTEN_AFTER_S)
    assert becomes_true(lambda: any(trace_id.encode() in body for _, body, _ in receiver.posts), within_s=WITHIN_S)
    counters = control.counters()

    assert [counters[target] for target in ("ai", "embed", "vectorize")] == [0, 0, 0]
    assert counters["cloud"]["wnam"] == 0 < counters["cloud"]["weur"]
    assert (entries(running), flights(running)) == (entries_before, flights_before)
    assert files_holding(running, word) == []
    assert not any(word.encode() in body for _, body, _ in receiver.posts)
    for part in PARTS:
        assert word not in running.log_of(part, until="")

    for path, body in requests(word)[:2]:
        edge.post(path, json={**body, **ALL_ON}, headers=headers)
    assert all(control.arrived(target, 1) for target in ("ai", "embed", "vectorize"))
    assert becomes_true(lambda: entries(running) > entries_before, within_s=WITHIN_S)
    assert flights(running) > flights_before

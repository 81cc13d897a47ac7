"""What the tests say to the local stack's control port, and small readers of answers."""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx

from scripts.local.stack import Address, Stack

_unique = itertools.count()
_Read = TypeVar("_Read")


class Control:
    """Counters, faults and latencies of everything that is emulated."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._slowed: list[str] = []
        self._is_late = False

    def clear(self) -> None:
        self._client.delete("/faults").raise_for_status()
        for target in self._slowed:
            self._client.post(
                "/latency", json={"target": target, "ttft_ms": 0, "itl_ms": 0, "rtt_ms": 0}
            ).raise_for_status()
        self._slowed.clear()
        if self._is_late:
            self._client.delete("/latency").raise_for_status()
            self._is_late = False
        self._client.delete("/vectors").raise_for_status()
        self._client.post("/reset", json={}).raise_for_status()

    def fault(self, target: str, kind: str, **options: Any) -> None:
        self._client.post("/faults", json={"target": target, "kind": kind, **options}).raise_for_status()

    def slow(self, target: str, **latency: float) -> None:
        self._slowed.append(target)
        self._client.post("/latency", json={"target": target, **latency}).raise_for_status()

    def counters(self) -> dict[str, Any]:
        counters: dict[str, Any] = self._client.get("/counters").json()
        return counters

    def hide_vectors_for(self, *, ms: float) -> None:
        """How late the index shows what is written from now on."""
        self._is_late = True
        self._client.post("/latency", json={"target": "vectorize", "visible_after_ms": ms}).raise_for_status()

    def shows_vectors(self, count: int) -> bool:
        """Whether the index comes to show this many: it shows what was written later."""
        return becomes_true(lambda: self._client.get("/vectors").json()["vectorCount"] == count, within_s=10)

    def arrived(self, target: str, count: int) -> bool:
        """Whether this many calls come to arrive at the target."""
        return becomes_true(lambda: self.counters()[target] >= count, within_s=10)

    def cancelled(self, target: str, *, within_s: float) -> bool:
        """Whether a call to the target is seen to be cancelled in time."""
        return becomes_true(lambda: bool(self.counters()["cancelled"].get(target)), within_s=within_s)


def becomes_true(is_so: Callable[[], bool], *, within_s: float) -> bool:
    """Waits on another process, so it polls."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        if is_so():
            return True
        time.sleep(0.02)
    return is_so()  # the machine may have stopped meanwhile


def files_holding(stack: Stack, word: str) -> list[Path]:
    """Files of the emulated stores that have it."""
    found = []
    for path in stack.state.rglob("*"):
        with suppress(FileNotFoundError):  # gone meanwhile
            if path.is_file() and word.encode() in path.read_bytes():
                found.append(path)
    return found


def at_rest(read: Callable[[], _Read]) -> _Read:
    """What is read once it was the same ten times in half a second: another process may still be writing."""
    latest, unchanged = read(), 1
    while unchanged < 10:  # not by the clock, on which a machine that stops seems to rest
        time.sleep(0.05)
        before, latest = latest, read()
        unchanged = unchanged + 1 if latest == before else 1
    return latest


def easy() -> str:
    """A question for the edge that no other test asks."""
    return f"What is item {next(_unique)}-{time.time_ns()}?"


def hard() -> str:
    """A question for cloud-fast that no other test asks."""
    return f"Write code for item {next(_unique)}-{time.time_ns()}"


def chat(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}], **fields}


def events(response: httpx.Response) -> list[Any]:
    """The data of each event: parsed JSON, or the text `[DONE]`."""
    lines = [line.removeprefix("data: ") for line in response.text.split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def streamed_text(response: httpx.Response) -> str:
    chunks = [event for event in events(response) if event != "[DONE]"]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def eventually_cached(edge: httpx.Client, body: dict[str, Any]) -> httpx.Response:
    """The answer from the cache: entries are written after the response, so the first look may be too early."""
    deadline_s = time.monotonic() + 5
    while True:
        response = edge.post("/v1/chat/completions", json=body)
        if response.headers["nearside-served-by"] == "exact-cache" or time.monotonic() > deadline_s:
            return response
        time.sleep(0.05)


@contextmanager
def cleared_control(address: Address) -> Iterator[Control]:
    """With counters at zero and no faults, and again no faults afterwards."""
    with httpx.Client(base_url=address.control_url, timeout=10) as client:
        control = Control(client)
        control.clear()
        yield control
        control.clear()

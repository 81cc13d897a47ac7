"""Regions that are far, late or gone, on the real Worker with two real cloud_fallback processes."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from scripts.local.stack import Address, Stack, running_stack
from tests.edge.control import Control, chat, cleared_control, events, hard

pytestmark = pytest.mark.workerd

NEAREST = "wnam"
RECOVERY_S = 15.0


@dataclass(slots=True)
class Load:
    """What callers in several threads were answered."""

    plain: list[httpx.Response] = field(default_factory=list)
    streams: list[httpx.Response] = field(default_factory=list)
    _is_over: threading.Event = field(default_factory=threading.Event)

    def ask(self, url: str, *, stream: bool) -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while not self._is_over.is_set():
                body = chat(hard(), model="cloud", stream=stream, max_tokens=50 if stream else 8)
                (self.streams if stream else self.plain).append(client.post("/v1/chat/completions", json=body))

    def regions(self) -> list[str]:
        return [response.headers.get("nearside-cloud-region", "none") for response in self.plain]

    @contextmanager
    def running(self, url: str) -> Iterator[None]:
        askers = [threading.Thread(target=self.ask, args=[url], kwargs={"stream": i % 2 == 0}) for i in range(6)]
        for asker in askers:
            asker.start()
        try:
            yield
        finally:
            self._is_over.set()
            for asker in askers:
                asker.join()


def eventually(is_so: Any, *, within_s: float) -> float:
    """Seconds until it was so; fails when it never was."""
    since_s = time.monotonic()
    while not is_so():
        assert time.monotonic() - since_s < within_s, f"not within {within_s:g} s"
        time.sleep(0.02)
    return time.monotonic() - since_s


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.HTTPError:
        return False


def test_region_that_dies_in_mid_load(stack: tuple[Stack, Address], control: Control) -> None:
    """No plain request fails; streams past their first token end with the error event; it is soon used again."""
    processes, address = stack
    control.slow("upstream", itl_ms=40)
    control.slow("cloud:weur", rtt_ms=300)  # far, so that it only answers while the other one is gone
    load = Load()
    with load.running(address.url):
        eventually(lambda: load.regions()[-5:] == [NEAREST] * 5, within_s=20)
        body = chat(hard(), model="cloud", stream=True, max_tokens=500)
        with httpx.stream("POST", f"{address.url}/v1/chat/completions", json=body, timeout=30) as response:
            lines = response.iter_lines()
            first = next(line for line in lines if line)
            processes.kill_region(NEAREST)
            last = [line for line in lines if line][-2:]
        died_at = len(load.plain)
        eventually(lambda: len(load.plain) > died_at + 10, within_s=20)
        processes.start_region(NEAREST)
        eventually(lambda: is_up(address.region_urls[NEAREST]), within_s=20)
        back_at = len(load.plain)
        eventually(lambda: NEAREST in load.regions()[back_at:], within_s=RECOVERY_S)

    assert f'"cloud_region":"{NEAREST}"' in first
    assert '"finish_reason":"error"' in last[0]
    assert last[1] == "data: [DONE]"
    assert {response.status_code for response in [*load.plain, *load.streams]} == {200}
    for response in load.streams:
        chunk, done = events(response)[-2:]
        assert done == "[DONE]"
        assert ("error" in chunk) == (chunk["choices"][0]["finish_reason"] == "error")


@pytest.fixture(scope="module")
def patient() -> Iterator[Address]:
    """A gateway that gives a late call so much time that only its hedge can have ended it by then."""
    with running_stack(auth="open", variables={"CLOUD_TIMEOUT_S": 25}) as (_, address):
        yield address


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_late_call_is_doubled(patient: Address, stream: bool) -> None:
    """The next region's answer comes long before the late one, which is cancelled at its provider."""
    with cleared_control(patient) as control, httpx.Client(base_url=patient.url, timeout=30) as edge:

        def ask() -> httpx.Response:
            body = chat(hard(), model="gpt-4o", stream=stream, max_tokens=4)
            return edge.post("/v1/chat/completions", json=body)

        for _ in range(25):  # until it is known what is late; some may go to the other region
            ask()
        control.clear()  # of hedges until now
        control.fault("upstream", "timeout", count=1)

        reply = ask()

        report = (events(reply)[-2] if stream else reply.json())["nearside"]
        assert report["hedged"] is True
        assert report["cloud_region"] == reply.headers["nearside-cloud-region"]
        assert report["timings_ms"]["total"] < 10_000
        assert control.cancelled("upstream", within_s=5)

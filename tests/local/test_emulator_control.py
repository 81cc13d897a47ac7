"""The control port, and the process as a whole."""

import asyncio
import json
import signal
import sys
from typing import Any

import pytest

from scripts.local.faults import KINDS
from tests.local.emulator_client import Emulator, started, two_regions

CLOSED = "http://127.0.0.1:9"


async def test_counters_of_every_target() -> None:
    """Calls that arrived since the reset, which leaves faults in force."""
    async with started(two_regions(CLOSED)) as emulator:
        await emulator.fault("ai", "error")
        await emulator.chat()
        await emulator.ai("@cf/meta/llama-3.2-1b-instruct", prompt="hi")
        await emulator.ai("@cf/baai/bge-small-en-v1.5", text="hi")
        await emulator.vectorize("describe")
        await emulator.send("wnam", "/v1/chat/completions", {})
        await emulator.control("POST", "/intercept", {"target": "kv", "op": "get"})
        await emulator.control("POST", "/intercept", {"target": "do", "op": "fetch"})
        await emulator.control("POST", "/intercept", {"target": "ledger", "op": "fetch"})
        before = await emulator.counters()
        after = await emulator.control("POST", "/reset")
        faults = await emulator.control("GET", "/faults")

    none = dict.fromkeys(("ai", "embed", "vectorize", "kv", "do", "ledger", "upstream", "cloud:wnam", "cloud:weur"), 0)
    ones = dict.fromkeys(("ai", "embed", "vectorize", "kv", "do", "ledger", "upstream"), 1)
    assert before == {**ones, "cloud": {"wnam": 1, "weur": 0}, "cancelled": none}
    assert after == {**dict.fromkeys(ones, 0), "cloud": {"wnam": 0, "weur": 0}, "cancelled": none}
    assert len(faults["faults"]) == 1


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        pytest.param("/faults", {"target": "moon", "kind": "cut"}, "ai, embed, vectorize", id="target"),
        pytest.param("/faults", {"target": "cloud:moon", "kind": "cut"}, "cloud", id="region"),
        pytest.param("/faults", {"target": "ai", "kind": "sulk"}, ", ".join(KINDS), id="kind"),
        pytest.param("/faults", {"target": "ai"}, "kind: Field required", id="no kind"),
        pytest.param("/faults", {"target": "ai", "kind": "cut", "rate": 2}, "rate", id="rate"),
        pytest.param("/faults", {"target": "ai", "kind": "cut", "count": 0}, "count", id="count"),
        pytest.param("/faults", {"target": "ai", "kind": "cut", "after": 2}, "after", id="unknown field"),
        pytest.param("/faults", None, "JSON", id="no body"),
        pytest.param("/latency", {"target": "moon"}, "ai, embed, vectorize", id="latency target"),
        pytest.param("/latency", {"target": "ai", "ttft_ms": -1}, "ttft_ms", id="negative latency"),
        pytest.param("/latency", {"target": "ai", "visible_after_ms": 1}, "vectorize", id="visibility of ai"),
        pytest.param("/intercept", {"target": "ai", "op": "get"}, "kv, do", id="intercepted target"),
    ],
)
async def test_a_wrong_request_is_explained(emulator: Emulator, path: str, body: Any, said: str) -> None:
    """400 with what would have been right."""
    received = await emulator.send("control", path, body)

    assert received.status == 400
    assert said in received.json()["error"]


async def test_faults_are_listed_and_cleared(emulator: Emulator) -> None:
    await emulator.fault("upstream", "cut", after_chunks=2, rate=0.5, count=3)
    listed = await emulator.control("GET", "/faults")
    cleared = await emulator.control("DELETE", "/faults")

    assert listed["faults"] == [
        {"target": "upstream", "kind": "cut", "after_chunks": 2, "retry_after_s": 1, "rate": 0.5, "count": 3}
    ]
    assert cleared == {"faults": []}


async def test_latency_is_set_in_parts_and_restored() -> None:
    """Parts left out stay; `cloud` is every region; DELETE brings the start's values back."""
    async with started(two_regions(CLOSED)) as emulator:
        await emulator.latency("cloud:wnam", rtt_ms=20)
        await emulator.latency("cloud", ttft_ms=5)
        await emulator.latency("vectorize", visible_after_ms=10)
        changed = (await emulator.control("GET", "/latency"))["latency"]
        restored = (await emulator.control("DELETE", "/latency"))["latency"]

    assert changed["cloud:wnam"] == {"ttft_ms": 5, "itl_ms": 0, "rtt_ms": 20}
    assert changed["cloud:weur"] == {"ttft_ms": 5, "itl_ms": 0, "rtt_ms": 0}
    assert changed["vectorize"]["visible_after_ms"] == 10
    assert restored["cloud:wnam"]["rtt_ms"] == 0
    assert restored["vectorize"]["visible_after_ms"] == 500


@pytest.mark.parametrize("target", ["kv", "do", "ledger"])
async def test_intercept_says_what_to_do(emulator: Emulator, target: str) -> None:
    """The shim learns the fault's kind and how long to wait; `slow` waits 3 s unless latency says otherwise."""
    call = {"target": target, "op": "get"}
    healthy = await emulator.control("POST", "/intercept", call)
    await emulator.fault(target, "slow", count=1)
    slow = await emulator.control("POST", "/intercept", call)
    await emulator.latency(target, rtt_ms=4, ttft_ms=6)
    await emulator.fault(target, "error", count=1)
    failing = await emulator.control("POST", "/intercept", call)

    assert healthy == {"fault": None, "delay_ms": 0}
    assert slow == {"fault": "slow", "delay_ms": 3000}
    assert failing == {"fault": "error", "delay_ms": 10}


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
async def test_process_prints_its_ports_and_ends_on_a_signal(end: signal.Signals) -> None:
    """One line of JSON when ready; exit code 0, nothing on stderr, even with a call in flight."""
    config = json.dumps({"regions": {"wnam": {"target": CLOSED, "rtt_ms": 5}}, "ai_upstream": None})
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "scripts.local.emulator", "--control-port", "0", "--config", config),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    ports = json.loads(await process.stdout.readline())
    _, writer = await asyncio.open_connection("127.0.0.1", ports["ai"])
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    await writer.drain()
    process.send_signal(end)
    rest, errors = await process.communicate()
    writer.close()

    assert set(ports) == {"control", "ai", "provider", "regions"}
    assert set(ports["regions"]) == {"wnam"}
    assert (process.returncode, rest, errors) == (0, b"", b"")

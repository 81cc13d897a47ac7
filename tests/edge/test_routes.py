"""Decisions on the real Worker: the learned router, deadlines by measured times, residency."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest

from tests.edge.control import Control, chat, easy, events, hard

CHAT = "/v1/chat/completions"

pytestmark = pytest.mark.workerd


def ask(edge: httpx.Client, prompt: str, colo: str, path: str = CHAT, **fields: Any) -> httpx.Response:
    """At a place of its own, since measured times count where they were measured; all near the region wnam."""
    place = {"colo": colo, "latitude": "45.6", "longitude": "-121.2"}
    return edge.post(path, json=chat(prompt, **fields), headers={"nearside-emulate-cf": json.dumps(place)})


def report_of(stream: httpx.Response) -> dict[str, Any]:
    """The one at its end: a stream's headers may leave before it is known who answers."""
    assert stream.status_code == 200
    report: dict[str, Any] = events(stream)[-2]["nearside"]
    return report


def at_a_calm_place(check: Callable[[str], None], *colos: str) -> None:
    """Where the check passes: a pause of a busy machine spoils what is measured at one place, not at all of them."""
    for colo in colos[:-1]:
        with suppress(AssertionError):
            check(colo)
            return
    check(colos[-1])


def test_learned_router_decides(edge: httpx.Client) -> None:
    """Its weights are in the bundle and were accepted."""
    told = ask(edge, hard(), "AMS", "/v1/route").json()

    assert told["scorer"] == "learned"
    assert told["thresholds"]["edge-large"] < told["thresholds"]["cloud-fast"] <= told["complexity"]
    assert told["reasons"] == ["complex"]


def test_slow_edge_model_and_a_deadline(edge: httpx.Client, control: Control) -> None:
    """What was measured decides: an easy question goes to another model when its own has become too slow for it."""

    def check(colo: str) -> None:
        control.clear()
        before = report_of(ask(edge, easy(), colo, stream=True, max_latency_ms=5000))
        for _ in range(6):
            ask(edge, hard(), colo, stream=True)
        control.slow("ai", ttft_ms=1500)
        for _ in range(4):
            ask(edge, easy(), colo, stream=True)

        told = ask(edge, easy(), colo, "/v1/route", stream=True, max_latency_ms=1000).json()
        after = report_of(ask(edge, easy(), colo, stream=True, max_latency_ms=1000))
        unhurried = report_of(ask(edge, easy(), colo, stream=True))

        assert (before["served_by"], before["route_reason"]) == ("edge-model", "simple")
        assert after["route_reason"] == told["reason"] == "deadline"
        assert before["model"] == unhurried["model"] != after["model"]
        predicted_ms = {each["model"]: each["predicted_ttft_ms"] for each in told["candidates"]}
        assert predicted_ms[after["model"]] <= 1000 < predicted_ms[before["model"]]

    at_a_calm_place(check, "SYD", "MEL", "BNE")


def test_deadline_that_nothing_can_meet(edge: httpx.Client, control: Control) -> None:
    """The fastest answers, late, and the answer says both."""
    control.slow("ai", ttft_ms=30)
    control.slow("cloud", ttft_ms=30)

    response = ask(edge, easy(), "NRT", max_latency_ms=1)

    assert response.status_code == 200
    assert response.headers["nearside-route-reason"] == "deadline-missed"
    assert response.json()["nearside"]["is_late"] is True


def test_slow_model_is_left_while_another_can_make_it(edge: httpx.Client, control: Control) -> None:
    """At run time the deadline moves an attempt on, at the last moment that is of use."""

    def check(colo: str) -> None:
        control.clear()
        for _ in range(6):
            ask(edge, easy(), colo, stream=True)
            ask(edge, hard(), colo, stream=True)
        control.fault("ai", "timeout")

        report = report_of(ask(edge, easy(), colo, stream=True, max_latency_ms=1500))

        assert (report["route_reason"], report["served_by"]) == ("simple", "cloud")
        assert [each.split(": ")[1] for each in report.get("fallbacks", [])] == ["upstream_timeout"]
        assert report["timings_ms"]["ttft"] < 1500
        assert report["is_late"] is False

    at_a_calm_place(check, "GRU", "SCL", "LIM")


def test_residency_chooses_the_region(edge: httpx.Client, control: Control) -> None:
    """An easy question leaves the edge for a region in the area; nothing is cached, and another area is refused.

    Not even with both caches asked for: models, embedder, index and the other region hear nothing of it.
    """
    question = easy()

    inside = [ask(edge, question, "ZRH", residency="eu", use_cache=True, semantic_cache=True) for _ in range(2)]
    nowhere = ask(edge, question, "ZRH", residency="mars")

    assert [each.headers["nearside-cloud-region"] for each in inside] == ["weur", "weur"]
    assert {each.headers["nearside-route-reason"] for each in inside} == {"residency"}
    assert {each.headers["cache-status"] for each in inside} == {"nearside; fwd=bypass"}
    counters = control.counters()
    assert [counters[target] for target in ("ai", "embed", "vectorize")] == [0, 0, 0]
    assert counters["cloud"] == {"weur": 2, "wnam": 0}
    assert (nowhere.status_code, nowhere.json()["error"]["param"]) == (400, "residency")

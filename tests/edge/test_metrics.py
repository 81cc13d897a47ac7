"""Metrics on the real runtime: Durable Objects for each location, written after the responses."""

import json
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.edge.control import Control, becomes_true, chat, hard

pytestmark = pytest.mark.workerd

WITHIN_S = 15.0


def place(colo: str) -> dict[str, str]:
    return {"nearside-emulate-cf": json.dumps({"colo": colo, "clientTcpRtt": 20})}


def groups_of(edge: httpx.Client, by: str) -> dict[str, Any]:
    return {
        group["key"]: group for group in edge.get("/v1/metrics", params={"window": "24h", "by": by}).json()["groups"]
    }


def test_several_locations(edge: httpx.Client, control: Control) -> None:
    """Each has its own numbers within seconds; sums over all, regions and Prometheus' text agree."""
    colos = {"GRU": 1, "NRT": 2, "SYD": 3}
    before = groups_of(edge, "colo")
    lost_before = edge.get("/v1/metrics", params={"window": "24h"}).json()["lost"]
    for colo, count in colos.items():
        for _ in range(count):
            body = chat(hard(), model="cloud")
            assert edge.post("/v1/chat/completions", json=body, headers=place(colo)).status_code == 200

    def counted() -> dict[str, int]:
        groups = groups_of(edge, "colo")
        return {
            colo: groups.get(colo, {"requests": 0})["requests"] - before.get(colo, {"requests": 0})["requests"]
            for colo in colos
        }

    assert becomes_true(lambda: counted() == colos, within_s=WITHIN_S), counted()
    told = edge.get("/v1/metrics", params={"window": "24h", "by": "served_by"}).json()
    families = {family.name: family for family in text_string_to_metric_families(edge.get("/metrics").text)}
    requests = families["nearside_requests"].samples
    assert told["total"]["requests"] == sum(group["requests"] for group in told["groups"])
    assert {"GRU", "NRT", "SYD"} <= set(told["colos"]["read"])
    assert told["colos"]["missing"] == []
    assert told["lost"] == lost_before
    assert any(each["colo"] == "SYD" and each["breaker"] == "closed" for each in told["regions"])
    assert sum(s.value for s in requests if s.labels["colo"] == "SYD") == groups_of(edge, "colo")["SYD"]["requests"]


def test_unknown_window(edge: httpx.Client) -> None:
    """400 that lists the valid ones."""
    response = edge.get("/v1/metrics", params={"window": "2m"})

    assert response.status_code == 400
    assert "1m, 5m, 1h, 24h" in response.json()["error"]["message"]

"""Feedback through the real Worker and the real Durable Object with its SQLite."""

import json
import time

import httpx
import pytest

from tests.edge.control import chat, easy, events

pytestmark = pytest.mark.workerd


def eventually_rated(edge: httpx.Client, request_id: str, rating: str) -> httpx.Response:
    """Answers are written about a second after they were given, by whichever isolate gave them."""
    deadline_s = time.monotonic() + 10
    while True:
        response = edge.post("/v1/feedback", json={"request_id": request_id, "rating": rating})
        if response.status_code != 404 or time.monotonic() > deadline_s:
            return response
        time.sleep(0.1)


def test_answers_are_rated_and_exported(edge: httpx.Client) -> None:
    """Plain answers and streams are rated by their request ids; the export has what was rated, without text."""
    prompt = easy()
    plain = edge.post("/v1/chat/completions", json=chat(prompt))
    stream = edge.post("/v1/chat/completions", json=chat(easy(), stream=True))
    assert events(stream)[-1] == "[DONE]"
    before = edge.get("/v1/feedback/export").text.splitlines()

    rated = [
        eventually_rated(edge, answer.headers["x-request-id"], rating)
        for answer, rating in ((plain, "good"), (plain, "bad"), (stream, "good"))
    ]

    assert [response.status_code for response in rated] == [200, 200, 200]
    assert rated[1].json()["rating"] == "bad"
    lines = edge.get("/v1/feedback/export").text.splitlines()
    rows = [json.loads(line) for line in lines[len(before) :]]
    assert [row["rating"] for row in rows] == ["bad", "good"]
    assert all(row["features"] and 0 <= row["score"] <= 1 for row in rows)
    assert prompt not in lines[-1] + lines[-2]


def test_unknown_request_is_not_rated(edge: httpx.Client) -> None:
    """404, and the parameter is named."""
    response = edge.post("/v1/feedback", json={"request_id": "nobody-asked-this", "rating": "good"})

    assert response.status_code == 404
    assert response.json()["error"]["param"] == "request_id"

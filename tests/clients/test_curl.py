"""`curl -N`: what a person sees in a terminal."""

import json
import shutil
import subprocess

import pytest

from scripts.local.stack import Address
from tests.edge.control import chat, easy

pytestmark = [pytest.mark.workerd, pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")]


@pytest.mark.parametrize("model", ["edge", "cloud"])
def test_stream(stack: Address, model: str) -> None:
    """Status and headers first, then one `data:` line per event, `[DONE]` last."""
    body = json.dumps(chat(easy(), model=model, stream=True))
    command = ["curl", "-sSN", "-i", "--max-time", "20", f"{stack.url}/v1/chat/completions", "-d", body]

    run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)

    head, _, events = run.stdout.replace("\r\n", "\n").partition("\n\n")
    lines = [line for line in events.split("\n") if line]
    assert head.startswith("HTTP/1.1 200")
    assert "content-type: text/event-stream" in head.lower()
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"


def test_form(stack: Address) -> None:
    """`curl -d` without a content type says that it sends a form; JSON is JSON all the same."""
    command = ["curl", "-sS", "--max-time", "20", f"{stack.url}/", "-d", json.dumps({"prompt": easy()})]

    run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)

    assert json.loads(run.stdout)["response"]

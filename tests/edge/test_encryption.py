"""Stored answers encrypted by the runtime's own Web Crypto: what lies in KV, and what is made of it."""

import httpx
import pytest

from scripts.local.stack import Address, Stack
from tests.edge.control import Control, at_rest, chat, easy, eventually_cached, files_holding

pytestmark = pytest.mark.workerd


def test_entry_in_kv(stack: tuple[Stack, Address], edge: httpx.Client, control: Control) -> None:
    """Hits are served from bytes that hold nothing of question and answer; altered bytes are a miss."""
    question = easy()
    body = chat(question)
    hit = eventually_cached(edge, body)
    answer = hit.json()["choices"][0]["message"]["content"]
    sealed = [path for path in at_rest(lambda: files_holding(stack[0], "sealed1:new:")) if "blobs" in path.parts]

    assert hit.headers["cache-status"].endswith("detail=kv")
    assert sealed
    assert files_holding(stack[0], question) == files_holding(stack[0], answer) == []

    for path in sealed:
        text = path.read_bytes()
        path.write_bytes(text[:-8] + (b"AAAA" if text[-8:-4] != b"AAAA" else b"BBBB") + text[-4:])
    again = edge.post("/v1/chat/completions", json=body)

    assert (again.status_code, again.headers["nearside-served-by"]) == (200, "edge-model")
    assert "entry_not_opened" in stack[0].log_of("worker", until="entry_not_opened")

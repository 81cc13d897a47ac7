"""What a request leaves behind in the isolate, on workerd alone: JavaScript objects that Python still holds, and
numbers that stand for something at the border.

Neither collector frees such an object as long as it is held, so whatever grows with every request ends an isolate.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from edge_router.embeddings import MODEL as EMBEDDER
from scripts.benchmarks.quick_upstream import quick_upstream
from scripts.benchmarks.workerd import running_servers, stage
from scripts.benchmarks.workerd_cases import KEY, memory_server

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
EDGE_MODEL = "@cf/ibm-granite/granite-4.0-h-micro"
REQUESTS, AT_ONCE = 20, 4
SETTLE_S = 20.0
TOKENS = 10
# A stream's `[DONE]` comes a gap after its tokens, and its end long after that.
PACE = {"gap_ms": 20, "tokens": TOKENS, "embed_ms": 1, "linger_ms": 300}
CUT = {"stream": True, "cut": 1}
CUT_AT_DONE = {"stream": True, "cut": TOKENS}  # workerd sees with the next write, which is `[DONE]`, that nobody reads
# A shared call's own Durable Object is held until JavaScript's collector finds that the runtime has let it go.
PER_FLIGHT = 1.0
PER_REQUEST = 0.2  # a timer of once a second may be under way


@pytest.fixture(scope="module")
def worker() -> Iterator[httpx.Client]:
    """Our Worker before a model that sends its tokens fast, and one more path that tells what is held."""
    stage()
    with (
        quick_upstream(PACE) as url,
        running_servers(memory_server(url)) as servers,
        httpx.Client(
            base_url=servers["nearside"].url,
            headers={"authorization": f"Bearer {KEY}"},
            timeout=60,
            trust_env=False,
        ) as client,
    ):
        yield client


def held(worker: httpx.Client) -> tuple[int, int]:
    """References and the border's numbers, once what answers left running has ended."""
    deadline_s = time.monotonic() + SETTLE_S
    time.sleep(1.2)  # what is written together, a second after the first of it
    counts = [(-1, -1)]
    while time.monotonic() < deadline_s:
        told = worker.get("/bench/memory").json()
        counts.append((told["js_references"], told["border_numbers"]))
        if counts[-1] == counts[-2]:
            break
        time.sleep(0.2)
    return counts[-1]


def ask(worker: httpx.Client, path: str, fields: dict[str, object], status: int, number: int) -> None:
    """fields: of the body; `cut`, after how many tokens it leaves, is none of them."""
    body = dict(fields)
    cut = body.pop("cut", None)
    if path == CHAT:
        body.setdefault("messages", [{"role": "user", "content": f"question {number}"}])
    headers = {"authorization": "Bearer nsk_none_0123456789abcdef"} if status == 401 else {}
    with worker.stream("POST", path, json=body, headers=headers) as answer:
        assert answer.status_code == status
        heard = b""
        for piece in answer.iter_raw():
            heard += piece
            if isinstance(cut, int) and heard.count(b" token") >= cut:
                return


@pytest.mark.workerd
@pytest.mark.parametrize(
    ("path", "fields", "status", "most"),
    [
        pytest.param(CHAT, {"messages": [{"role": "user", "content": "Again."}]}, 200, PER_REQUEST, id="hit"),
        pytest.param(CHAT, {"model": "cloud"}, 200, PER_FLIGHT, id="shared call"),
        pytest.param(CHAT, {"model": "cloud", "stream": True}, 200, PER_FLIGHT, id="shared stream"),
        pytest.param(CHAT, {"model": "cloud", **CUT}, 200, PER_FLIGHT, id="shared stream, cut"),
        pytest.param(CHAT, {"model": "cloud", "use_cache": False}, 200, PER_REQUEST, id="call"),
        pytest.param(CHAT, {"model": "cloud", "use_cache": False, "stream": True}, 200, PER_REQUEST, id="stream"),
        pytest.param(CHAT, {"model": "cloud", "use_cache": False, **CUT}, 200, PER_REQUEST, id="stream, cut"),
        pytest.param(
            CHAT, {"model": "cloud", "use_cache": False, **CUT_AT_DONE}, 200, PER_REQUEST, id="stream, cut at its end"
        ),
        pytest.param(CHAT, {"model": EDGE_MODEL}, 200, PER_REQUEST, id="edge model"),
        pytest.param(CHAT, {"model": EDGE_MODEL, "stream": True}, 200, PER_REQUEST, id="edge model, stream"),
        pytest.param(EMBEDDINGS, {"model": EMBEDDER, "input": "text"}, 200, PER_REQUEST, id="embed"),
        pytest.param(CHAT, {"messages": "none"}, 400, PER_REQUEST, id="refused"),
        pytest.param(CHAT, {}, 401, PER_REQUEST, id="no key"),
    ],
)
def test_request_leaves_nothing(
    worker: httpx.Client, path: str, fields: dict[str, object], status: int, most: float
) -> None:
    """After many of one kind, Python holds no more JavaScript objects than before, a shared call's object but one; and
    nobody at the border waits for something.
    """
    number = time.monotonic_ns()
    for warm_up in range(3):
        ask(worker, path, fields, status, number + warm_up)
    references, numbers = held(worker)
    with ThreadPoolExecutor(AT_ONCE) as callers:
        list(callers.map(lambda place: ask(worker, path, fields, status, number + 10 + place), range(REQUESTS)))

    references_after, numbers_after = held(worker)
    assert references_after - references <= most * REQUESTS
    assert numbers_after - numbers <= PER_REQUEST * REQUESTS

"""Files and batches on the real workerd, with its R2, Queue and Durable Objects: OpenAI's SDK, bad input, a kill."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from rich.progress import Progress

from edge_router.batches.api import MAX_FILE_BYTES
from edge_router.batches.book import ENDED
from scripts.batch_load import (
    ENDPOINT,
    FAILING,
    MODEL,
    Checked,
    create_batch,
    input_file,
    read_batch,
    read_results,
    run_batch,
)
from scripts.local.stack import Address, Stack, running_stack
from scripts.local.worker_spec import BATCH_MODEL
from tests.edge.control import Control, cleared_control
from tests.edge_router.harness import SECRET, bearer, key_records

pytestmark = pytest.mark.workerd

WITHIN_S = 120.0  # only how long a test waits for what never comes


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Stack, Address]]:
    """Work that a kill has lost is given out again soon."""
    tenants = ("official", "pages", "other", "careless", "canceller", "killed")
    poor = {"tenant": "poor", "budget": {"usd_day": 0}}
    whole = {"tenant": "whole", "budget": {"usd_day": 10}}
    records = key_records(**{name: {"tenant": name} for name in tenants}, poor=poor, whole=whole)
    variables = {"BATCH_RETRY_S": 0.1, "BATCH_LEASE_S": 5, "MEMORY_CACHE_MIB": 0, "LEDGER_TIMEOUT_S": 20}
    with running_stack(auth="keys", records=records.texts, variables=variables) as stack:
        yield stack


@pytest.fixture
def control(running: tuple[Stack, Address]) -> Iterator[Control]:
    with cleared_control(running[1]) as control:
        yield control


def client_of(running: tuple[Stack, Address], key_id: str) -> httpx.Client:
    return httpx.Client(base_url=running[1].url, headers=bearer(key_id), timeout=60)


def sdk_of(running: tuple[Stack, Address], key_id: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{running[1].url}/v1", api_key=f"nsk_{key_id}_{SECRET}", max_retries=0, timeout=60)


def line(custom_id: str, url: str = ENDPOINT) -> str:
    body = {"model": MODEL, "messages": [{"role": "user", "content": f"What is {custom_id}?"}]}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})


def ended(client: httpx.Client, batch_id: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + WITHIN_S
    while (batch := read_batch(client, batch_id))["status"] not in ENDED:
        assert time.monotonic() < deadline_s, batch
        time.sleep(0.1)
    return batch


def working(client: httpx.Client, batch_id: str) -> dict[str, Any]:
    """The batch as soon as one of its lines is answered."""
    deadline_s = time.monotonic() + WITHIN_S
    while not (batch := read_batch(client, batch_id))["request_counts"]["completed"]:
        assert time.monotonic() < deadline_s, batch
        time.sleep(0.05)
    return batch


def test_official_client(running: tuple[Stack, Address]) -> None:
    """Upload, create, wait, read: with OpenAI's SDK and nothing changed but the URL."""
    names = [f"question-{number}" for number in range(45)]  # more than two chunks
    data = "\n".join(line(name) for name in names).encode()
    with sdk_of(running, "official") as client, client_of(running, "official") as plain:
        file = client.files.create(file=("in.jsonl", data), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h", metadata={"night": "1"}
        )
        ended(plain, batch.id)
        batch = client.batches.retrieve(batch.id)
        assert batch.output_file_id is not None
        output = client.files.retrieve(batch.output_file_id)
        results = [json.loads(text) for text in client.files.content(output.id).text.splitlines()]
        sent_back = client.files.content(file.id).content
        listed = [each.id for each in client.batches.list()]
        deleted = client.files.delete(file.id)
        left = [each.id for each in client.files.list()]

    assert (file.bytes, file.purpose, sent_back) == (len(data), "batch", data)
    assert (batch.status, batch.error_file_id, batch.metadata) == ("completed", None, {"night": "1"})
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 45, "completed": 45, "failed": 0}
    assert (output.purpose, output.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    assert [result["custom_id"] for result in results] == names
    assert all(result["response"]["status_code"] == 200 and result["error"] is None for result in results)
    assert all(result["response"]["body"]["choices"][0]["message"]["content"] for result in results)
    assert listed == [batch.id]
    assert deleted.deleted
    assert left == [output.id]


def test_pages(running: tuple[Stack, Address]) -> None:
    """Newest first, page by page, each once; the SDK turns them."""
    with sdk_of(running, "pages") as client, client_of(running, "pages") as plain:
        files = [client.files.create(file=(f"{n}.jsonl", line("a").encode()), purpose="batch").id for n in range(5)]
        batches = [
            client.batches.create(input_file_id=file, endpoint=ENDPOINT, completion_window="24h").id for file in files
        ]
        for batch_id in batches:
            ended(plain, batch_id)
        first = client.batches.list(limit=2)
        turned = [batch.id for batch in client.batches.list(limit=2)]
        uploads = [file.id for file in client.files.list(limit=2, order="asc", purpose="batch")]

    assert ([batch.id for batch in first.data], first.has_more) == (batches[:-3:-1], True)
    assert turned == batches[::-1]
    assert uploads == files


def test_cancel(running: tuple[Stack, Address], control: Control) -> None:
    """What was answered is delivered, the rest are error lines; a second cancel changes nothing."""
    control.slow("ai", ttft_ms=300)
    with client_of(running, "canceller") as client:
        batch_id = create_batch(client, input_file(400, "cancel"))
        unfinished = working(client, batch_id)
        first = client.post(f"/v1/batches/{batch_id}/cancel")
        second = client.post(f"/v1/batches/{batch_id}/cancel")
        batch = ended(client, batch_id)
        late = client.post(f"/v1/batches/{batch_id}/cancel")
        results = read_results(client, batch)

    assert unfinished["output_file_id"] is None
    assert {each.status_code for each in (first, second, late)} == {200}
    assert first.json()["status"] == "cancelling"
    assert second.json()["cancelling_at"] == first.json()["cancelling_at"]
    assert (batch["status"], late.json()["status"]) == ("cancelled", "cancelled")
    answered, rest = results["output_file_id"], results["error_file_id"]
    assert len(answered) + len(rest) == 400
    assert {result["error"]["code"] for result in rest} == {"batch_cancelled"}
    assert (len(answered), len(rest)) == (batch["request_counts"]["completed"], batch["request_counts"]["failed"])


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        pytest.param(f"{line('a')}\n{{broken\n{line('b')}", [("invalid_json_line", 2)], id="broken JSON"),
        pytest.param(f"{line('a')}\n{line('b', '/v1/embeddings')}", [("url_mismatch", 2)], id="mixed endpoints"),
        pytest.param(f"{line('a')}\n\n{line('a')}", [("duplicate_custom_id", 3)], id="same custom_id twice"),
        pytest.param("", [("empty_file", None)], id="empty file"),
        pytest.param("\n \n", [("empty_file", None)], id="blank lines only"),
    ],
)
def test_wrong_lines(running: tuple[Stack, Address], text: str, errors: list[tuple[str, int | None]]) -> None:
    """The batch fails as a whole, before any model is asked, and says which line is wrong."""
    with client_of(running, "careless") as client:
        batch = ended(client, create_batch(client, text.encode()))

    assert (batch["status"], batch["output_file_id"], batch["error_file_id"]) == ("failed", None, None)
    assert [(error["code"], error["line"]) for error in batch["errors"]["data"]] == errors


def test_upload_of_a_gigabyte(running: tuple[Stack, Address]) -> None:
    """Is refused by its declared length: no byte of the file has to be sent."""
    host = httpx.URL(running[1].url)
    head = {
        "host": host.netloc.decode(),
        **bearer("careless"),
        "content-type": "multipart/form-data; boundary=b",
        "content-length": str(1024**3),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    with client_of(running, "careless") as client, socket.create_connection((host.host, host.port or 80), 60) as caller:
        before = client.get("/v1/files").json()["data"]
        caller.sendall(f"POST /v1/files HTTP/1.1\r\n{lines}\r\n--b\r\n".encode())
        with caller.makefile("rb") as answer:
            status = answer.readline()
        after = client.get("/v1/files").json()["data"]

    assert status.split()[1] == b"413"
    assert after == before


def test_upload_that_is_a_little_too_large(running: tuple[Stack, Address]) -> None:
    """The SDK hears why: a connection that is closed while it sends would be all it saw."""
    data = b"x" * (MAX_FILE_BYTES + 64 * 1024)
    with sdk_of(running, "careless") as client, pytest.raises(openai.APIStatusError) as caught:
        client.files.create(file=("large.jsonl", data), purpose="batch")

    assert (caught.value.status_code, caught.value.param) == (413, "file")


def test_unknown_and_foreign_ids(running: tuple[Stack, Address]) -> None:
    """Another tenant's are as unknown as those that never were, whatever is asked."""
    with client_of(running, "careless") as owner, client_of(running, "other") as stranger:
        batch_id = create_batch(owner, line("a").encode())
        batch = ended(owner, batch_id)
        for file_id, one in (("file-none", "batch_none"), (batch["output_file_id"], batch_id)):
            order = {"input_file_id": file_id, "endpoint": ENDPOINT, "completion_window": "24h"}
            responses = [
                stranger.get(f"/v1/files/{file_id}"),
                stranger.get(f"/v1/files/{file_id}/content"),
                stranger.delete(f"/v1/files/{file_id}"),
                stranger.post("/v1/batches", json=order),
                stranger.get(f"/v1/batches/{one}"),
                stranger.post(f"/v1/batches/{one}/cancel"),
            ]
            assert {response.status_code for response in responses} == {404}
            assert len({response.json()["error"]["message"] for response in responses}) == 2
        lists = [stranger.get(path).json()["data"] for path in ("/v1/files", "/v1/batches")]
        late = owner.post(f"/v1/batches/{batch_id}/cancel")

    assert lists == [[], []]
    assert (late.status_code, late.json()["error"]["code"]) == (409, "batch_not_cancellable")


def test_lines_are_paid_for(running: tuple[Stack, Address], control: Control) -> None:
    """A budget that is used up refuses a line as it refuses a request; no model is asked."""
    with client_of(running, "poor") as client:
        batch = ended(client, create_batch(client, input_file(3, "poor")))
        errors = read_results(client, batch)["error_file_id"]

    assert batch["status"] == "completed"
    assert [error["response"]["status_code"] for error in errors] == [402] * 3
    assert {error["response"]["body"]["error"]["code"] for error in errors} == {"budget_exceeded"}
    assert control.counters()["ai"] == 0


def test_workerd_that_is_killed(running: tuple[Stack, Address], control: Control) -> None:
    """300 lines, a tenth of all model calls fails, workerd dies half way: one result for each line, in order."""
    stack, address = running
    for target in FAILING:
        control.fault(target, "503", rate=0.1)
    with client_of(running, "killed") as client, Progress(disable=True) as progress:
        outcome = run_batch(stack, address, client, 300, kills=1, progress=progress)

    assert outcome.checked == Checked(lost=0, doubled=0, unknown=0, is_in_order=True, failed=0)
    assert outcome.calls >= 300


def upstream_line(custom_id: str, **body: Any) -> bytes:
    chat = {"model": BATCH_MODEL, "messages": [{"role": "user", "content": custom_id}], "max_tokens": 20, **body}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": chat}).encode() + b"\n"


def test_whole_batch(running: tuple[Stack, Address], control: Control) -> None:
    """One for a model whose provider has a batch API: uploaded and created there, collected in the order of its
    requests, paid from the tenant's budget.
    """
    names = [f"whole-{number}" for number in range(60)]
    data = b"".join(upstream_line(name, **({"temperature": 9} if name == "whole-3" else {})) for name in names)
    data += upstream_line("long", messages=[{"role": "user", "content": "a word " * 120_000}])
    with sdk_of(running, "whole") as client, client_of(running, "whole") as plain:
        file = client.files.create(file=("in.jsonl", data), purpose="batch")
        batch_id = client.batches.create(input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h").id
        shown = ended(plain, batch_id)
        batch = client.batches.retrieve(batch_id)
        assert batch.output_file_id is not None
        assert batch.error_file_id is not None
        output = [json.loads(text) for text in client.files.content(batch.output_file_id).text.splitlines()]
        errors = [json.loads(text) for text in client.files.content(batch.error_file_id).text.splitlines()]
        usage = plain.get("/v1/usage").json()
    with httpx.Client(base_url=running[1].provider_url) as provider:
        there = provider.get("/v1/batches").json()["data"]

    assert shown["request_counts"] == {"total": 61, "completed": 60, "failed": 1}
    assert [each["custom_id"] for each in output] == [*(name for name in names if name != "whole-3"), "long"]
    assert [each["custom_id"] for each in errors] == ["whole-3"]
    assert output[0]["response"]["body"]["model"] == f"simulated/{BATCH_MODEL}"
    assert "nearside" not in output[0]["response"]["body"]
    assert [(each["metadata"], each["status"]) for each in there] == [({"nearside_batch": batch_id}, "completed")]
    assert BATCH_MODEL in json.dumps(usage)


def test_whole_batch_cancelled(running: tuple[Stack, Address], control: Control) -> None:
    """The provider is told to stop; what it had answered is delivered."""
    control.slow("upstream", ttft_ms=100)
    with client_of(running, "whole") as client:
        batch_id = create_batch(client, b"".join(upstream_line(f"w{number}") for number in range(2000)))
        working(client, batch_id)
        client.post(f"/v1/batches/{batch_id}/cancel").raise_for_status()
        batch = ended(client, batch_id)
        counts = batch["request_counts"]

    assert batch["status"] == "cancelled"
    assert counts["completed"] > 0
    assert counts["completed"] + counts["failed"] == 2000


def test_whole_batch_taken_back(running: tuple[Stack, Address], control: Control) -> None:
    """A provider that refuses it: our own queue answers it."""
    control.fault("upstream", "429", count=1)  # tried again
    control.fault("upstream", "html-error", count=4)  # and again
    with client_of(running, "whole") as client:
        batch = ended(client, create_batch(client, b"".join(upstream_line(f"b{number}") for number in range(3))))
        content = client.get(f"/v1/files/{batch['output_file_id']}/content").text
        results = [json.loads(text) for text in content.splitlines()]

    assert batch["request_counts"]["completed"] == 3
    assert all("nearside" in each["response"]["body"] for each in results)

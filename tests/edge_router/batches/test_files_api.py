"""Files and batches as callers ask for them: pages, contents, deleting, and what is refused."""

import json
from typing import Any

import pytest

from edge_router.batches import api
from tests.edge_router.batches.harness import BOUNDARY, BatchWorld, form, line

FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


async def refused(batches: BatchWorld, method: str, path: str, body: object = "", **headers: str) -> tuple[int, str]:
    """Status and code."""
    reply = await batches.ask(method, path, body, **headers)
    assert isinstance(reply.body, str)
    return reply.status, json.loads(reply.body)["error"]["code"]


async def test_contents() -> None:
    """They go out as the bucket has them, without passing through Python."""
    batches = BatchWorld()
    file_id = await batches.upload(line("a"))

    reply = await batches.ask("GET", f"/v1/files/{file_id}/content")

    assert (reply.status, reply.raw) == (200, line("a").encode())
    assert reply.headers["content-type"] == "application/octet-stream"


async def test_delete() -> None:
    batches = BatchWorld()
    file_id = await batches.upload(line("a"))

    gone = await batches.ask("DELETE", f"/v1/files/{file_id}")

    assert isinstance(gone.body, str)
    assert json.loads(gone.body) == {"id": file_id, "object": "file", "deleted": True}
    assert batches.bucket.objects == {}
    assert (await batches.ask("GET", f"/v1/files/{file_id}")).status == 404
    assert (await batches.ask("GET", f"/v1/files/{file_id}/content")).status == 404
    assert (await batches.ask("DELETE", f"/v1/files/{file_id}")).status == 404


async def test_file_that_a_batch_reads_stays() -> None:
    batches = BatchWorld()
    batch_id = await batches.create(line("a"))
    file_id = (await batches.get(f"/v1/batches/{batch_id}"))["input_file_id"]

    assert await refused(batches, "DELETE", f"/v1/files/{file_id}") == (409, "file_in_use")

    await batches.run(batch_id)
    assert (await batches.ask("DELETE", f"/v1/files/{file_id}")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/files", "GET, HEAD, POST"),
        ("POST", "/v1/files/file-1", "GET, HEAD, DELETE"),
        ("DELETE", "/v1/files/file-1/content", "GET, HEAD"),
        ("DELETE", "/v1/batches/batch_1", "GET, HEAD"),
        ("GET", "/v1/batches/batch_1/cancel", "POST"),
    ],
)
async def test_wrong_method(method: str, path: str, allow: str) -> None:
    reply = await BatchWorld().ask(method, path)

    assert (reply.status, reply.headers["allow"]) == (405, allow)


async def test_unknown_path() -> None:
    assert await refused(BatchWorld(), "GET", "/v1/files/file-1/contents") == (404, "unknown_path")


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=x", "order=up"])
async def test_wrong_query(query: str) -> None:
    assert await refused(BatchWorld(), "GET", f"/v1/files?{query}") == (400, "invalid_value")


FILE = b'{"custom_id": "a"}'
NAMELESS = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name=""\r\n\r\n\r\n'


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(form(FILE, purpose="fine-tune"), "invalid_value", id="purpose"),
        pytest.param(form(FILE), "missing_required_parameter", id="no purpose"),
        pytest.param(form(FILE, purpose="batch")[:-6], "invalid_multipart", id="broken off"),
        pytest.param(form(FILE, purpose="batch", note="x" * 17_000), "invalid_multipart", id="long fields"),
        pytest.param(NAMELESS * 31 + form(FILE, purpose="batch"), "invalid_multipart", id="many fields"),
        pytest.param(form(FILE) + form(FILE), "missing_required_parameter", id="what follows the form is not read"),
        pytest.param(
            form(FILE, purpose="batch").replace("--b0und--", "--b0und\r\n" + form(FILE).partition("\r\n")[2]),
            "invalid_value",
            id="two files",
        ),
    ],
)
async def test_refused_upload(body: str, code: str) -> None:
    """And nothing of it is kept."""
    batches = BatchWorld()

    assert await refused(batches, "POST", "/v1/files", body, **FORM) == (400, code)
    assert batches.bucket.objects == {}


@pytest.mark.parametrize(("line_breaks", "status"), [(3, 200), (4, 400)])
async def test_file_with_many_lines(monkeypatch: pytest.MonkeyPatch, line_breaks: int, status: int) -> None:
    """Blank lines cost time as well, so they count; nothing is kept of a file with too many."""
    monkeypatch.setattr(api, "MAX_FILE_LINES", 3)
    batches = BatchWorld()

    reply = await batches.ask("POST", "/v1/files", form(b"\n" * line_breaks, purpose="batch"), **FORM)

    assert isinstance(reply.body, str)
    assert (reply.status, len(batches.bucket.objects)) == (status, status == 200)
    assert ("too_many_lines" in reply.body) is (status == 400)


@pytest.mark.parametrize("length", [None, 20 + api.MAX_FORM_BYTES, 10 * api.MAX_DISCARDED_BYTES])
async def test_file_that_is_too_large(monkeypatch: pytest.MonkeyPatch, length: int | None) -> None:
    """Whether its length was declared or is found out; nothing is kept of it."""
    monkeypatch.setattr(api, "MAX_FILE_BYTES", 10)
    batches = BatchWorld()
    declared = {} if length is None else {"content-length": str(length)}

    status, _ = await refused(batches, "POST", "/v1/files", form(FILE, purpose="batch"), **FORM, **declared)

    assert (status, batches.bucket.objects) == (413, {})


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}, 200),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "soon"}, 400),
    ],
)
async def test_expires_after(fields: dict[str, str], status: int) -> None:
    batches = BatchWorld()

    reply = await batches.ask("POST", "/v1/files", form(FILE, purpose="batch", **fields), **FORM)

    assert isinstance(reply.body, str)
    body: dict[str, Any] = json.loads(reply.body)
    assert reply.status == status
    if status == 200:
        assert body["expires_at"] == body["created_at"] + 3600


@pytest.mark.parametrize("part", ["bucket", "books"])
async def test_nothing_can_be_reached(part: str) -> None:
    """Said as such, and nothing is half done."""
    batches = BatchWorld()
    getattr(batches, part).is_down = True

    status, code = await refused(batches, "POST", "/v1/files", form(FILE, purpose="batch"), **FORM)

    assert (status, code) == (503, "batches_unavailable")

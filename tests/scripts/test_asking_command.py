"""scripts/ask as a user runs it, against a gateway in this process."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from scripts.asking.__main__ import main

Handler = Callable[[httpx.Request], httpx.Response]

STREAM = (
    'data: {"choices": [{"index": 0, "delta": {"content": "Paris"}, "finish_reason": null}]}\n\n'
    'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "nearside": {"cost_usd": 0.001}}\n\n'
    "data: [DONE]\n\n"
)
REPORT = {"nearside-served-by": "edge-model", "nearside-colo": "CDG", "x-request-id": "req_1"}


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "What is the capital of France?"}\n{"prompt": "And of Spain?"}\n')
    return path


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEARSIDE_KEY", raising=False)


def streams(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, headers={**REPORT, "content-type": "text/event-stream"}, text=STREAM)


def run(handler: Handler, *arguments: object) -> int:
    return main([str(argument) for argument in arguments], transport=httpx.MockTransport(handler))


def test_every_prompt_is_streamed_and_counted(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line becomes one streamed chat request to `auto`; the tables go to standard output."""
    sent: list[dict[str, object]] = []

    def gateway(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            assert request.url.path == "/v1/chat/completions"
            sent.append(json.loads(request.content))
        return streams(request)

    code = run(gateway, prompts, "--concurrency", 1, "--max-tokens", 9)

    assert code == 0
    assert [body["messages"] for body in sent] == [
        [{"role": "user", "content": "What is the capital of France?"}],
        [{"role": "user", "content": "And of Spain?"}],
    ]
    assert {(body["model"], body["stream"], body["max_tokens"]) for body in sent} == {("auto", True, 9)}
    printed = capsys.readouterr()
    assert "edge-model" in printed.out
    assert "0.002000" in printed.out
    assert "asking: 2 of 2" in printed.err


def test_a_failed_request_fails_the_run(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, and the breakdown says why."""

    def gateway(request: httpx.Request) -> httpx.Response:
        if b"Spain" in request.content:
            return httpx.Response(401, json={"error": {"code": "missing_api_key"}}, headers={"x-request-id": "req_9"})
        return streams(request)

    code = run(gateway, prompts)

    assert code == 1
    printed = capsys.readouterr().out
    assert "missing_api_key" in printed
    assert "req_9" in printed
    assert "NEARSIDE_KEY" in printed


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (httpx.ReadTimeout("slow"), "timeout"),
        (httpx.ConnectError("gone"), "no_connection"),
        (httpx.RemoteProtocolError("cut"), "connection_broken"),
    ],
)
def test_network_failure_is_a_row(prompts: Path, tmp_path: Path, failure: Exception, error: str) -> None:
    """What the network does to one request does not end the others."""

    def gateway(request: httpx.Request) -> httpx.Response:
        if b"France" in request.content:
            raise failure
        return streams(request)

    code = run(gateway, prompts, "--json", tmp_path / "rows.jsonl")

    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert code == 1
    assert {row["line"]: row["error"] for row in rows} == {1: error, 2: None}


def test_plain_answers_and_where_they_are_asked_from(prompts: Path) -> None:
    """--no-stream, --key and --emulate-cf reach the gateway; a base URL may end in /v1 as OpenAI's do."""

    def gateway(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200)
        assert str(request.url) == "http://gateway.test/v1/chat/completions"
        assert request.headers["authorization"] == "Bearer nsk_1"
        assert json.loads(request.headers["nearside-emulate-cf"]) == {"colo": "SIN"}
        assert "stream" not in json.loads(request.content)
        return httpx.Response(200, json={"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]})

    arguments = ["--no-stream", "--key", "nsk_1", "--emulate-cf", '{"colo": "SIN"}', "--url", "http://gateway.test/v1/"]

    assert run(gateway, prompts, *arguments) == 0


def test_raw_rows(prompts: Path, tmp_path: Path) -> None:
    """One row a request, with the gateway's report, and no texts unless asked for."""
    out = tmp_path / "rows.jsonl"

    run(streams, prompts, "--limit", 1, "--json", out)
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    run(streams, prompts, "--limit", 1, "--json", out, "--with-text")
    (with_text,) = [json.loads(line) for line in out.read_text().splitlines()]

    assert (row["served_by"], row["colo"], row["nearside"]) == ("edge-model", "CDG", {"cost_usd": 0.001})
    assert row["ttft_ms"] <= row["total_ms"]
    assert "capital" not in json.dumps(row)
    assert (with_text["prompt"], with_text["answer"]) == ("What is the capital of France?", "Paris")


def test_broken_lines_are_named(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are skipped and do not fail the run."""
    prompts.write_text('{"prompt": "one"}\nnonsense\n{}\n')

    code = run(streams, prompts)

    assert code == 0
    assert "skipped 2 broken lines: 2 (not JSON), 3 (no 'prompt')" in capsys.readouterr().err


def refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


def test_no_server(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that says what to do."""
    code = run(refuse, prompts)

    assert code == 2
    assert capsys.readouterr().err.splitlines() == [
        "scripts/ask: nothing answers at http://127.0.0.1:8787 (ConnectError); start it with scripts/dev, or give --url"
    ]


@pytest.mark.parametrize("content", [None, "", "nonsense\n"], ids=["missing", "empty", "all broken"])
def test_nothing_to_ask(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None) -> None:
    """A file without prompts is an error before anything is sent."""
    path = tmp_path / "prompts.jsonl"
    if content is not None:
        path.write_text(content)

    code = run(streams, path)

    assert code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("scripts/ask: ")


def test_rows_that_cannot_be_written(prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Known before the first request is paid for."""
    code = run(streams, prompts, "--json", tmp_path / "missing" / "rows.jsonl")

    assert code == 2
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--concurrency", "0"], ["--emulate-cf", "[]"], ["--emulate-cf", "{"]])
def test_wrong_option(prompts: Path, arguments: list[str]) -> None:
    """argparse names the option and exits with 2."""
    with pytest.raises(SystemExit) as caught:
        run(streams, prompts, *arguments)

    assert caught.value.code == 2

"""Checks a running gateway's contract from outside: one line a promise, exit code 1 if one is broken.

Asks the models a handful of short questions, so it costs about a hundredth of a cent.

    scripts/smoke https://nearside.example.workers.dev nsk_k1_…
    NEARSIDE_KEY=nsk_k1_… scripts/smoke http://127.0.0.1:8787     # the key stays out of the list of processes
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

CHAT = "/v1/chat/completions"
ON_EVERY_ANSWER = ("x-request-id", "nearside-colo", "server-timing")
CACHE_TRIES, CACHE_PAUSE_S = 8, 1.0  # an entry is written after its answer, and KV takes a moment


class Broken(Exception):
    """A promise that was not kept; the message says what was seen instead."""


@dataclass(frozen=True, slots=True)
class Result:
    """Of one check. seen: what shows it, or what was wrong."""

    promise: str
    is_kept: bool
    seen: str


def check_all(client: httpx.Client, *, is_open: bool) -> Iterator[Result]:
    """Every promise in turn; one that is broken stops none of the others. client: with the key, if there is one."""
    question = f"Reply with one word: which colour has the sky? ({time.time_ns()})"
    checks: list[tuple[str, Callable[[], str]]] = [
        ("GET /health answers without a key", lambda: _health(client)),
        ("GET /ready: every binding and region is there", lambda: _ready(client)),
        ("without a key nobody gets in", lambda: _closed(client, is_open)),
        ("GET /v1/models lists models", lambda: _models(client)),
        ("a chat is answered, and says where", lambda: _plain(client, question)),
        ("the same question comes from the cache", lambda: _cached(client, question)),
        ("a stream begins and ends with a report", lambda: _stream(client, f"Count from 1 to 5. ({time.time_ns()})")),
        ("POST / takes a bare prompt", lambda: _prompt(client, question)),
        ("POST /v1/route explains and runs nothing", lambda: _route(client)),
        ("POST /v1/embeddings answers", lambda: _embedding(client)),
        ("a wrong field is a 400 that names it", lambda: _wrong_field(client)),
        ("an unknown model is a 404", lambda: _unknown_model(client)),
        ("an unknown path is a 404", lambda: _unknown_path(client)),
    ]
    for promise, check in checks:
        try:
            yield Result(promise, True, check())
        except Broken as exc:
            yield Result(promise, False, str(exc))
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as exc:
            yield Result(promise, False, f"{type(exc).__name__}: {exc}")


def _expect(is_so: bool, instead: str) -> None:
    if not is_so:
        raise Broken(instead)


def _ok(response: httpx.Response, status: int = 200) -> Any:
    """The JSON of an answer that has this status and says where it came from."""
    _expect(response.status_code == status, f"status {response.status_code}: {response.text[:200]}")
    missing = [name for name in ON_EVERY_ANSWER if name not in response.headers]
    _expect(not missing, f"headers missing: {', '.join(missing)}")
    return response.json()


def _error(response: httpx.Response, status: int, code: str) -> str:
    error = _ok(response, status)["error"]
    _expect(set(error) == {"message", "type", "param", "code"}, f"not OpenAI's error object: {sorted(error)}")
    _expect(error["code"] == code, f"code {error['code']}, expected {code}")
    return f"{status} {code}"


def _where(headers: Mapping[str, str]) -> str:
    rtt = headers.get("nearside-client-rtt-ms")
    parts = [headers.get("nearside-served-by"), headers.get("nearside-model"), headers.get("nearside-colo")]
    return ", ".join([part for part in parts if part] + ([f"RTT {rtt} ms"] if rtt else []))


def _health(client: httpx.Client) -> str:
    response = client.get("/health", headers={"authorization": ""})
    return f"{_ok(response)['status']}, {response.headers['nearside-colo']}"


def _ready(client: httpx.Client) -> str:
    facts = _ok(client.get("/ready"))
    down = [name for name, is_up in facts["checks"].items() if not is_up]
    _expect(not down, f"not there: {', '.join(down)}")
    return ", ".join(facts["checks"])


def _closed(client: httpx.Client, is_open: bool) -> str:
    response = client.post(CHAT, json=_chat("Hello"), headers={"authorization": ""})
    if is_open:
        _expect(response.headers.get("nearside-auth") == "open", "no key was given here, and the gateway wants one")
        return "AUTH=open, and it says so"
    return _error(response, 401, "missing_api_key")


def _models(client: httpx.Client) -> str:
    models = _ok(client.get("/v1/models"))["data"]
    _expect(len(models) > 0, "none")
    return f"{len(models)} models"


def _plain(client: httpx.Client, question: str) -> str:
    response = client.post(CHAT, json=_chat(question))
    body = _ok(response)
    _expect(bool(body["choices"][0]["message"]["content"]), "an empty answer")
    _expect(body["usage"]["total_tokens"] > 0, "no usage")
    _expect(body["nearside"]["colo"] == response.headers["nearside-colo"], "headers and body differ in the colo")
    _expect("nearside-cost-usd" in response.headers, "no nearside-cost-usd")
    return _where(response.headers)


def _cached(client: httpx.Client, question: str) -> str:
    for _ in range(CACHE_TRIES):
        response = client.post(CHAT, json=_chat(question))
        _ok(response)
        if response.headers.get("nearside-served-by") == "exact-cache":
            _expect("age" in response.headers, "no Age header")
            return response.headers["cache-status"]
        time.sleep(CACHE_PAUSE_S)
    raise Broken(f"no hit in {CACHE_TRIES} tries: {response.headers.get('cache-status')}")


def _stream(client: httpx.Client, question: str) -> str:
    sent_s, first_s = time.perf_counter(), 0.0
    events: list[str] = []
    with client.stream("POST", CHAT, json=_chat(question, stream=True)) as response:
        _expect(response.status_code == 200, f"status {response.status_code}")
        kind = response.headers.get("content-type", "")
        _expect(kind.startswith("text/event-stream"), f"content-type {kind}")
        for line in response.iter_lines():
            if line.startswith("data: "):
                first_s = first_s or time.perf_counter() - sent_s
                events.append(line.removeprefix("data: "))
    _expect(len(events) > 2 and events[-1] == "[DONE]", f"{len(events)} events, the last one is not [DONE]")
    first, last = json.loads(events[0]), json.loads(events[-2])
    _expect("nearside" in first and "timings_ms" in last.get("nearside", {}), "a report is missing")
    text = "".join(
        choice["delta"].get("content") or "" for event in events[:-1] for choice in json.loads(event)["choices"]
    )
    _expect(bool(text), "no content")
    return f"{len(events)} events, the first after {1000 * first_s:.0f} ms, {_where(response.headers)}"


def _prompt(client: httpx.Client, question: str) -> str:
    body = _ok(client.post("/", json={"prompt": question, "max_tokens": 16}))
    _expect({"response", "location", "latency_ms", "nearside"} <= set(body), f"fields: {sorted(body)}")
    return f"{body['location']}, {body['latency_ms']} ms"


def _route(client: httpx.Client) -> str:
    body = _ok(client.post("/v1/route", json=_chat("Prove that there are infinitely many primes.")))
    return f"{body['model']}: {body['reason'] if 'reason' in body else body.get('route_reason', '')}"


def _embedding(client: httpx.Client) -> str:
    body = _ok(client.post("/v1/embeddings", json={"model": "@cf/baai/bge-small-en-v1.5", "input": "near"}))
    return f"{len(body['data'][0]['embedding'])} dimensions"


def _wrong_field(client: httpx.Client) -> str:
    response = client.post(CHAT, json={"messages": [{"role": "user", "content": "Hello"}], "temperature": "warm"})
    seen = _error(response, 400, "invalid_type")
    _expect(response.json()["error"]["param"] == "temperature", f"param {response.json()['error']['param']}")
    return seen


def _unknown_model(client: httpx.Client) -> str:
    return _error(client.post(CHAT, json=_chat("Hello", model="no-such-model")), 404, "model_not_found")


def _unknown_path(client: httpx.Client) -> str:
    return _error(client.get("/v1/nothing"), 404, "unknown_path")


def _chat(question: str, **fields: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": question}], "max_tokens": 16, **fields}


def main() -> None:
    """Prints what was seen."""
    parser = argparse.ArgumentParser(
        prog="scripts/smoke", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", metavar="URL")
    parser.add_argument(
        "key", metavar="KEY", nargs="?", help="else from NEARSIDE_KEY; none for a gateway with AUTH=open"
    )
    parser.add_argument("--timeout-s", type=float, default=60, help="for one answer, default 60")
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    options = parser.parse_args()
    key = options.key or os.environ.get("NEARSIDE_KEY")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=options.url, headers=headers, timeout=options.timeout_s) as client:
        results = list(check_all(client, is_open=key is None))
    if options.json:
        print(json.dumps([{"promise": r.promise, "kept": r.is_kept, "seen": r.seen} for r in results], indent=2))
    else:
        _print(results, options.url)
    sys.exit(0 if all(result.is_kept for result in results) else 1)


def _print(results: list[Result], url: str) -> None:
    table = Table(title=url, title_justify="left", show_header=False)
    for result in results:
        table.add_row("[green]kept[/]" if result.is_kept else "[red]BROKEN[/]", result.promise, result.seen)
    Console().print(table)


if __name__ == "__main__":
    main()

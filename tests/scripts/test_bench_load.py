"""How scripts/bench asks for load, and reads what the load tools, /proc and wrangler tell."""

import os

import pytest

from scripts.benchmarks.cold_start import parse_bundle
from scripts.benchmarks.comparison import raw_request
from scripts.benchmarks.load import Load, LoadError, Request, parse_result, wrk_script
from scripts.benchmarks.peers.install import InstallError, without_server
from scripts.benchmarks.processes import age_s, family, on_cores, peak_mib
from scripts.benchmarks.workerd import BenchError


def test_wrk_script_quotes_the_body() -> None:
    """A JSON body keeps its quotes and its line ends inside Lua."""
    script = wrk_script(Request("/v1", '{"text": "a\\n\\"b\\""}', {"x-a": "1"}, variants=3))

    assert 'local variants, path, method = 3, "/v1", "POST"' in script
    assert r'"{\"text\": \"a\\n\\\"b\\\"\"}"' in script
    assert '["x-a"] = "1"' in script


def test_request_without_body_is_a_get() -> None:
    assert 'method = 1, "/health", "GET"' in wrk_script(Request("/health"))


def test_result_is_found_among_what_wrk_says() -> None:
    output = (
        "Running 1s test\n"
        'RESULT {"requests": 10, "seconds": 1.0, "errors": 0, "p50_ms": 2.0, "p99_ms": 3.0}\n'
        "Requests/sec: 10\n"
    )

    assert parse_result(output) == Load(requests=10, seconds=1.0, errors=0, p50_ms=2.0, p99_ms=3.0)


@pytest.mark.parametrize(
    "output",
    [
        pytest.param("Running 1s test\n", id="no result"),
        pytest.param('RESULT {"requests": 0, "seconds": 1, "errors": 0, "p50_ms": 0, "p99_ms": 0}', id="no answers"),
    ],
)
def test_load_that_tells_nothing(output: str) -> None:
    """Neither is a figure of zero."""
    with pytest.raises(LoadError):
        parse_result(output)


def test_raw_request() -> None:
    assert raw_request(Request("/v1", "é", {"x-a": "1"})) == (
        b"POST /v1 HTTP/1.1\r\nhost: bench\r\nx-a: 1\r\ncontent-length: 2\r\n\r\n\xc3\xa9"
    )


def test_portkey_without_its_server() -> None:
    """What serves under Node is cut off, and the app is the default export."""
    build = "#!/usr/bin/env node\nlet Lu=new t,Ju=o();Lu.get();const a=process.argv.slice(2),b=1;serve(Lu)"

    assert without_server(build) == "\nlet Lu=new t,Ju=o();Lu.get();\nexport default Lu;\n"


def test_portkey_of_another_layout() -> None:
    """A build that is not laid out as expected is said to be so, and not run half."""
    with pytest.raises(InstallError, match="not laid out"):
        without_server("serve(app)")


def test_parse_bundle() -> None:
    assert parse_bundle("x\nTotal Upload: 4000.5 KiB / gzip: 1800.25 KiB\n") == {"kib": 4000.5, "gzip_kib": 1800.25}


def test_parse_bundle_without_size() -> None:
    with pytest.raises(BenchError, match="no size"):
        parse_bundle("failed")


def test_own_process() -> None:
    """This process is its own family, has been running, and has used memory; cores are given back."""
    before = os.sched_getaffinity(0)

    with on_cores({min(before)}):
        within = os.sched_getaffinity(0)

    assert os.getpid() in family(os.getpid())
    assert age_s(os.getpid()) > 0
    assert peak_mib(os.getpid()) > 1
    assert (within, os.sched_getaffinity(0)) == ({min(before)}, before)

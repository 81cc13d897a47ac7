"""`scripts/smoke`: what it says of gateways that break promises. That ours keeps them: tests/edge/test_contract.py."""

import httpx

from scripts.smoke import check_all

HEADERS = {"x-request-id": "r1", "nearside-colo": "CDG", "server-timing": "total;dur=1.0"}


def _results(answer: httpx.Response) -> dict[str, tuple[bool, str]]:
    transport = httpx.MockTransport(lambda request: answer)
    with httpx.Client(base_url="https://gateway.test", transport=transport) as client:
        return {result.promise: (result.is_kept, result.seen) for result in check_all(client, is_open=False)}


def test_another_service_at_the_address() -> None:
    """Every promise is broken, each with what was seen instead."""
    results = _results(httpx.Response(200, html="<h1>It works!</h1>"))

    assert not any(is_kept for is_kept, _ in results.values())
    assert results["GET /health answers without a key"][1].startswith("headers missing: x-request-id")


def test_gateway_that_lets_everyone_in() -> None:
    """A key was given, so nobody should get in without one."""
    results = _results(httpx.Response(200, json={"status": "ok"}, headers=HEADERS))

    assert results["GET /health answers without a key"] == (True, "ok, CDG")
    assert results["without a key nobody gets in"] == (False, 'status 200: {"status":"ok"}')


def test_nobody_there() -> None:
    """The reason in one line, not a traceback."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused")

    with httpx.Client(base_url="https://gateway.test", transport=httpx.MockTransport(refuse)) as client:
        results = list(check_all(client, is_open=False))

    assert {result.seen for result in results} == {"ConnectError: Connection refused"}

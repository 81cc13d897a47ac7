"""CORS: pages of listed origins may ask, and read every header that the gateway writes; nobody else's may."""

import json
from pathlib import Path
from typing import Any

import pytest

from edge_router.cors import EXPOSED_HEADERS
from edge_router.replies import Reply
from edge_router.settings import SettingsError, read_settings
from tests.edge_router.harness import COMPLEX_PROMPT, World, bearer, chat_body, key_records
from tests.fakes import FakeRateLimiter

APP = "https://app.example.com"
PREFLIGHT = {
    "origin": APP,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-lang",
}
# A page may read these without leave (Fetch, section 4.7), or they are none of its business.
NOT_EXPOSED = {
    "content-type",
    "cache-control",
    "x-content-type-options",
    "vary",
    "timing-allow-origin",
    "access-control-allow-origin",
    "access-control-expose-headers",
}


def cors_headers(reply: Reply) -> set[str]:
    return {name for name in reply.headers if name.startswith("access-control-") or name == "timing-allow-origin"}


async def test_preflight() -> None:
    """Answered without a key, with what may be sent, for two hours; it carries the report like every answer."""
    reply = await World(auth="keys", cors_origins=APP).ask(method="OPTIONS", headers=PREFLIGHT)

    allowed = reply.headers["access-control-allow-headers"].split(", ")
    assert (reply.status, reply.body) == (204, "")
    assert reply.headers["access-control-allow-origin"] == APP
    assert reply.headers["access-control-allow-methods"] == "GET, HEAD, POST, DELETE"
    assert reply.headers["access-control-max-age"] == "7200"
    assert reply.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in reply.headers
    assert {"authorization", "content-type", "cache-control", "traceparent", "nearside-use-cache", "*"} <= set(allowed)
    assert reply.headers["nearside-colo"] == "CDG"


@pytest.mark.parametrize(
    ("configured", "headers"),
    [
        pytest.param("", PREFLIGHT, id="nobody may"),
        pytest.param("https://other.example.com", PREFLIGHT, id="another origin may"),
        pytest.param(APP, {**PREFLIGHT, "origin": "null"}, id="no origin of its own"),
        pytest.param(APP, {**PREFLIGHT, "origin": APP + ".evil.test"}, id="begins alike"),
        pytest.param(APP, {"origin": APP}, id="not a preflight"),
    ],
)
async def test_options_that_are_no_allowed_preflight(configured: str, headers: dict[str, str]) -> None:
    """A method like any other: 405."""
    reply = await World(cors_origins=configured).ask(method="OPTIONS", headers=headers)

    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert "access-control-allow-methods" not in reply.headers


async def test_no_list_no_headers() -> None:
    """By default no answer speaks of other origins."""
    reply = await World().ask(headers={"origin": APP})

    assert cors_headers(reply) == set()
    assert "vary" not in reply.headers


async def test_origin_that_is_not_listed() -> None:
    """Gets an answer that its browser will not show it, and that no cache gives to a page that may see it."""
    reply = await World(cors_origins=APP).ask(headers={"origin": "https://evil.test"})

    assert cors_headers(reply) == set()
    assert reply.headers["vary"] == "Origin"


async def test_caller_that_is_no_page() -> None:
    """Says no origin, and is told nothing of them."""
    reply = await World(cors_origins=APP).ask()

    assert cors_headers(reply) == set()
    assert "vary" not in reply.headers


async def test_all_origins() -> None:
    """`*` is the same for everyone, so that answers don't vary; pages whose origin is `null` may ask too."""
    reply = await World(cors_origins="*").ask(headers={"origin": "null"})

    assert reply.headers["access-control-allow-origin"] == reply.headers["timing-allow-origin"] == "*"
    assert "vary" not in reply.headers


ANSWERS: list[Any] = [
    pytest.param({}, {"body": chat_body()}, 200, id="answer"),
    pytest.param({}, {"body": chat_body(stream=True)}, 200, id="stream"),
    pytest.param({}, {"path": "/v1/models", "method": "GET"}, 200, id="models"),
    pytest.param({}, {"body": "{"}, 400, id="400"),
    pytest.param({"auth": "keys"}, {}, 401, id="401"),
    pytest.param({}, {"path": "/nowhere"}, 404, id="404"),
    pytest.param({}, {"method": "PUT"}, 405, id="405"),
    pytest.param({"rate_limiter": FakeRateLimiter(left=0)}, {}, 429, id="429"),
    pytest.param({"regions": ()}, {"body": chat_body(COMPLEX_PROMPT)}, 502, id="502"),
    pytest.param({}, {"headers": {"cache-control": "only-if-cached"}}, 504, id="504"),
    pytest.param({"auth": "keys", "keys": key_records(k001={"tenant": "a"})}, {"headers": bearer()}, 200, id="key"),
]


@pytest.mark.parametrize(("world", "asked", "status"), ANSWERS)
async def test_page_reads_every_header(world: dict[str, Any], asked: dict[str, Any], status: int) -> None:
    """Answers, streams and errors alike: no header of ours is hidden from a page that may ask."""
    headers = {"origin": APP, **asked.pop("headers", {})}
    reply = await World(**world, cors_origins=f"{APP}, http://localhost:5173").ask(**asked, headers=headers)

    assert reply.status == status
    assert reply.headers["access-control-allow-origin"] == reply.headers["timing-allow-origin"] == APP
    assert reply.headers["access-control-expose-headers"] == EXPOSED_HEADERS
    assert set(reply.headers) - set(EXPOSED_HEADERS.split(", ")) <= NOT_EXPOSED


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", set()),
        ("*", {"*"}),
        (" https://a.test , http://localhost:5173,", {"https://a.test", "http://localhost:5173"}),
        ("http://[::1]:8080,chrome-extension://abcdef", {"http://[::1]:8080", "chrome-extension://abcdef"}),
    ],
)
def test_list_of_origins(value: str, expected: set[str]) -> None:
    """Commas separate them."""
    assert read_settings({"CORS_ORIGINS": value}).cors_origins == expected


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("app.example.com", "is no origin"),
        ("https://app.example.com/", "is no origin"),
        ("https://App.example.com", "is no origin"),
        ("https://*.example.com", "is no origin"),
        ("null", "is no origin"),
        ("https://app.example.com:443", "port"),
        ("http://app.example.com:80", "port"),
        ("*,https://a.test", "goes with no other"),
        (7, "CORS_ORIGINS"),
    ],
)
def test_wrong_list_of_origins(value: object, says: str) -> None:
    """Stops the start, and says what is wrong: an origin that never matches would be found out much later."""
    with pytest.raises(SettingsError, match=f"^CORS_ORIGINS: .*{says}|^CORS_ORIGINS"):
        read_settings({"CORS_ORIGINS": value})


def test_local_runs_have_the_list_that_is_deployed() -> None:
    """Nobody's pages may ask by default."""
    assert json.dumps("") in Path("wrangler.toml").read_text().split("CORS_ORIGINS = ")[1][:2]

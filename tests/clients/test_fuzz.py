"""Whatever is sent to the real Worker: a correct answer or a 4xx with OpenAI's error, and the connection goes on."""

import json
import math
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.clients import schemas
from tests.clients.test_wrong_fields import FIELDS, RIGHT
from tests.edge.control import chat, easy

pytestmark = pytest.mark.workerd

BOUNDED = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
READ = {
    "/v1/chat/completions": schemas.chat,
    "/v1/completions": schemas.text,
    "/v1/responses": schemas.responses,
    "/v1/embeddings": schemas.embeddings,
}
STREAMED = {
    "/v1/chat/completions": schemas.chat_chunks,
    "/v1/completions": schemas.text_chunks,
    "/v1/completions/stream": schemas.text_chunks,
    "/v1/responses": schemas.responses_events,
}

# Text as JSON can carry it: halves of surrogate pairs and NUL too.
any_text = st.text(st.characters(exclude_categories=[]), max_size=20)
numbers = st.one_of(
    st.integers(),
    st.integers(min_value=-(10**400), max_value=10**400),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0, -1, 2**31, 2**53 + 1, 2**63, 2**64, 10**308, 1e308, 5e-324, -0.0]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, any_text)
any_json = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(any_text, inner, max_size=4)),
    max_leaves=12,
)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """A right request of which up to three fields were replaced, and sometimes its bytes damaged."""
    path = draw(st.sampled_from(list(RIGHT)))
    body = dict(RIGHT[path])
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.one_of(st.sampled_from(list(FIELDS[path])), any_text))
        body[name] = draw(any_json)
    content = json.dumps(body).encode()
    damage = draw(st.sampled_from(["none", "none", "none", "cut", "byte", "twice"]))
    if damage == "cut":
        content = content[: draw(st.integers(0, len(content)))]
    elif damage == "byte":
        place = draw(st.integers(0, len(content) - 1))
        content = content[:place] + draw(st.binary(min_size=1, max_size=3)) + content[place + 1 :]
    elif damage == "twice":
        name = draw(st.sampled_from(list(RIGHT[path])))
        content = b"{" + json.dumps(name).encode() + b": " + json.dumps(draw(any_json)).encode() + b"," + content[1:]
    return path, content


def check(path: str, response: httpx.Response) -> None:
    """A strict body, or an error with all four keys; never a failure of ours."""
    if response.status_code != 200:
        assert 400 <= response.status_code < 500, response.text[:500]
        schemas.error(response)
    elif response.headers["content-type"].startswith("text/event-stream"):
        STREAMED[path](response)
    elif path in READ:
        try:
            READ[path](response)
        except ValueError:
            assert path == "/v1/embeddings"
            schemas.base64_embeddings(response)


@BOUNDED
@given(
    request=mutated(), headers=st.sampled_from(["application/json", "text/plain", "", "application/json; charset=x"])
)
def test_mutated_request(http: httpx.Client, request: tuple[str, bytes], headers: str) -> None:
    """Fields of any type, of any size, twice, and bytes that are no JSON any more."""
    path, content = request

    response = http.post(path, content=content, headers={"content-type": headers})

    check(path, response)
    assert http.get("/health").status_code == 200


@BOUNDED
@given(
    path=st.sampled_from(list(RIGHT)), content=st.one_of(any_json.map(lambda v: json.dumps(v).encode()), st.binary())
)
def test_any_body(http: httpx.Client, path: str, content: bytes) -> None:
    """Any JSON and any bytes."""
    response = http.post(path, content=content)

    check(path, response)
    assert response.status_code != 200
    assert http.get("/health").status_code == 200


def body_of(size: int) -> bytes:
    return json.dumps(chat("x" * size)).encode()


@pytest.mark.parametrize("path", list(RIGHT))
@pytest.mark.parametrize(
    ("value", "statuses"),
    [
        pytest.param("x" * 2**21, {413}, id="2 MiB"),
        pytest.param([{"role": "user", "content": "x"}] * 10_000, {200, 400}, id="10,000 messages"),
        pytest.param(["x"] * 10_000, {200, 400}, id="10,000 texts"),
        pytest.param("\x00", {200}, id="NUL"),
        pytest.param("\ud800 alone", {200, 400}, id="half a surrogate pair"),
        pytest.param(math.nan, {400}, id="NaN"),
        pytest.param(math.inf, {400}, id="Infinity"),
        pytest.param(10**400, {400}, id="huge number"),
        pytest.param(json.loads("[" * 100 + "]" * 100), {400}, id="100 deep"),
    ],
)
def test_odd_value_in_the_main_field(http: httpx.Client, path: str, value: Any, statuses: set[int]) -> None:
    """In the one field that each endpoint is about; the connection goes on."""
    main = next(name for name in ("messages", "prompt", "prompts", "input") if name in RIGHT[path])
    if isinstance(value, str):
        value = {"messages": [{"role": "user", "content": value}], "prompts": [value]}.get(main, value)

    response = http.post(path, content=json.dumps({**RIGHT[path], main: value}).encode())

    assert response.status_code in statuses, response.text[:300]
    check(path, response)
    assert http.get("/health").status_code == 200


@pytest.mark.parametrize("path", list(RIGHT))
@pytest.mark.parametrize("depth", [100, 1_000, 100_000])
def test_nesting_in_a_field_that_nobody_knows(http: httpx.Client, path: str, depth: int) -> None:
    """100 levels are nobody's harm; more are refused before anything reads them."""
    content = json.dumps(RIGHT[path])[:-1].encode() + b', "x": ' + b"[" * depth + b"]" * depth + b"}"

    response = http.post(path, content=content)

    assert response.status_code == (200 if depth == 100 else 400), response.text[:300]
    check(path, response)
    assert http.get("/health").status_code == 200


@pytest.mark.parametrize("chunked", [False, True], ids=["with length", "chunked"])
def test_body_far_beyond_the_limit(http: httpx.Client, chunked: bool) -> None:
    """A caller who is still sending gets the 413 too, not a reset connection, and the connection goes on."""
    body = body_of(2**24)

    for _ in range(3):
        parts = (body[start : start + 2**16] for start in range(0, len(body), 2**16))
        response = http.post("/v1/chat/completions", content=parts if chunked else body)

        assert response.status_code == 413
        assert schemas.error(response).code == "body_too_large"
        assert http.get("/health").status_code == 200


def test_duplicate_key(http: httpx.Client) -> None:
    """The last one counts, for us and for the model, as everywhere in JSON's world."""
    content = b'{"messages": 5, "temperature": 9, "messages": [{"role": "user", "content": "x"}], "temperature": 1}'

    response = http.post("/v1/chat/completions", content=content)

    schemas.chat(response)


def test_connection_survives_what_is_refused(http: httpx.Client) -> None:
    """One TCP connection, wrong and right in turn."""
    with httpx.Client(base_url=http.base_url, limits=httpx.Limits(max_connections=1), timeout=30) as client:
        for wrong in (b"{", b"\xff", body_of(2**21), b"[" * 10_000, b'{"messages": NaN}'):
            schemas.error(client.post("/v1/chat/completions", content=wrong))
            schemas.chat(client.post("/v1/chat/completions", json=chat(easy())))

"""Who may call the cloud: the signature covers what it says, and nothing else gets through."""

import hmac
from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.signing import (
    WINDOW_S,
    Key,
    SignatureError,
    Signed,
    content_digest,
    parse_keys,
    sign,
    signature_base,
    verify,
)

OLD, NEW = Key("old", b"o" * 32), Key("new", b"n" * 32)
NOW_S = 1_790_000_000.0
PATH = "/v1/chat/completions"
BODY = '{"model": "gpt-4o", "text": "Grüße"}'.encode()


def signed(key: Key = OLD, **changes: object) -> dict[str, str]:
    fields = {"method": "POST", "path": PATH, "request_id": "req_1", "body": BODY, "nonce": "n" * 16, "now_s": NOW_S}
    return sign(key, **{**fields, **changes})  # type: ignore[arg-type]


def check(headers: dict[str, str], *, method: str = "POST", path: str = PATH, now_s: float = NOW_S) -> Signed:
    return verify([OLD, NEW], method=method, path=path, headers=headers, now_s=now_s)


@pytest.mark.parametrize("key", [OLD, NEW], ids=lambda key: key.id)
def test_round_trip(key: Key) -> None:
    """What either key signed is accepted, and says for how long it is to be remembered."""
    result = check(signed(key))

    assert result == Signed("n" * 16, NOW_S + WINDOW_S, content_digest(BODY))
    assert result.covers(BODY)
    assert not result.covers(BODY + b" ")


@given(
    body=st.binary(max_size=200),
    request_id=st.text("abc_.:-019", min_size=1),
    nonce=st.from_regex(r"\A[\w-]{16,64}\Z", alphabet=st.characters(max_codepoint=127)),
)
def test_any_request(body: bytes, request_id: str, nonce: str) -> None:
    """Any body, any id."""
    result = check(signed(body=body, request_id=request_id, nonce=nonce))

    assert result.nonce == nonce
    assert result.covers(body)


def test_rfc_9421_example() -> None:
    """The example of RFC 9421, appendix B.2.5: same base, same HMAC."""
    secret = b64decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
    components = [
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("@authority", "example.com"),
        ("content-type", "application/json"),
    ]
    params = '("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"'

    mac = hmac.digest(secret, signature_base(components, params).encode(), "sha256")

    assert b64encode(mac).decode() == "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8="


@pytest.mark.parametrize("name", ["signature", "signature-input", "content-digest", "x-request-id"])
def test_header_missing_or_changed(name: str) -> None:
    """Without one of its headers, or with a single character of it changed, a call is not signed."""
    headers = signed()
    without = {key: value for key, value in headers.items() if key != name}

    with pytest.raises(SignatureError):
        check(without)
    for at in range(len(headers[name])):
        changed = headers[name][:at] + chr(ord(headers[name][at]) ^ 1) + headers[name][at + 1 :]
        with pytest.raises(SignatureError):
            check({**headers, name: changed})


@pytest.mark.parametrize(
    ("headers", "at", "reason"),
    [
        pytest.param({}, {}, "missing", id="unsigned"),
        pytest.param({**signed(), "signature": "edge=:AAAA:"}, {}, "malformed", id="short"),
        pytest.param({**signed(), "signature": "edge=:" + "é" * 43 + "=:"}, {}, "malformed", id="not ascii"),
        pytest.param(signed(Key("other", b"x" * 32)), {}, "key", id="unknown key"),
        pytest.param(signed(Key("old", b"x" * 32)), {}, "signature", id="wrong secret"),
        pytest.param(signed(), {"method": "PUT"}, "signature", id="method"),
        pytest.param(signed(), {"path": "/v1/embeddings"}, "signature", id="path"),
        pytest.param(signed(), {"now_s": NOW_S + WINDOW_S + 1}, "time", id="old"),
        pytest.param(signed(), {"now_s": NOW_S - WINDOW_S - 1}, "time", id="from the future"),
    ],
)
def test_refused(headers: dict[str, str], at: dict[str, str], reason: str) -> None:
    """Each kind has its own word."""
    with pytest.raises(SignatureError) as caught:
        check(headers, **at)  # type: ignore[arg-type]

    assert caught.value.reason == reason


def test_edges_of_the_window() -> None:
    """A minute either way is still accepted."""
    assert check(signed(), now_s=NOW_S + WINDOW_S)
    assert check(signed(), now_s=NOW_S - WINDOW_S)


def test_parse_keys() -> None:
    """The first of several signs; space around them does not matter; a key does not print its secret."""
    first, second = parse_keys(f" a:{'0f' * 32} , b-2:{'A0' * 40}")

    assert (first, second) == (Key("a", b"\x0f" * 32), Key("b-2", b"\xa0" * 40))
    assert "0f" not in repr(first)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a:",
        f"a:{'zz' * 32}",
        f"a:{'00' * 31}",
        f"a:{'00' * 32},",
        f"a b:{'00' * 32}",
        f"a:{'00' * 32},a:{'11' * 32}",
        f"a:{'0' * 65}",
    ],
)
def test_bad_keys(text: str) -> None:
    """A list that can't be used says why, without a secret."""
    with pytest.raises(ValueError, match=r"id|bytes") as caught:
        parse_keys(text)

    assert "00" not in str(caught.value)

"""API keys: their form, the one error for every key that is not valid, and scopes."""

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.auth import PresentedKey, Scope, Tenant, check_scope, hash_secret, read_key
from edge_router.errors import NotAuthenticated, RequestRejected

SECRET = "s3cretS3cretS3cret"
KEY = PresentedKey("k001", hash_secret(SECRET))


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(f"Bearer nsk_k001_{SECRET}", id="as documented"),
        pytest.param(f"bearer nsk_k001_{SECRET}", id="the scheme's case does not matter"),
        pytest.param(f"Bearer   nsk_k001_{SECRET} ", id="spaces around"),
    ],
)
def test_key_in_its_form(header: str) -> None:
    """Only the public id and the secret's hash are kept."""
    assert read_key(header) == KEY


@pytest.mark.parametrize("header", [None, ""])
def test_no_key(header: str | None) -> None:
    """The error says how to send one."""
    with pytest.raises(NotAuthenticated, match="Bearer") as caught:
        read_key(header)

    assert (caught.value.status, caught.value.code) == (401, "missing_api_key")


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(f"nsk_k001_{SECRET}", id="no scheme"),
        pytest.param(f"Basic nsk_k001_{SECRET}", id="another scheme"),
        pytest.param("Bearer", id="no token"),
        pytest.param("Bearer sk-other", id="another provider's"),
        pytest.param("Bearer nsk_k001_short", id="secret too short"),
        pytest.param(f"Bearer nsk_k1_{SECRET}", id="id too short"),
        pytest.param(f"Bearer nsk_k001_{SECRET}\nx", id="more behind it"),
        pytest.param(f"Bearer nsk_k001_é{SECRET}", id="not ASCII"),
    ],
)
def test_key_in_no_known_form(header: str) -> None:
    """The same error as for a wrong one; it does not repeat the key."""
    with pytest.raises(NotAuthenticated) as caught:
        read_key(header)

    assert caught.value.code == "invalid_api_key"
    assert SECRET not in caught.value.message


@settings(max_examples=100)
@given(key_id=st.from_regex(r"[A-Za-z0-9]{4,32}", fullmatch=True), secret=st.text(max_size=130))
def test_any_key(key_id: str, secret: str) -> None:
    """Is read or refused, nothing else."""
    try:
        key = read_key(f"Bearer nsk_{key_id}_{secret}")
    except NotAuthenticated:
        return

    assert key == PresentedKey(key_id, hash_secret(secret.strip()))


@pytest.mark.parametrize("scope", get_args(Scope))
def test_scope(scope: Scope) -> None:
    """A key may do what its scopes say, an administrator's everything; the refusal names what is lacking."""
    check_scope(Tenant("acme", scopes=frozenset({scope})), scope)
    check_scope(Tenant("acme", scopes=frozenset({"admin"})), scope)

    with pytest.raises(RequestRejected, match=f"'{scope}'") as caught:
        check_scope(Tenant("acme", scopes=frozenset()), scope)
    assert (caught.value.status, caught.value.code) == (403, "insufficient_scope")

"""API keys: their form, and the one error for every key that is not valid."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.auth import PresentedKey, Tenant, hash_secret, read_key, tenant_of
from edge_router.errors import NotAuthenticated

SECRET = "s3cretS3cretS3cret"
KEY = PresentedKey("k001", hash_secret(SECRET))


def record(tenant: object = "acme", *secrets: str) -> str:
    return json.dumps({"tenant": tenant, "hashes": [hash_secret(secret) for secret in secrets or (SECRET,)]})


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


def test_right_secret() -> None:
    """The key tells the tenant."""
    assert tenant_of(record("acme"), KEY) == Tenant("acme")


def test_secret_that_is_being_rotated() -> None:
    """Both the old and the new one are right."""
    assert tenant_of(record("acme", "another secret", SECRET), KEY) == Tenant("acme")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({"semantic_cache": True, "semantic_threshold": 0.9}, (True, 0.9), id="both"),
        pytest.param({"semantic_cache": False, "semantic_threshold": 1}, (False, 1.0), id="off, and a whole number"),
        pytest.param({"semantic_cache": "yes", "semantic_threshold": "0.9"}, (None, None), id="text"),
        pytest.param({"semantic_cache": 1, "semantic_threshold": True}, (None, None), id="neither flag nor number"),
        pytest.param({"semantic_threshold": 0}, (None, None), id="everything would be the same"),
        pytest.param({"semantic_threshold": 1.01}, (None, None), id="nothing would be the same"),
    ],
)
def test_what_was_agreed_with_a_tenant(given: dict[str, object], expected: tuple[object, object]) -> None:
    """A field that can't be used locks nobody out: it counts as absent."""
    tenant = tenant_of(json.dumps({**json.loads(record()), **given}), KEY)

    assert (tenant.semantic_cache, tenant.semantic_threshold) == expected


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(None, id="unknown id"),
        pytest.param(record("acme", "another secret"), id="wrong secret"),
        pytest.param(json.dumps({"tenant": "acme", "hashes": []}), id="no hashes"),
        pytest.param(json.dumps({"tenant": "acme"}), id="hashes missing"),
        pytest.param(json.dumps({"hashes": [KEY.secret_hash]}), id="tenant missing"),
        pytest.param(record(None), id="tenant null"),
        pytest.param(record(""), id="tenant empty"),
        pytest.param(json.dumps({"tenant": "acme", "hashes": ["é"]}), id="hash not ASCII"),
        pytest.param(json.dumps({"tenant": "acme", "hashes": KEY.secret_hash}), id="hash outside a list"),
        pytest.param("{", id="not JSON"),
        pytest.param("[" * 100_000, id="nested too deeply"),
        pytest.param("[]", id="a list"),
        pytest.param("", id="empty"),
    ],
)
def test_key_that_is_not_valid(stored: str | None) -> None:
    """One error for all: nobody learns which ids exist, and a broken record lets nobody in."""
    with pytest.raises(NotAuthenticated) as caught:
        tenant_of(stored, KEY)

    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
    assert caught.value.message == "Incorrect API key provided."


@settings(max_examples=100)
@given(key_id=st.from_regex(r"[A-Za-z0-9]{4,32}", fullmatch=True), secret=st.text(max_size=130))
def test_any_key(key_id: str, secret: str) -> None:
    """Is read or refused, nothing else."""
    try:
        key = read_key(f"Bearer nsk_{key_id}_{secret}")
    except NotAuthenticated:
        return

    assert key == PresentedKey(key_id, hash_secret(secret.strip()))

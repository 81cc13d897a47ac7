"""API keys: `nsk_<id>_<secret>`. Only SHA-256 hashes are stored; a key tells the tenant.

A record is JSON under the key `key:<id>`: `{"tenant": "...", "hashes": ["<hex sha-256 of the secret>", …]}`,
with two hashes while a secret is being rotated.
"""

import hashlib
import hmac
import json
import re
from dataclasses import dataclass

from .errors import NotAuthenticated

OPEN_TENANT = "open"  # whom everyone is when AUTH=open

_KEY = re.compile(r"nsk_([A-Za-z0-9]{4,32})_([A-Za-z0-9]{16,128})")
_DUMMY_HASH = hashlib.sha256(b"no such key").hexdigest()


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """What a caller sent: the public id and the hash of the secret."""

    id: str
    secret_hash: str


def read_key(authorization: str | None) -> PresentedKey:
    """The key in an `Authorization: Bearer` header; raises NotAuthenticated."""
    if not authorization:
        raise NotAuthenticated("No API key. Send it as 'Authorization: Bearer nsk_…'.", code="missing_api_key")
    scheme, _, token = authorization.partition(" ")
    match = _KEY.fullmatch(token.strip()) if scheme.lower() == "bearer" else None
    if match is None:
        raise _wrong_key()
    return PresentedKey(match.group(1), hash_secret(match.group(2)))


def hash_secret(secret: str) -> str:
    """Hex SHA-256: the secrets are long and random, so they need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def tenant_of(record: str | None, key: PresentedKey) -> str:
    """The tenant whose key this is; raises the same NotAuthenticated for an unknown id and a wrong secret."""
    tenant, hashes = _read_record(record)
    presented = key.secret_hash.encode()
    matches = [hmac.compare_digest(known.encode(), presented) for known in hashes or [_DUMMY_HASH]]
    if not hashes or not any(matches):
        raise _wrong_key()
    return tenant


def _read_record(record: str | None) -> tuple[str, list[str]]:
    """A broken record lets nobody in."""
    try:
        parsed = json.loads(record or "null")
        tenant, hashes = parsed["tenant"], [str(known) for known in parsed["hashes"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", []
    return (tenant, hashes) if isinstance(tenant, str) and tenant else ("", [])


def _wrong_key() -> NotAuthenticated:
    return NotAuthenticated("Incorrect API key provided.")

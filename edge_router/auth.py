"""API keys: `nsk_<id>_<secret>`. Only SHA-256 hashes are stored; a key tells the tenant.

A record is JSON under the key `key:<id>`: `{"tenant": "...", "hashes": ["<hex sha-256 of the secret>", …]}`,
with two hashes while a secret is being rotated. Optional: what was agreed with the tenant, see `Tenant`.
"""

import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from .budgets.policy import Budget, budget_of
from .caching.policy import DEFAULT_POLICY, TenantPolicy, read_policy
from .errors import NotAuthenticated

_KEY = re.compile(r"nsk_([A-Za-z0-9]{4,32})_([A-Za-z0-9]{16,128})")
_AREA = re.compile(r"[a-z]{2,16}")
_DUMMY_HASH = hashlib.sha256(b"no such key").hexdigest()


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """What a caller sent: the public id and the hash of the secret."""

    id: str
    secret_hash: str


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who asks. All but `id` are optional fields of the key record; None: as the variables say.

    scopes: what its key may do beyond asking: `admin`, `metrics`. cache: how its answers are kept.
    semantic_cache: whether near questions may share answers. semantic_threshold: how sure that must be, in (0, 1].
    cascade: whether edge models' answers are checked.
    residency: the area where the tenant's answers must be made. budget: what it may spend, without one as it likes.
    """

    id: str
    semantic_cache: bool | None = None
    semantic_threshold: float | None = None
    cascade: Literal["off", "on", "race"] | None = None
    cache: TenantPolicy = DEFAULT_POLICY
    scopes: frozenset[str] = frozenset()
    residency: str | None = None
    budget: Budget | None = None


OPEN_TENANT = Tenant("open")  # whom everyone is when AUTH=open


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


def tenant_of(record: str | None, key: PresentedKey) -> Tenant:
    """The tenant whose key this is; raises the same NotAuthenticated for an unknown id and a wrong secret."""
    tenant, hashes = _read_record(record)
    presented = key.secret_hash.encode()
    matches = [hmac.compare_digest(known.encode(), presented) for known in hashes or [_DUMMY_HASH]]
    if not hashes or not any(matches):
        raise _wrong_key()
    return tenant


def _read_record(record: str | None) -> tuple[Tenant, list[str]]:
    """A broken record lets nobody in; an optional field that can't be used is as if it were not there, except for the
    residency, without which nothing may be answered.
    """
    try:
        parsed = json.loads(record or "null")
        tenant_id, hashes = parsed["tenant"], [str(known) for known in parsed["hashes"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return Tenant(""), []
    residency = parsed.get("residency")
    if not isinstance(tenant_id, str) or not tenant_id or not _is_area(residency):
        return Tenant(""), []
    tenant = Tenant(
        tenant_id,
        semantic_cache=_flag(parsed.get("semantic_cache")),
        semantic_threshold=_share(parsed.get("semantic_threshold")),
        cascade=_mode(parsed.get("cascade")),
        cache=read_policy(parsed),
        scopes=_texts(parsed.get("scopes")),
        residency=residency,
        budget=budget_of(parsed.get("budget")),
    )
    return tenant, hashes


def _is_area(value: Any) -> bool:
    return value is None or (isinstance(value, str) and _AREA.fullmatch(value) is not None)


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _mode(value: Any) -> Literal["off", "on", "race"] | None:
    return value if value in ("off", "on", "race") else None


def _texts(value: Any) -> frozenset[str]:
    return frozenset(text for text in value if isinstance(text, str)) if isinstance(value, list) else frozenset()


def _share(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value <= 1 else None


def _wrong_key() -> NotAuthenticated:
    return NotAuthenticated("Incorrect API key provided.")

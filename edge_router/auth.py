"""API keys: `nsk_<id>_<secret>`. Who a key stands for, and what it may do. docs/keys.md"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Literal

from .allowed_models import AllowedModels
from .budgets.policy import Budget
from .caching.policy import DEFAULT_POLICY, TenantPolicy
from .errors import NotAuthenticated, RequestRejected
from .limits.policy import Limits
from .prompts.rules import PromptRules

Scope = Literal["infer", "metrics", "cache", "admin"]
INFER_ONLY: Final[frozenset[Scope]] = frozenset({"infer"})

_KEY = re.compile(r"nsk_([A-Za-z0-9]{4,32})_([A-Za-z0-9]{16,128})")


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """What a caller sent: the public id and the hash of the secret."""

    id: str
    secret_hash: str


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who asks, as the key record says. None, for all but `id`: as for everyone.

    scopes: what the key may do. models: those that may answer. limits: how often and how much at a time it may ask.
    semantic_cache: whether near questions may share answers. semantic_threshold: how sure that must be, in (0, 1].
    cascade: whether edge models' answers are checked. cache: how answers are kept.
    residency: the area where the tenant's answers must be made. budget: what it may spend.
    prompts: what is done to its prompts.
    """

    id: str
    semantic_cache: bool | None = None
    semantic_threshold: float | None = None
    cascade: Literal["off", "on", "race"] | None = None
    cache: TenantPolicy = DEFAULT_POLICY
    scopes: frozenset[Scope] = INFER_ONLY
    residency: str | None = None
    budget: Budget | None = None
    models: AllowedModels | None = None
    limits: Limits | None = None
    prompts: PromptRules | None = None


OPEN_TENANT: Final = Tenant("open")  # whom everyone is when AUTH=open; no record may have this name


def read_key(authorization: str | None) -> PresentedKey:
    """The key in an `Authorization: Bearer` header; raises NotAuthenticated."""
    if not authorization:
        raise NotAuthenticated("No API key. Send it as 'Authorization: Bearer nsk_…'.", code="missing_api_key")
    scheme, _, token = authorization.partition(" ")
    match = _KEY.fullmatch(token.strip()) if scheme.lower() == "bearer" else None
    if match is None:
        raise wrong_key()
    return PresentedKey(match.group(1), hash_secret(match.group(2)))


def hash_secret(secret: str) -> str:
    """Hex SHA-256: the secrets are long and random, so they need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def check_scope(tenant: Tenant, scope: Scope) -> None:
    """Raises RequestRejected (403) unless the key may do this."""
    if scope not in tenant.scopes and "admin" not in tenant.scopes:
        raise RequestRejected(f"This key lacks the scope '{scope}'.", code="insufficient_scope", status=403)


def wrong_key() -> NotAuthenticated:
    """The one error for every key that lets nobody in."""
    return NotAuthenticated("Incorrect API key provided.")

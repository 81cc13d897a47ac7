"""What stands in the store under `key:<id>`: the record of an API key, as docs/keys.md describes it.

Read strictly: a field that is unknown or out of its range makes the whole record unusable, because one that is only
misspelt may be the one that was to protect something.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError, model_validator

from .allowed_models import AllowedModels
from .auth import INFER_ONLY, OPEN_TENANT, Scope, Tenant
from .budgets.policy import Budget, parse_budget
from .caching.policy import MAX_TTL_S, Normalisation, TenantPolicy
from .limits.policy import Limits
from .prompts.rules import PromptRules

MAX_RECORD_CHARS = 16 * 1024

_Seconds = Annotated[float, Field(ge=0, le=MAX_TTL_S)]
_Instant = Annotated[float, Field(ge=0, lt=1e11)]  # Unix time in seconds: what is larger was meant in milliseconds
_Pattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_@./:-]{0,127}(\*|[A-Za-z0-9_@./:-])$")]


class BrokenRecord(ValueError):
    """A record that can't be used; the message names the field, and never a value."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class StoredSecret(_Strict):
    """expires_at_s: Unix time from which on it lets nobody in."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    expires_at_s: _Instant | None = None


def _from_hash(value: object) -> object:
    """A hash alone is a secret that does not expire."""
    return {"sha256": value} if isinstance(value, str) else value


class RecordLimits(_Strict):
    """As `Limits`, with at least one of the two."""

    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    concurrency: Annotated[int, Field(ge=1, le=10_000)] | None = None
    strict: bool = False
    on_failure: Literal["fail_open", "fail_closed"] = "fail_open"

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.requests_per_minute is None and self.concurrency is None:
            raise ValueError("needs requests_per_minute or concurrency")
        return self


class KeyRecord(_Strict):
    """One key. hashes: of its secret, two while it is being rotated."""

    tenant: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$")]
    hashes: Annotated[list[Annotated[StoredSecret, BeforeValidator(_from_hash)]], Field(min_length=1, max_length=2)]
    name: Annotated[str, Field(max_length=100)] | None = None
    created_at_s: _Instant | None = None
    expires_at_s: _Instant | None = None
    disabled: bool = False
    scopes: Annotated[frozenset[Scope], Field(min_length=1)] = INFER_ONLY
    models: Annotated[list[_Pattern], Field(min_length=1, max_length=64)] | None = None
    residency: Annotated[str, Field(pattern=r"^[a-z]{2,16}$")] | None = None
    limits: RecordLimits | None = None
    prompts: PromptRules | None = None
    budget: Annotated[Budget, PlainValidator(parse_budget)] | None = None
    semantic_cache: bool | None = None
    semantic_threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    cascade: Literal["off", "on", "race"] | None = None
    cache_ttl_s: Annotated[float, Field(ge=1, le=MAX_TTL_S)] | None = None
    cache_swr_s: _Seconds | None = None
    cache_stale_if_error_s: _Seconds | None = None
    cache_normalisation: Normalisation | None = None

    @model_validator(mode="after")
    def _is_nobody_elses_name(self) -> Self:
        if self.tenant == OPEN_TENANT.id:
            raise ValueError("tenant must not be the one that AUTH=open lets in")
        return self

    def to_tenant(self) -> Tenant:
        """What the rest of the gateway knows of the key."""
        return Tenant(
            self.tenant,
            semantic_cache=self.semantic_cache,
            semantic_threshold=self.semantic_threshold,
            cascade=self.cascade,
            cache=TenantPolicy(
                self.cache_ttl_s, self.cache_swr_s, self.cache_stale_if_error_s, self.cache_normalisation
            ),
            scopes=self.scopes,
            residency=self.residency,
            budget=self.budget,
            models=AllowedModels(tuple(self.models)) if self.models else None,
            limits=Limits(**self.limits.model_dump()) if self.limits else None,
            prompts=self.prompts,
        )


def read_record(text: str) -> KeyRecord:
    """Raises BrokenRecord."""
    if len(text) > MAX_RECORD_CHARS:
        raise BrokenRecord(f"is longer than {MAX_RECORD_CHARS} characters")
    try:
        return KeyRecord.model_validate_json(text)
    except ValidationError as exc:
        raise BrokenRecord(_first_of(exc)) from None


def _first_of(error: ValidationError) -> str:
    first: Any = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(step) for step in first["loc"])
    return f"{where[:80]}: {first['msg']}"  # where: also an unknown field's name

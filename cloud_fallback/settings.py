"""Settings, read from the environment once, at the start. docs/configuration.md is made from them."""

import os
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from cloud_fallback.errors import ConfigError
from cloud_fallback.models import BaseUrl
from edge_router.signing import Key, parse_keys

PREFIX = "CLOUD_"
# Google Cloud sets these itself in Cloud Run jobs, Cloud Shell and the SDK.
FOREIGN_PREFIXES = ("CLOUD_RUN_", "CLOUD_SHELL", "CLOUD_SDK_")


class Settings(BaseSettings):
    """One field is one variable: `upstream_url` is CLOUD_UPSTREAM_URL."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, populate_by_name=True, str_strip_whitespace=True
    )

    upstream_url: BaseUrl | None = Field(None, description="where models are asked that name no upstream of their own")
    upstream_key: SecretStr | None = Field(None, description="sent to it as `Authorization: Bearer`")
    region: str = Field(
        default="local",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="this region's name, in every answer's `nearside-cloud-region`",
    )
    models_file: Path = Field(
        Path(__file__).with_name("models.toml"), description="which models there are, and how each is called"
    )
    fallback_keys: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("FALLBACK_KEYS"),
        description="`id:hex,id:hex`: who may call, the same as at the edge; without it nobody",
    )
    fallback_auth: Literal["keys", "open"] = Field(
        default="keys",
        validation_alias=AliasChoices("FALLBACK_AUTH"),
        description="`open`: everyone may call, for a private network",
    )
    redis_url: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("REDIS_URL"),
        description="what the replicas of a region share: breakers, budgets, nonces",
    )
    connect_timeout_s: float = Field(default=5.0, gt=0, le=600, description="to connect to an upstream")
    first_byte_timeout_s: float = Field(
        default=120.0,
        gt=0,
        le=3600,
        description="to an upstream's first byte, which for a plain answer means the whole of it",
    )
    stream_idle_s: float = Field(default=30.0, gt=0, le=3600, description="longest silence within a stream")
    attempts: int = Field(
        default=3, ge=1, le=10, description="of each model before the first byte: the first call and its retries"
    )
    breakers: Literal["on", "off"] = Field(
        "on", description="an upstream that keeps failing is left alone for some seconds"
    )
    backoff_s: float = Field(
        default=0.1, ge=0, le=60, description="before the first retry, doubled for each further one"
    )
    max_backoff_s: float = Field(default=2.0, ge=0, le=60, description="longest pause before a retry")
    keepalive_s: float = Field(default=30.0, ge=0, le=3600, description="for which idle connections are kept")
    warm_connections: int = Field(
        default=2, ge=0, le=100, description="to each upstream, opened at the start and kept open while nobody calls"
    )
    max_body_bytes: int = Field(
        default=4 * 1024 * 1024,
        ge=1,
        validation_alias=AliasChoices("CLOUD_MAX_BODY_BYTES", "MAX_BODY_BYTES"),
        description="largest request",
    )
    body_timeout_s: float = Field(default=30.0, gt=0, le=3600, description="for a request's body to arrive")
    notice_s: float = Field(
        default=0.0, ge=0, le=600, description="at the end: `/ready` says no for so long while calls are still taken"
    )
    drain_s: float = Field(default=30.0, ge=0, le=3600, description="then open calls get so long")

    @field_validator("upstream_key")
    @classmethod
    def _header_safe(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        key = value.get_secret_value().strip()
        if not all("!" <= char <= "~" for char in key):
            raise ValueError("must be visible ASCII without spaces")
        return SecretStr(key) if key else None

    @field_validator("fallback_keys")
    @classmethod
    def _usable_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        parse_keys(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _someone_may_call(self) -> "Settings":
        if self.fallback_auth == "keys" and self.fallback_keys is None:
            raise ValueError(
                "FALLBACK_KEYS: must be set, as at the edge (or FALLBACK_AUTH=open, for a private network)"
            )
        return self

    @property
    def signing_keys(self) -> tuple[Key, ...]:
        """Empty when everyone may call."""
        if self.fallback_auth == "open" or self.fallback_keys is None:
            return ()
        return parse_keys(self.fallback_keys.get_secret_value())


def load_settings() -> Settings:
    """Settings from the environment. Raises ConfigError, naming every variable at fault, never a value."""
    known = {_variable(name) for name in Settings.model_fields}
    ours = (name for name in os.environ if name.startswith(PREFIX) and not name.startswith(FOREIGN_PREFIXES))
    unknown = sorted(set(ours) - known)
    if unknown:
        raise ConfigError(f"{', '.join(unknown)}: no such setting; known are {', '.join(sorted(known))}")
    try:
        return Settings()
    except ValidationError as exc:
        problems = [
            f"{_variable(str(e['loc'][0]))}: {e['msg']}" if e["loc"] else e["msg"].removeprefix("Value error, ")
            for e in exc.errors(include_input=False)
        ]
        raise ConfigError("; ".join(problems)) from None


def _variable(field: str) -> str:
    return field if field.isupper() else PREFIX + field.upper()

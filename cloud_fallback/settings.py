"""Settings, read from the environment once, at the start. Every name is in the README's table."""

import os
from pathlib import Path

import httpx
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from cloud_fallback.errors import ConfigError

PREFIX = "CLOUD_"
# Google Cloud sets these itself in Cloud Run jobs, Cloud Shell and the SDK.
FOREIGN_PREFIXES = ("CLOUD_RUN_", "CLOUD_SHELL", "CLOUD_SDK_")
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Settings(BaseSettings):
    """One field is one variable: `upstream_url` is CLOUD_UPSTREAM_URL."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, populate_by_name=True, str_strip_whitespace=True
    )

    upstream_url: str
    upstream_key: SecretStr | None = None
    region: str = Field(default="local", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    models_file: Path = Path(__file__).with_name("models.toml")
    connect_timeout_s: float = Field(default=5.0, gt=0, le=600)
    # A plain answer has no byte before the whole text is written, so this is also how long one may take.
    first_byte_timeout_s: float = Field(default=120.0, gt=0, le=3600)
    stream_idle_s: float = Field(default=30.0, gt=0, le=3600)
    pool_size: int = Field(default=1000, ge=1, le=100_000)
    keepalive_s: float = Field(default=30.0, ge=0, le=3600)
    # Off: httpcore 1.0 sends no RST_STREAM, so over HTTP/2 the upstream writes on when a caller hangs up.
    http2: bool = False
    max_body_bytes: int = Field(
        default=4 * 1024 * 1024,
        ge=1,
        validation_alias=AliasChoices("CLOUD_MAX_BODY_BYTES", "MAX_BODY_BYTES"),
    )

    @field_validator("upstream_url")
    @classmethod
    def _base_url(cls, value: str) -> str:
        try:
            url = httpx.URL(value)
        except httpx.InvalidURL:
            raise ValueError("must be a URL like https://api.openai.com/v1") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("must be a URL like https://api.openai.com/v1")
        if url.userinfo or url.query or url.fragment:
            raise ValueError("must have no user, query or fragment; the key goes into CLOUD_UPSTREAM_KEY")
        return value.rstrip("/")

    @field_validator("upstream_key")
    @classmethod
    def _header_safe(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        key = value.get_secret_value().strip()
        if not all("!" <= char <= "~" for char in key):
            raise ValueError("must be visible ASCII without spaces")
        return SecretStr(key) if key else None

    @property
    def is_upstream_local(self) -> bool:
        """True on this machine, where no proxy from the environment stands in between."""
        return httpx.URL(self.upstream_url).host in LOOPBACK


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
        problems = [f"{_variable(str(e['loc'][0]))}: {e['msg']}" for e in exc.errors(include_input=False)]
        raise ConfigError("; ".join(problems)) from None


def _variable(field: str) -> str:
    return field if field.isupper() else PREFIX + field.upper()

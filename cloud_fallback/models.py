"""The catalog: which models this service answers for, which upstreams have them, what comes next when those fail."""

import tomllib
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import httpx
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from cloud_fallback.errors import ConfigError, ModelNotFound

Feature = Literal["tools", "json", "vision", "embeddings"]


DEFAULT_UPSTREAM = "default"


def check_base_url(value: str) -> str:
    """Without a slash at its end. Raises ValueError."""
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL:
        raise ValueError("must be a URL like https://api.openai.com/v1") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("must be a URL like https://api.openai.com/v1")
    if url.userinfo or url.query or url.fragment:
        raise ValueError("must have no user, query or fragment; the key goes into a variable of its own")
    return value.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(check_base_url)]


class UpstreamEntry(BaseModel):
    """One `[[upstreams]]` table: an OpenAI-compatible base URL.

    key_variable: the environment variable that holds its key. The upstream `default` needs no table: it is
    CLOUD_UPSTREAM_URL with CLOUD_UPSTREAM_KEY.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    base_url: BaseUrl
    key_variable: str | None = Field(default=None, pattern=r"^[A-Z][A-Z0-9_]{0,63}$")
    # Off: httpcore sends no RST_STREAM, so over HTTP/2 the upstream writes on when a caller hangs up.
    http2: bool = False
    max_concurrency: int = Field(default=2000, ge=1, le=100_000)
    max_queue: int = Field(default=500, ge=0, le=100_000)


class Batching(BaseModel):
    """How single calls for embeddings are joined: up to max_items inputs, or what came within window_ms."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    max_items: int = Field(default=256, ge=1, le=2048)
    window_ms: int = Field(default=5, ge=0, le=1000)
    max_waiting: int = Field(default=4096, ge=1, le=100_000)


class ModelEntry(BaseModel):
    """One `[[models]]` table of the file. Timeouts that are absent are those of the settings.

    upstreams: equals, the quickest healthy one is asked first. fallbacks: ids of models that answer when none does.
    prompt_cache_key: the upstream takes OpenAI's parameter of that name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str = Field(pattern=r"^[A-Za-z0-9._:/@-]*\*?$", min_length=1, max_length=128)
    upstream_id: str | None = Field(default=None, min_length=1, max_length=256)
    tier: Literal["cloud-fast", "cloud-quality"]
    context_window_tokens: int = Field(gt=0)
    input_usd_per_million: float = Field(ge=0, allow_inf_nan=False)
    output_usd_per_million: float = Field(ge=0, allow_inf_nan=False)
    features: list[Feature] = []
    upstreams: list[str] = Field(default=[DEFAULT_UPSTREAM], min_length=1)
    fallbacks: list[str] = []
    first_byte_timeout_s: float | None = Field(default=None, gt=0, le=3600)
    stream_idle_s: float | None = Field(default=None, gt=0, le=3600)
    prompt_cache_key: bool = False
    batching: Batching | None = None
    usd_per_day: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _wildcard_has_no_name(self) -> "ModelEntry":
        if self.is_wildcard and self.upstream_id is not None:
            raise ValueError("a wildcard is passed on as asked and takes no upstream_id")
        return self

    @property
    def is_wildcard(self) -> bool:
        return self.id.endswith("*")


# What is told of a model. The rest says where our upstreams are and what we spend.
_TOLD = {"tier", "context_window_tokens", "input_usd_per_million", "output_usd_per_million", "features"}


@dataclass(frozen=True, slots=True)
class Model:
    """A model somebody asked for: `id` as asked, `upstream_id` as the upstream knows it."""

    id: str
    upstream_id: str
    entry: ModelEntry

    def to_body(self) -> dict[str, Any]:
        """OpenAI's model object, with ours added."""
        return {
            "id": self.id,
            "object": "model",
            "created": 0,
            "owned_by": "nearside-cloud",
            **self.entry.model_dump(include=_TOLD),
        }

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float:
        """Declared price of one answer in US dollars."""
        entry = self.entry
        return (input_tokens * entry.input_usd_per_million + output_tokens * entry.output_usd_per_million) / 1e6


_Entry = TypeVar("_Entry", ModelEntry, UpstreamEntry)


class Catalog:
    """The models of one file. An exact id wins over a wildcard, a longer prefix over a shorter one."""

    def __init__(self, entries: list[ModelEntry], upstreams: list[UpstreamEntry]) -> None:
        self.entries = tuple(entries)
        self.upstreams = {upstream.id: upstream for upstream in upstreams}
        self.needs_default = (
            any(DEFAULT_UPSTREAM in e.upstreams for e in entries) and DEFAULT_UPSTREAM not in self.upstreams
        )
        self._exact = {entry.id: entry for entry in entries if not entry.is_wildcard}
        wildcards = [(entry.id[:-1], entry) for entry in entries if entry.is_wildcard]
        self._wildcards = sorted(wildcards, key=lambda pair: -len(pair[0]))

    def find(self, model_id: str) -> Model:
        """Raises ModelNotFound."""
        entry = self._exact.get(model_id)
        if entry is not None:
            return Model(model_id, entry.upstream_id or model_id, entry)
        for prefix, entry in self._wildcards:
            if model_id.startswith(prefix):
                return Model(model_id, model_id, entry)
        raise ModelNotFound(
            f"The model {model_id[:128]!r} does not exist here; GET /v1/models lists those that do.",
            param="model",
        )

    def chain(self, model: Model, needs: Set[str]) -> list[Model]:
        """The model and those of its fallbacks that have the features `needs`, in order; a fallback's own fallbacks
        are not followed.
        """
        fallbacks = [self.find(model_id) for model_id in model.entry.fallbacks]
        return [model, *(each for each in fallbacks if needs <= set(each.entry.features))]

    def models(self) -> list[Model]:
        """Models with a name of their own, in the file's order; wildcards are not listed."""
        return [self.find(model_id) for model_id in self._exact]


def load_catalog(path: Path) -> Catalog:
    """Raises ConfigError, naming the entry at fault."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path}: {exc}") from None
    models, upstreams = document.pop("models", None), document.pop("upstreams", [])
    if document or not isinstance(models, list) or not models or not isinstance(upstreams, list):
        raise ConfigError(f"{path}: must hold one or more [[models]] tables, [[upstreams]] tables, and nothing else")
    catalog = Catalog(
        _entries(path, "models", models, ModelEntry), _entries(path, "upstreams", upstreams, UpstreamEntry)
    )
    for number, entry in enumerate(catalog.entries, start=1):
        where = f"{path}: models entry {number} ({entry.id!r})"
        for name in entry.upstreams:
            if name != DEFAULT_UPSTREAM and name not in catalog.upstreams:
                raise ConfigError(f"{where}: upstreams: there is no upstream {name!r}")
        for name in entry.fallbacks:
            try:
                catalog.find(name)
            except ModelNotFound:
                raise ConfigError(f"{where}: fallbacks: there is no model {name!r}") from None
    return catalog


def _entries(path: Path, kind: str, tables: list[object], type_: type[_Entry]) -> list[_Entry]:
    entries: list[_Entry] = []
    for number, table in enumerate(tables, start=1):
        try:
            entry = type_.model_validate(table)
        except ValidationError as exc:
            name = table.get("id") if isinstance(table, dict) else table
            problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}".lstrip(": ") for e in exc.errors()]
            raise ConfigError(f"{path}: {kind} entry {number} ({name!r}): {'; '.join(problems)}") from None
        if any(entry.id == earlier.id for earlier in entries):
            raise ConfigError(f"{path}: {kind} entry {number} ({entry.id!r}): this id is there twice")
        entries.append(entry)
    return entries

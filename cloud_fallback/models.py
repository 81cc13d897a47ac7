"""The catalog: which models this service answers for, and what the upstream calls them."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cloud_fallback.errors import ConfigError, ModelNotFound

Feature = Literal["tools", "json", "vision", "embeddings"]


class ModelEntry(BaseModel):
    """One `[[models]]` table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str = Field(pattern=r"^[A-Za-z0-9._:/@-]*\*?$", min_length=1, max_length=128)
    upstream_id: str | None = Field(default=None, min_length=1, max_length=256)
    tier: Literal["cloud-fast", "cloud-quality"]
    context_window_tokens: int = Field(gt=0)
    input_usd_per_million: float = Field(ge=0, allow_inf_nan=False)
    output_usd_per_million: float = Field(ge=0, allow_inf_nan=False)
    features: list[Feature] = []

    @model_validator(mode="after")
    def _wildcard_has_no_name(self) -> "ModelEntry":
        if self.is_wildcard and self.upstream_id is not None:
            raise ValueError("a wildcard is passed on as asked and takes no upstream_id")
        return self

    @property
    def is_wildcard(self) -> bool:
        return self.id.endswith("*")


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
            **self.entry.model_dump(exclude={"id", "upstream_id"}),
        }


class Catalog:
    """The models of one file. An exact id wins over a wildcard, a longer prefix over a shorter one."""

    def __init__(self, entries: list[ModelEntry]) -> None:
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

    def models(self) -> list[Model]:
        """Models with a name of their own, in the file's order; wildcards are not listed."""
        return [self.find(model_id) for model_id in self._exact]


def load_catalog(path: Path) -> Catalog:
    """Raises ConfigError, naming the entry at fault."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path}: {exc}") from None
    tables = document.pop("models", None)
    if document or not isinstance(tables, list) or not tables:
        raise ConfigError(f"{path}: must hold one or more [[models]] tables and nothing else")
    entries = [_entry(path, number, table) for number, table in enumerate(tables, start=1)]
    ids = [entry.id for entry in entries]
    for number, model_id in enumerate(ids, start=1):
        if model_id in ids[: number - 1]:
            raise ConfigError(f"{path}: models entry {number} ({model_id!r}): this id is there twice")
    return Catalog(entries)


def _entry(path: Path, number: int, table: object) -> ModelEntry:
    try:
        return ModelEntry.model_validate(table)
    except ValidationError as exc:
        name = table.get("id") if isinstance(table, dict) else table
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}".lstrip(": ") for e in exc.errors()]
        raise ConfigError(f"{path}: models entry {number} ({name!r}): {'; '.join(problems)}") from None

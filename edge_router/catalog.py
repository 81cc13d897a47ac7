"""The models we may use: side, tier, window, price and what each can do. Data, replaceable by one variable.

Prices and windows of Workers AI: Cloudflare's model and pricing pages, September 2026. Of the cloud
models: OpenAI's price list. Both are declared values, for routing and cost reports, not invoices. The declared times
are round guesses by size, to begin with: nothing was measured on Workers AI or at OpenAI.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import inf
from typing import Any, Literal, get_args

from .caching.policy import MAX_TTL_S

Side = Literal["edge", "cloud"]
Tier = Literal["edge-small", "edge-large", "cloud-fast", "cloud-quality"]
Shape = Literal["native", "openai"]
Feature = Literal["tools", "json", "vision"]

TIERS: tuple[Tier, ...] = get_args(Tier)
SLOWEST_TOKENS_PER_S = 0.1

_TIMES = ("declared_ttft_ms", "declared_tokens_per_s")

_SAFE_ID = re.compile(r"[A-Za-z0-9_@./:-]+")


class CatalogError(ValueError):
    """A catalog that can't be used; the message names the entry and the field."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model. An id that ends in `*` stands for every id with that prefix.

    shape: how a Workers AI model speaks, `native` or `openai`; cloud models are always `openai`.
    thinks: spends output tokens before the answer unless told not to.
    cache_ttl_s: how long its answers are fresh, None: as long as all.
    stand_in: of an edge model, the cloud model that answers instead where Workers AI can't be used at all: there is no
    AI binding, or its free allocation is used up.
    declared_ttft_ms, declared_tokens_per_s: believed until calls were measured; the first without the network.
    """

    id: str
    side: Side
    tier: Tier
    context_window_tokens: int
    input_usd_per_million: float = 0.0
    output_usd_per_million: float = 0.0
    features: tuple[Feature, ...] = ()
    shape: Shape = "openai"
    thinks: bool = False
    cache_ttl_s: int | None = None
    stand_in: str | None = None
    declared_ttft_ms: float = 500.0
    declared_tokens_per_s: float = 50.0

    @property
    def blended_usd_per_million(self) -> float:
        """For comparing two models: tokens in and out counted alike."""
        return self.input_usd_per_million + self.output_usd_per_million

    def declared_total_ms(self, output_tokens: int) -> float:
        return self.declared_ttft_ms + 1000.0 * output_tokens / self.declared_tokens_per_s

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float:
        """Declared price of one answer in US dollars."""
        spent = input_tokens * self.input_usd_per_million + output_tokens * self.output_usd_per_million
        return spent / 1e6


DEFAULT_MODELS = (
    Model(
        "@cf/ibm-granite/granite-4.0-h-micro", "edge", "edge-small", 131_000, 0.017, 0.112, shape="native",
        declared_ttft_ms=300, declared_tokens_per_s=100,
    ),
    Model(
        "@cf/meta/llama-3.2-3b-instruct", "edge", "edge-small", 80_000, 0.051, 0.335, shape="native",
        declared_ttft_ms=300, declared_tokens_per_s=100,
    ),
    Model(
        "@cf/zai-org/glm-4.7-flash", "edge", "edge-large", 131_072, 0.06, 0.40, ("tools", "json"), thinks=True,
        declared_ttft_ms=500, declared_tokens_per_s=60,
    ),
    Model(
        "@cf/qwen/qwen3-30b-a3b-fp8", "edge", "edge-large", 32_768, 0.051, 0.335, ("tools", "json"), thinks=True,
        declared_ttft_ms=500, declared_tokens_per_s=60,
    ),
    Model(
        "gpt-4o-mini", "cloud", "cloud-fast", 128_000, 0.15, 0.60, ("tools", "json", "vision"),
        declared_ttft_ms=500, declared_tokens_per_s=80,
    ),
    Model(
        "gpt-4o", "cloud", "cloud-quality", 128_000, 2.50, 10.00, ("tools", "json", "vision"),
        declared_ttft_ms=700, declared_tokens_per_s=60,
    ),
)  # fmt: skip


class Catalog:
    """The models in order of preference within a tier, with look-up by id."""

    def __init__(self, models: Sequence[Model]) -> None:
        self.models = tuple(models)
        self._by_id = {model.id: model for model in models}
        self._wildcards = [model for model in models if model.id.endswith("*")]
        self._by_tier = {
            tier: tuple(model for model in models if model.tier == tier and not model.id.endswith("*"))
            for tier in TIERS
        }

    def find(self, model_id: str) -> Model | None:
        """The entry for an id, a wildcard's filled in with the id asked for."""
        found = self._by_id.get(model_id)
        if found is not None and found not in self._wildcards:
            return found
        if not _SAFE_ID.fullmatch(model_id):  # it becomes a header
            return None
        for model in self._wildcards:
            if model_id.startswith(model.id[:-1]):
                return Model(**{**asdict(model), "id": model_id})
        return None

    def in_tier(self, tier: Tier) -> Sequence[Model]:
        """Models that the router may choose by itself: a wildcard is only ever pinned."""
        return self._by_tier[tier]

    @cached_property
    def version(self) -> str:
        """Changes with any entry, so that cached answers of another catalog are not served."""
        text = json.dumps([asdict(model) for model in self.models])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def parse_catalog(entries: object) -> Catalog:
    """A catalog from a list of objects with Model's fields; raises CatalogError."""
    if not isinstance(entries, list) or not entries:
        raise CatalogError("the catalog must be a JSON list with at least one model")
    models = [_parse_model(entry, position) for position, entry in enumerate(entries)]
    ids = [model.id for model in models]
    for model_id in ids:
        if ids.count(model_id) > 1:
            raise CatalogError(f"{model_id} is in the catalog twice")
    catalog = Catalog(models)
    for model in models:
        _check_stand_in(model, catalog)
    return catalog


def _parse_model(entry: object, position: int) -> Model:
    if not isinstance(entry, dict):
        raise CatalogError(f"entry {position} of the catalog must be an object")
    name = entry.get("id", f"entry {position}")
    features = entry.get("features", [])
    if not isinstance(features, list | tuple) or not all(isinstance(feature, str) for feature in features):
        raise CatalogError(f"{name}: features must be a list of strings")
    try:
        model = Model(**{**entry, "features": tuple(features)})
    except TypeError as exc:
        raise CatalogError(f"{name}: {exc}") from exc
    _check(model, name)
    return model


def _check(model: Model, name: Any) -> None:
    allowed: dict[str, tuple[Any, ...]] = {"side": get_args(Side), "tier": TIERS, "shape": get_args(Shape)}
    for field, values in allowed.items():
        if getattr(model, field) not in values:
            raise CatalogError(f"{name}: {field} must be one of {', '.join(values)}")
    if not isinstance(model.id, str) or not model.id:
        raise CatalogError(f"{name}: id must be a non-empty string")
    if not model.tier.startswith(model.side):
        raise CatalogError(f"{name}: a model of the side {model.side} can't be in the tier {model.tier}")
    for field in ("context_window_tokens", "input_usd_per_million", "output_usd_per_million", *_TIMES):
        value = getattr(model, field)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < inf:
            raise CatalogError(f"{name}: {field} must be a number that is not negative")
    ttl_s = model.cache_ttl_s
    if ttl_s is not None and (isinstance(ttl_s, bool) or not isinstance(ttl_s, int) or not 1 <= ttl_s <= MAX_TTL_S):
        raise CatalogError(f"{name}: cache_ttl_s must be 1 to {MAX_TTL_S} seconds")
    if model.declared_tokens_per_s < SLOWEST_TOKENS_PER_S:
        raise CatalogError(f"{name}: declared_tokens_per_s must be at least {SLOWEST_TOKENS_PER_S:g}")
    if not isinstance(model.thinks, bool):
        raise CatalogError(f"{name}: thinks must be true or false")
    unknown = set(model.features) - set(get_args(Feature))
    if unknown:
        raise CatalogError(f"{name}: unknown feature {', '.join(sorted(map(str, unknown)))}")


def _check_stand_in(model: Model, catalog: Catalog) -> None:
    if model.stand_in is None:
        return
    found = catalog.find(model.stand_in) if isinstance(model.stand_in, str) else None
    if model.side != "edge" or found is None or found.side != "cloud":
        raise CatalogError(f"{model.id}: stand_in must be the id of a cloud model in this catalog, on an edge model")

"""Every variable of the Worker: name, default, unit, effect. A wrong one stops the start with one line."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from .caching.policy import MAX_TTL_S, Lifetimes, Normalisation
from .catalog import DEFAULT_MODELS, Catalog, CatalogError, parse_catalog
from .signing import Key, parse_keys

DEFAULT_EDGE_SHARE = 0.6  # what that costs: docs/router.md, "From a share or a floor to thresholds"


class SettingsError(ValueError):
    """A variable that can't be used; the message names it."""


@dataclass(frozen=True, slots=True)
class Region:
    """One place where cloud_fallback runs. residency: the legal area it lies in, as `eu`. weight: its share of the
    calls among regions that are as near.
    """

    id: str
    url: str
    latitude: float | None = None
    longitude: float | None = None
    residency: str | None = None
    weight: float = 1.0


def _from_json(value: object) -> object:
    """Variables are text in `.dev.vars` and secrets, and JSON values in wrangler.toml: both are taken."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError as exc:
            raise ValueError("is not valid JSON") from exc
    return value


def _keys(value: object) -> object:
    return parse_keys(value) if isinstance(value, str) and value else ()


class _Region(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
    url: Annotated[str, Field(pattern=r"^https?://[^\s/]+$")]
    latitude: Annotated[float, Field(ge=-90, le=90)] | None = None
    longitude: Annotated[float, Field(ge=-180, le=180)] | None = None
    residency: Annotated[str, Field(pattern=r"^[a-z]{2,16}$")] | None = None
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0


class _Variables(BaseModel):
    """The variables by their names in wrangler.toml; the field's description is its documentation."""

    model_config = ConfigDict(extra="ignore")

    auth: Literal["keys", "open"] = Field("keys", validation_alias="AUTH")
    rate_limit: Literal["on", "off"] = Field("on", validation_alias="RATE_LIMIT")
    single_flight: Literal["off", "cloud", "all"] = Field("cloud", validation_alias="SINGLE_FLIGHT")
    flight_wait_ms: Annotated[int, Field(ge=10, le=10_000)] = Field(200, validation_alias="FLIGHT_WAIT_MS")
    feedback: Literal["on", "off"] = Field("on", validation_alias="FEEDBACK")
    threshold_offset: Literal["on", "off"] = Field("off", validation_alias="THRESHOLD_OFFSET")
    cascade: Literal["off", "on", "race"] = Field("on", validation_alias="CASCADE")
    cascade_hold_ms: Annotated[int, Field(ge=0, le=10_000)] = Field(500, validation_alias="CASCADE_HOLD_MS")
    semantic_cache: Literal["on", "off"] = Field("off", validation_alias="SEMANTIC_CACHE")
    hedging: Literal["on", "off"] = Field("on", validation_alias="HEDGING")
    breakers: Literal["on", "off"] = Field("on", validation_alias="BREAKERS")
    semantic_timeout_s: Annotated[float, Field(ge=0.05, le=5)] = Field(0.19, validation_alias="SEMANTIC_TIMEOUT_S")
    cloud_regions: Annotated[list[_Region], BeforeValidator(_from_json)] = Field([], validation_alias="CLOUD_REGIONS")
    catalog: Annotated[Any, BeforeValidator(_from_json)] = Field(None, validation_alias="CATALOG")
    cache_ttl_s: Annotated[int, Field(ge=1, le=MAX_TTL_S)] = Field(86_400, validation_alias="CACHE_TTL_S")
    cache_swr_s: Annotated[int, Field(ge=0, le=MAX_TTL_S)] = Field(3600, validation_alias="CACHE_SWR_S")
    cache_stale_if_error_s: Annotated[int, Field(ge=0, le=MAX_TTL_S)] = Field(
        86_400, validation_alias="CACHE_STALE_IF_ERROR_S"
    )
    cache_normalisation: Normalisation = Field("strict", validation_alias="CACHE_NORMALISATION")
    memory_cache_mib: Annotated[int, Field(ge=0, le=64)] = Field(8, validation_alias="MEMORY_CACHE_MIB")
    fallback_keys: Annotated[tuple[Key, ...], BeforeValidator(_keys)] = Field((), validation_alias="FALLBACK_KEYS")
    edge_timeout_s: Annotated[float, Field(gt=0, le=600)] = Field(20, validation_alias="EDGE_TIMEOUT_S")
    edge_recheck_s: Annotated[float, Field(gt=0, le=86_400)] = Field(600, validation_alias="EDGE_RECHECK_S")
    cloud_timeout_s: Annotated[float, Field(gt=0, le=600)] = Field(60, validation_alias="CLOUD_TIMEOUT_S")
    answer_timeout_s: Annotated[float, Field(gt=0, le=600)] = Field(120, validation_alias="ANSWER_TIMEOUT_S")
    stream_idle_s: Annotated[float, Field(gt=0, le=600)] = Field(30, validation_alias="STREAM_IDLE_S")
    heartbeat_s: Annotated[float, Field(gt=0, le=600)] = Field(5, validation_alias="HEARTBEAT_S")
    min_tokens_per_s: Annotated[float, Field(ge=0, le=1000)] = Field(1, validation_alias="MIN_TOKENS_PER_S")
    slow_grace_s: Annotated[float, Field(gt=0, le=600)] = Field(15, validation_alias="SLOW_GRACE_S")
    edge_share: Annotated[float, Field(ge=0, le=1)] | None = Field(None, validation_alias="EDGE_SHARE")
    quality_floor: Annotated[float, Field(ge=0, le=1)] | None = Field(None, validation_alias="QUALITY_FLOOR")


VARIABLES = tuple(str(field.validation_alias) for field in _Variables.model_fields.values())


@dataclass(frozen=True, slots=True)
class Settings:
    """What the gateway is configured to do.

    flight_wait_s: for the object of a single flight to say that it listens.
    lifetimes: of stored answers. cache_normalisation: which requests count as the same.
    memory_cache_bytes: what an isolate may keep of answers itself.
    fallback_keys: the first one signs the calls to the cloud; none: they go unsigned.
    edge_recheck_s: how long Workers AI is left alone once its free allocation is used up, midnight (UTC) at the latest.
    edge_timeout_s, cloud_timeout_s: from one call to its first token. answer_timeout_s: from the first call of all that
    one request makes. stream_idle_s: the longest silence within a
    stream. heartbeat_s: silence after which a comment is sent, so that proxies keep the connection.
    min_tokens_per_s: a stream that is slower on average, measured from slow_grace_s after its first token on, counts
    as failed; 0 turns that off. edge_share, quality_floor: what the router's thresholds follow from; one of them is
    None.
    """

    auth: Literal["keys", "open"]
    rate_limit: Literal["on", "off"]
    single_flight: Literal["off", "cloud", "all"]
    flight_wait_s: float
    feedback: Literal["on", "off"]
    threshold_offset: Literal["on", "off"]
    cascade: Literal["off", "on", "race"]
    cascade_hold_s: float
    semantic_cache: Literal["on", "off"]
    hedging: Literal["on", "off"]
    breakers: Literal["on", "off"]
    semantic_timeout_s: float
    regions: tuple[Region, ...]
    catalog: Catalog
    lifetimes: Lifetimes
    cache_normalisation: Normalisation
    memory_cache_bytes: int
    fallback_keys: tuple[Key, ...]
    edge_timeout_s: float
    edge_recheck_s: float
    cloud_timeout_s: float
    answer_timeout_s: float
    stream_idle_s: float
    heartbeat_s: float
    min_tokens_per_s: float
    slow_grace_s: float
    edge_share: float | None
    quality_floor: float | None


def read_settings(variables: Mapping[str, Any]) -> Settings:
    """Raises SettingsError that names the first wrong variable."""
    try:
        read = _Variables.model_validate(dict(variables))
        catalog = Catalog(DEFAULT_MODELS) if read.catalog is None else parse_catalog(read.catalog)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise SettingsError(f"{where}: {first['msg']}") from None
    except CatalogError as exc:
        raise SettingsError(f"CATALOG: {exc}") from None
    ids = [region.id for region in read.cloud_regions]
    for region_id in ids:
        if ids.count(region_id) > 1:
            raise SettingsError(f"CLOUD_REGIONS: {region_id} is there twice")
    if read.edge_share is not None and read.quality_floor is not None:
        raise SettingsError("QUALITY_FLOOR: EDGE_SHARE is set as well, and each of them decides alone; remove one")
    edge_share = DEFAULT_EDGE_SHARE if read.edge_share is None and read.quality_floor is None else read.edge_share
    return Settings(
        auth=read.auth,
        rate_limit=read.rate_limit,
        single_flight=read.single_flight,
        flight_wait_s=read.flight_wait_ms / 1000,
        feedback=read.feedback,
        threshold_offset=read.threshold_offset,
        cascade=read.cascade,
        cascade_hold_s=read.cascade_hold_ms / 1000,
        semantic_cache=read.semantic_cache,
        hedging=read.hedging,
        breakers=read.breakers,
        semantic_timeout_s=read.semantic_timeout_s,
        regions=tuple(Region(**region.model_dump()) for region in read.cloud_regions),
        catalog=catalog,
        lifetimes=Lifetimes(read.cache_ttl_s, read.cache_swr_s, read.cache_stale_if_error_s),
        cache_normalisation=read.cache_normalisation,
        memory_cache_bytes=read.memory_cache_mib * 1024 * 1024,
        fallback_keys=read.fallback_keys,
        edge_timeout_s=read.edge_timeout_s,
        edge_recheck_s=read.edge_recheck_s,
        cloud_timeout_s=read.cloud_timeout_s,
        answer_timeout_s=read.answer_timeout_s,
        stream_idle_s=read.stream_idle_s,
        heartbeat_s=read.heartbeat_s,
        min_tokens_per_s=read.min_tokens_per_s,
        slow_grace_s=read.slow_grace_s,
        edge_share=edge_share,
        quality_floor=read.quality_floor,
    )

"""Every variable of the Worker: name, default, unit, effect. A wrong one stops the start with one line."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from .alerts.rules import Rule, RulesError, parse_rules
from .alerts.webhook import parse_secret
from .caching.policy import MAX_TTL_S, Lifetimes, Normalisation
from .catalog import DEFAULT_MODELS, Catalog, CatalogError, parse_catalog
from .signing import Key, parse_keys

_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")
# What is told to a receiver goes encrypted, or stays on this machine.
_RECEIVER = re.compile(r"(https://[^\s/?#@]+(/[^\s#]*)?|http://(127\.0\.0\.1|localhost)(:\d+)?(/[^\s#]*)?)?")
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


@dataclass(frozen=True, slots=True)
class BatchUpstream:
    """A provider that takes whole batches by OpenAI's `/files` and `/batches` (docs/batches.md). url: with its `/v1`.

    models: ids of the catalog, which must be its own names. price_factor: of its batches, against the catalog's prices.
    """

    id: str
    url: str
    models: frozenset[str]
    price_factor: float
    key: str = field(repr=False)


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


def _origins(value: object) -> object:
    if not isinstance(value, str) or not value.strip():
        return frozenset() if isinstance(value, str) else value
    from .cors import read_origins

    return read_origins(value)


def _receiver(value: str) -> str:
    if not _RECEIVER.fullmatch(value):
        raise ValueError("must be an https URL without user and fragment")
    return value


def _headers(value: object) -> object:
    """`name=value,name=value`, percent-encoded, as OpenTelemetry writes headers."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    headers = {name.strip().lower(): unquote(text.strip()) for name, _, text in pairs}
    if not all(_HEADER.fullmatch(name) and text.isprintable() and text for name, text in headers.items()):
        raise ValueError("must be name=value,name=value")
    return headers


def _webhook_secret(value: object) -> object:
    return parse_secret(value) if isinstance(value, str) and value else b""


class _Region(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
    url: Annotated[str, Field(pattern=r"^https?://[^\s/]+$")]
    latitude: Annotated[float, Field(ge=-90, le=90)] | None = None
    longitude: Annotated[float, Field(ge=-180, le=180)] | None = None
    residency: Annotated[str, Field(pattern=r"^[a-z]{2,16}$")] | None = None
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0


class _BatchUpstream(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
    url: Annotated[
        str, Field(pattern=r"^(https://[^\s/?#@]+|http://(127\.0\.0\.1|localhost)(:\d+)?)(/[^\s?#]*[^\s?#/])?$")
    ]
    models: Annotated[frozenset[str], Field(min_length=1)]
    price_factor: Annotated[float, Field(ge=0, le=1)] = 1.0


def _variable(name: str, default: Any, effect: str, *, is_secret: bool = False) -> Any:
    """name: in wrangler.toml. effect: its line in docs/configuration.md."""
    return Field(default, validation_alias=name, description=effect, json_schema_extra={"secret": is_secret})


class Variables(BaseModel):
    """The variables by their names in wrangler.toml. docs/configuration.md is made from this: scripts/docs."""

    model_config = ConfigDict(extra="ignore")

    auth: Literal["keys", "open"] = _variable(
        "AUTH", "keys", "who may call: holders of a key (docs/keys.md), or everyone, which every answer then says"
    )
    rate_limit: Literal["on", "off"] = _variable(
        "RATE_LIMIT", "on", "asks the binding `RATE_LIMITER` before every request; its limit is in wrangler.toml"
    )
    cors_origins: Annotated[frozenset[str], BeforeValidator(_origins)] = _variable(
        "CORS_ORIGINS",
        frozenset(),
        "origins of web pages that may ask from a browser, separated by commas, or `*` (docs/pages.md)",
    )
    single_flight: Literal["off", "cloud", "all"] = _variable(
        "SINGLE_FLIGHT",
        "cloud",
        "equal questions that arrive together share one call, if their answer may be cached: calls of the cloud, "
        "those of Workers AI as well, or none (docs/single-flight.md)",
    )
    flight_wait_ms: Annotated[int, Field(ge=10, le=10_000)] = _variable(
        "FLIGHT_WAIT_MS", 200, "for the shared object to say that it listens; then a caller goes alone"
    )
    feedback: Literal["on", "off"] = _variable(
        "FEEDBACK", "on", "answers can be rated: their score and hashed words are kept (docs/feedback.md)"
    )
    threshold_offset: Literal["on", "off"] = _variable(
        "THRESHOLD_OFFSET", "off", "a tenant's own ratings and escalations move the router's thresholds, by at most 0.1"
    )
    cascade: Literal["off", "on", "race"] = _variable(
        "CASCADE",
        "on",
        "between the router's thresholds the edge model answers first, and the cloud when that answer is no good; "
        "`race`: near the upper threshold both are asked at once (docs/cascade.md)",
    )
    cascade_hold_ms: Annotated[int, Field(ge=0, le=10_000)] = _variable(
        "CASCADE_HOLD_MS", 500, "the beginning of such a stream may be held back for so long, so that it can be checked"
    )
    semantic_cache: Literal["on", "off"] = _variable(
        "SEMANTIC_CACHE",
        "off",
        "near questions share answers, where key record and request say nothing (docs/semantic-cache.md)",
    )
    semantic_timeout_s: Annotated[float, Field(ge=0.05, le=5)] = _variable(
        "SEMANTIC_TIMEOUT_S", 0.19, "that such a look-up may take; four fifths of it for the embedder"
    )
    hedging: Literal["on", "off"] = _variable(
        "HEDGING", "on", "a late call to the cloud is doubled in the next region, for at most 5 % more calls"
    )
    breakers: Literal["on", "off"] = _variable(
        "BREAKERS", "on", "a region that keeps failing is left alone for some seconds"
    )
    cloud_regions: Annotated[list[_Region], BeforeValidator(_from_json)] = _variable(
        "CLOUD_REGIONS", [], "where cloud_fallback runs, nearest first by measured round trip (docs/regions.md)"
    )
    fallback_keys: Annotated[tuple[Key, ...], BeforeValidator(_keys)] = _variable(
        "FALLBACK_KEYS",
        (),
        "`id:hex,id:hex`: the first one signs the calls to the cloud; the same there",
        is_secret=True,
    )
    catalog: Annotated[Any, BeforeValidator(_from_json)] = _variable(
        "CATALOG", None, "list of models that replaces the built-in one, `edge_router/catalog.py`"
    )
    edge_share: Annotated[float, Field(ge=0, le=1)] | None = _variable(
        "EDGE_SHARE",
        None,
        "share of the traffic that is to stay at the edge; 0.6 when neither this nor QUALITY_FLOOR is set "
        "(docs/routing.md)",
    )
    quality_floor: Annotated[float, Field(ge=0, le=1)] | None = _variable(
        "QUALITY_FLOOR", None, "instead: share of the quality gap between weak and strong model to be recovered"
    )
    cache_ttl_s: Annotated[int, Field(ge=1, le=MAX_TTL_S)] = _variable(
        "CACHE_TTL_S",
        86_400,
        "how long a stored answer is fresh, ±10 %; requests, key records and models may say otherwise (docs/caches.md)",
    )
    cache_swr_s: Annotated[int, Field(ge=0, le=MAX_TTL_S)] = _variable(
        "CACHE_SWR_S", 3600, "how long after that it is served at once, while one caller refreshes it"
    )
    cache_stale_if_error_s: Annotated[int, Field(ge=0, le=MAX_TTL_S)] = _variable(
        "CACHE_STALE_IF_ERROR_S", 86_400, "how long after its lifetime it is served when every model fails"
    )
    cache_timeout_s: Annotated[float, Field(ge=0.05, le=5)] = _variable(
        "CACHE_TIMEOUT_S", 0.19, "that a look-up of a stored answer may take; four fifths of it for each read of KV"
    )
    cache_normalisation: Normalisation = _variable(
        "CACHE_NORMALISATION", "strict", "`relaxed`: case and white space of users' own words do not matter"
    )
    memory_cache_mib: Annotated[int, Field(ge=0, le=64)] = _variable(
        "MEMORY_CACHE_MIB", 8, "of answers that each isolate keeps itself, for at most 60 s; 0: none"
    )
    cache_encryption_keys: Annotated[tuple[Key, ...], BeforeValidator(_keys)] = _variable(
        "CACHE_ENCRYPTION_KEYS",
        (),
        "`id:hex,id:hex`: stored answers are encrypted under the first and read under all of them (docs/caches.md)",
        is_secret=True,
    )
    keys_timeout_s: Annotated[float, Field(gt=0, le=60)] = _variable(
        "KEYS_TIMEOUT_S", 2, "for the record of a key to be read; without it nobody is let in (docs/keys.md)"
    )
    limits_timeout_s: Annotated[float, Field(gt=0, le=60)] = _variable(
        "LIMITS_TIMEOUT_S", 2, "for one call of a tenant's strict limits (docs/keys.md)"
    )
    ledger_timeout_s: Annotated[float, Field(gt=0, le=60)] = _variable(
        "LEDGER_TIMEOUT_S", 2, "for one call of a tenant's ledger, which is tried twice (docs/budgets.md)"
    )
    edge_timeout_s: Annotated[float, Field(gt=0, le=600)] = _variable(
        "EDGE_TIMEOUT_S", 20, "from the call of an edge model to its first content"
    )
    edge_recheck_s: Annotated[float, Field(gt=0, le=86_400)] = _variable(
        "EDGE_RECHECK_S", 600, "for which Workers AI is left alone once its free allocation is used up"
    )
    cloud_timeout_s: Annotated[float, Field(gt=0, le=600)] = _variable(
        "CLOUD_TIMEOUT_S", 60, "from a call to a region to its first content"
    )
    answer_timeout_s: Annotated[float, Field(gt=0, le=600)] = _variable(
        "ANSWER_TIMEOUT_S", 120, "the same over all attempts of one request"
    )
    stream_idle_s: Annotated[float, Field(gt=0, le=600)] = _variable(
        "STREAM_IDLE_S", 30, "longest silence within a stream"
    )
    heartbeat_s: Annotated[float, Field(gt=0, le=600)] = _variable(
        "HEARTBEAT_S", 5, "silence after which `: keep-alive` is sent"
    )
    min_tokens_per_s: Annotated[float, Field(ge=0, le=1000)] = _variable(
        "MIN_TOKENS_PER_S", 1, "a slower stream counts as failed; 0 turns that off"
    )
    slow_grace_s: Annotated[float, Field(gt=0, le=600)] = _variable(
        "SLOW_GRACE_S", 15, "after a stream's first content, before its speed is judged"
    )
    batch_retry_s: Annotated[float, Field(ge=0, le=3600)] = _variable(
        "BATCH_RETRY_S",
        2,
        "before a batch's line that failed is tried again, and four times as long before each further attempt, five in "
        "all (docs/batches.md)",
    )
    batch_lease_s: Annotated[float, Field(ge=1, le=86_400)] = _variable(
        "BATCH_LEASE_S",
        1200,
        "for a part of a batch to be worked on, before it is given out again; more than a delivery's 15 minutes",
    )
    batch_upstreams: Annotated[list[_BatchUpstream], BeforeValidator(_from_json)] = _variable(
        "BATCH_UPSTREAMS",
        [],
        "providers with OpenAI's batch API, to which a batch for one of their `models` goes whole (docs/batches.md)",
    )
    batch_upstream_keys: Annotated[Mapping[str, str], BeforeValidator(_headers)] = _variable(
        "BATCH_UPSTREAM_KEYS", {}, "`id=key,id=key`: the API key of each of them", is_secret=True
    )
    batch_poll_s: Annotated[float, Field(ge=0.1, le=3600)] = _variable(
        "BATCH_POLL_S", 60, "between two questions to such a provider how far a batch is"
    )
    prewarm: Literal["on", "off"] = _variable(
        "PREWARM",
        "off",
        "a cron refreshes the hottest answers before they are stale; it keeps their questions (docs/prewarming.md)",
    )
    telemetry: Literal["on", "off"] = _variable(
        "TELEMETRY", "on", "metrics, Analytics Engine points and spans are recorded (docs/telemetry.md)"
    )
    otlp_endpoint: Annotated[str, AfterValidator(_receiver)] = _variable(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "",
        "of a collector of traces, without `/v1/traces`; empty: none (docs/telemetry.md)",
    )
    otlp_headers: Annotated[Mapping[str, str], BeforeValidator(_headers)] = _variable(
        "OTEL_EXPORTER_OTLP_HEADERS", {}, "`name=value,name=value`: sent to the collector, as its key", is_secret=True
    )
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = _variable(
        "OTEL_TRACES_SAMPLER_ARG", 0.1, "share of the requests without a caller's trace whose spans are exported"
    )
    alert_rules: Annotated[Any, BeforeValidator(_from_json)] = _variable(
        "ALERT_RULES",
        None,
        "what calls for an alert, where it is not as in docs/alerts.md: `{id: {field: value}}`",
    )
    alert_webhook_url: Annotated[str, AfterValidator(_receiver)] = _variable(
        "ALERT_WEBHOOK_URL", "", "where notices of alerts are posted, https; empty: nowhere (docs/alerts.md)"
    )
    alert_webhook_secret: Annotated[bytes, BeforeValidator(_webhook_secret)] = _variable(
        "ALERT_WEBHOOK_SECRET", b"", "`whsec_` and base64: notices are signed with it", is_secret=True
    )


VARIABLES = tuple(str(field.validation_alias) for field in Variables.model_fields.values())


@dataclass(frozen=True, slots=True)
class Settings:
    """What the gateway is configured to do.

    cors_origins: of web pages that may ask; `*` alone: of all. Empty: no page but our own.
    flight_wait_s: for the object of a single flight to say that it listens.
    lifetimes: of stored answers. cache_timeout_s: of a look-up of one. cache_normalisation: which requests count as the
    same.
    memory_cache_bytes: what an isolate may keep of answers itself.
    cache_encryption_keys: the first one encrypts stored answers, all of them decrypt; none: they stay as they are.
    fallback_keys: the first one signs the calls to the cloud; none: they go unsigned.
    edge_recheck_s: how long Workers AI is left alone once its free allocation is used up, midnight (UTC) at the latest.
    edge_timeout_s, cloud_timeout_s: from one call to its first token. answer_timeout_s: from the first call of all that
    one request makes. stream_idle_s: the longest silence within a
    stream. heartbeat_s: silence after which a comment is sent, so that proxies keep the connection.
    min_tokens_per_s: a stream that is slower on average, measured from slow_grace_s after its first token on, counts
    as failed; 0 turns that off. batch_retry_s: before the second attempt of a batch's line. edge_share, quality_floor:
    what the router's thresholds follow from; one of them is None. alert_webhook_url: empty when nobody is told.
    """

    auth: Literal["keys", "open"]
    rate_limit: Literal["on", "off"]
    cors_origins: frozenset[str]
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
    cache_timeout_s: float
    cache_normalisation: Normalisation
    memory_cache_bytes: int
    cache_encryption_keys: tuple[Key, ...]
    fallback_keys: tuple[Key, ...]
    keys_timeout_s: float
    limits_timeout_s: float
    ledger_timeout_s: float
    edge_timeout_s: float
    edge_recheck_s: float
    cloud_timeout_s: float
    answer_timeout_s: float
    stream_idle_s: float
    heartbeat_s: float
    min_tokens_per_s: float
    slow_grace_s: float
    batch_retry_s: float
    batch_upstreams: tuple[BatchUpstream, ...]
    batch_poll_s: float
    edge_share: float | None
    quality_floor: float | None
    prewarm: Literal["on", "off"]
    telemetry: Literal["on", "off"]
    otlp_endpoint: str
    otlp_headers: Mapping[str, str] = field(repr=False)
    trace_ratio: float
    alert_rules: tuple[Rule, ...]
    alert_webhook_url: str
    alert_webhook_secret: bytes = field(repr=False)


def read_settings(variables: Mapping[str, Any]) -> Settings:
    """variables: by name, bindings left out. Raises SettingsError that names the first unknown or wrong one."""
    for name in variables:
        if name not in VARIABLES:
            raise SettingsError(f"{name}: no such variable{_suggestion(name)}; docs/configuration.md lists them")
    try:
        read = Variables.model_validate(dict(variables))
        catalog = Catalog(DEFAULT_MODELS) if read.catalog is None else parse_catalog(read.catalog)
        alert_rules = parse_rules(read.alert_rules)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise SettingsError(f"{where}: {first['msg']}") from None
    except CatalogError as exc:
        raise SettingsError(f"CATALOG: {exc}") from None
    except RulesError as exc:
        raise SettingsError(f"ALERT_RULES: {exc}") from None
    _check_together(read)
    as_read = {name: getattr(read, name) for name in Settings.__dataclass_fields__.keys() & Variables.model_fields}
    changed = {
        "flight_wait_s": read.flight_wait_ms / 1000,
        "cascade_hold_s": read.cascade_hold_ms / 1000,
        "regions": tuple(Region(**region.model_dump()) for region in read.cloud_regions),
        "catalog": catalog,
        "lifetimes": Lifetimes(read.cache_ttl_s, read.cache_swr_s, read.cache_stale_if_error_s),
        "memory_cache_bytes": read.memory_cache_mib * 1024 * 1024,
        "alert_rules": alert_rules,
        "batch_upstreams": _batch_upstreams(read, catalog),
    }
    if read.edge_share is None and read.quality_floor is None:
        changed["edge_share"] = DEFAULT_EDGE_SHARE
    return Settings(**as_read | changed)


def _check_together(read: Variables) -> None:
    """Raises SettingsError for variables that are right alone and wrong together."""
    ids = [region.id for region in read.cloud_regions]
    for region_id in ids:
        if ids.count(region_id) > 1:
            raise SettingsError(f"CLOUD_REGIONS: {region_id} is there twice")
    if read.alert_webhook_url and not read.alert_webhook_secret:
        raise SettingsError("ALERT_WEBHOOK_SECRET: is missing, and what is sent to ALERT_WEBHOOK_URL must be signed")
    if read.edge_share is not None and read.quality_floor is not None:
        raise SettingsError("QUALITY_FLOOR: EDGE_SHARE is set as well, and each of them decides alone; remove one")


def _batch_upstreams(read: Variables, catalog: Catalog) -> tuple[BatchUpstream, ...]:
    """With their keys. Raises SettingsError."""
    found: list[BatchUpstream] = []
    for upstream in read.batch_upstreams:
        for model_id in upstream.models:
            model = catalog.find(model_id)
            if model is None or model.side != "cloud" or model_id.endswith("*"):
                raise SettingsError(f"BATCH_UPSTREAMS: {model_id} is no cloud model of the catalog")
            if any(model_id in other.models for other in found):
                raise SettingsError(f"BATCH_UPSTREAMS: two upstreams have {model_id}")
        if upstream.id not in read.batch_upstream_keys:
            raise SettingsError(f"BATCH_UPSTREAM_KEYS: there is none for {upstream.id}")
        if any(upstream.id == other.id for other in found):
            raise SettingsError(f"BATCH_UPSTREAMS: {upstream.id} is there twice")
        found.append(BatchUpstream(**upstream.model_dump(), key=read.batch_upstream_keys[upstream.id]))
    return tuple(found)


def _suggestion(name: str) -> str:
    from difflib import get_close_matches  # not needed where all is well

    near = get_close_matches(name.upper(), VARIABLES, n=1, cutoff=0.75)
    return f", did you mean {near[0]}" if near else ""

"""Everything the model assumes, with where each number comes from. A TOML file changes any of it.

Each field's source is in its metadata, which docs/simulation.md prints: nothing is assumed that is not on that page.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

from edge_router import memory_cache, regions
from edge_router.catalog import DEFAULT_MODELS, Model
from edge_router.settings import Region, read_settings

_SETTINGS: Final = read_settings({})
GUESS: Final = "a guess: nothing was measured on a live account"

Strategy = Literal[
    "exact", "semantic", "flight", "edge", "tiers", "cascade", "regions", "hedging", "breakers"
]  # fmt: skip
STRATEGIES: Final[tuple[Strategy, ...]] = get_args(Strategy)


class ScenarioError(ValueError):
    """A scenario that can't be used; the message names the field."""


def assumed(default: Any, source: str) -> Any:
    return field(default=default, metadata={"source": source})


@dataclass(frozen=True, slots=True)
class Traffic:
    """Who asks what. A question has several wordings; the exact cache knows wordings, the semantic one questions."""

    requests_per_s_of_tenant: float = assumed(200.0, "a choice: faster traffic is more tenants, whose caches are apart")
    repeated_share: float = assumed(
        0.6, "a choice: the others (turns of a conversation, own documents) never come again"
    )
    questions: int = assumed(200_000, "a choice: different questions of one tenant")
    zipf_exponent: float = assumed(
        0.8, "web requests: 0.64 to 0.83 (Breslau et al., INFOCOM 1999); no public log of LLM traffic was at hand"
    )
    wording_shares: tuple[float, ...] = assumed((0.55, 0.25, 0.12, 0.08), "a choice: how often each wording is used")
    input_tokens: float = assumed(60.0, "a choice: median")
    output_tokens: float = assumed(150.0, "a choice: median")
    output_sigma: float = assumed(0.7, "a choice: of log-normal lengths; p95 is 3.2 medians")
    max_output_tokens: int = assumed(1000, "a choice")
    new_connection_share: float = assumed(0.1, "a choice: these pay two more round trips (TCP and TLS 1.3)")


@dataclass(frozen=True, slots=True)
class Network:
    ms_per_km: float = assumed(regions.MS_PER_KM, "edge_router/regions.py: fibre and back 0.01, ways 1.5 times as long")
    last_mile_s: float = assumed(
        0.015, "median; cable, DSL and fibre 5 to 20 ms, mobile 30 to 50 (Bajpai et al., CCR 2017)"
    )
    last_mile_sigma: float = assumed(0.8, "so that p95 is 56 ms")
    misrouted_share: float = assumed(0.2, "anycast: a fifth of clients not at the best place (Calder et al., IMC 2015)")
    backbone_sigma: float = assumed(0.05, GUESS)
    chinese_colos: bool = assumed(False, "Cloudflare's China network is a product of its own")


@dataclass(frozen=True, slots=True)
class Isolates:
    requests_per_s: float = assumed(25.0, GUESS + "; an isolate of ours manages 600 (docs/benchmarks)")
    hit_cpu_s: float = assumed(0.0015, "measured: docs/benchmarks/workerd.md")
    miss_cpu_s: float = assumed(0.004, "about the cost of a forwarded call here")
    idle_s: float = assumed(600.0, GUESS + ": an isolate that nobody called is gone")
    cold_start_s: float = assumed(1.0, "Python Workers with a snapshot: 1.0 s (blog.cloudflare.com, December 2025)")
    memory_bytes: int = assumed(_SETTINGS.memory_cache_bytes, "MEMORY_CACHE_MIB")
    memory_age_s: float = assumed(memory_cache.MAX_AGE_S, "edge_router/memory_cache.py")
    entry_bytes: int = assumed(3000, "a choice: 150 tokens and the entry's own fields")


@dataclass(frozen=True, slots=True)
class Caches:
    ttl_s: float = assumed(_SETTINGS.lifetimes.ttl_s, "CACHE_TTL_S")
    swr_s: float = assumed(_SETTINGS.lifetimes.swr_s, "CACHE_SWR_S")
    begin_empty: bool = assumed(False, "a choice: caches begin in steady state")
    kv_seen_s: float = assumed(60.0, "KV's cacheTtl: a place sees what it read, misses too, for so long")
    kv_hot_s: float = assumed(0.003, "median; Cloudflare tells 1 to 12 ms for hot reads (blog, September 2024)")
    kv_cold_s: float = assumed(0.06, "median; the documentation says tens to hundreds of milliseconds")
    kv_sigma: float = assumed(0.6, GUESS)
    kv_timeout_s: float = assumed(_SETTINGS.cache_timeout_s, "CACHE_TIMEOUT_S")
    semantic_recall: float = assumed(0.17, "docs/semantic-cache.md: duplicates found at DEFAULT_THRESHOLD")
    semantic_s: float = assumed(0.06, GUESS + ": embedding, vectors and KV, median")
    semantic_timeout_s: float = assumed(_SETTINGS.semantic_timeout_s, "SEMANTIC_TIMEOUT_S")
    vector_visible_s: float = assumed(10.0, "Vectorize: a few seconds")
    flight_sigma: float = assumed(0.3, GUESS)
    flight_wait_s: float = assumed(_SETTINGS.flight_wait_s, "FLIGHT_WAIT_MS: then a caller goes alone")
    flight_kept_s: float = assumed(10.0, "docs/single-flight.md: a good answer is given for so long")


@dataclass(frozen=True, slots=True)
class Edge:
    """Workers AI. A continent's slots are one queue."""

    share: float = assumed(0.6, "EDGE_SHARE: the easy part of the traffic")
    cascade_share: float = assumed(0.25, "a choice: between the thresholds the edge answers first")
    escalated_share: float = assumed(
        0.1, "a choice: of those, rejected by the verifier (docs/cascade.md: 5 to 20 % show)"
    )
    model: str = assumed("@cf/meta/llama-3.2-3b-instruct", "the catalog's prices and times")
    ttft_sigma: float = assumed(0.5, GUESS)
    gpu_rtt_s: float = assumed(0.01, GUESS + ": from the colo to its GPUs")
    hold_tokens: int = assumed(30, "120 characters, docs/cascade.md")
    busy_share: float = assumed(0.7, "a choice: slots that are busy on average in steady state")
    queue_per_slot: float = assumed(0.2, "a choice: beyond it 429, out of capacity, and the cloud answers")
    requests_per_minute: float = assumed(
        0.0, "of the account, 0: none. Cloudflare's default for text generation is 300; more has to be asked for"
    )
    lost_share: float = assumed(0.0, "failures: share of the slots that are gone")


@dataclass(frozen=True, slots=True)
class Cloud:
    """cloud_fallback with the provider behind it. A region's slots are calls in flight."""

    fast_model: str = assumed("gpt-4o-mini", "the catalog's prices and times")
    quality_model: str = assumed("gpt-4o", "the catalog's prices and times")
    quality_share: float = assumed(0.15, "a choice: the hardest requests")
    ttft_sigma: float = assumed(0.4, GUESS)
    slow_share: float = assumed(0.02, "a choice: calls that hang for a while, as in scripts/hedging.py (there 5 %)")
    slow_s: float = assumed(3.0, "scripts/hedging.py")
    busy_share: float = assumed(0.7, "a choice: slots that are busy on average in steady state")
    queue_per_slot: float = assumed(0.2, "a choice: beyond it the region refuses (its bulkhead)")
    single_region: str = assumed("enam", "a choice: without the strategy `regions`")
    max_attempts: int = assumed(4, "edge_router/attempts.py")
    down_region: str = assumed("", "failures: the region that is down")
    down_from_s: float = assumed(0.0, "failures: seconds after the measured window begins")
    down_for_s: float = assumed(0.0, "failures")
    down_kind: str = assumed("refuse", "failures: `refuse` answers at once, `silent` never")
    silent_s: float = assumed(20.0, "a choice: until a call to a silent region is given up (CLOUD_TIMEOUT_S is 60)")


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars, docs/cloudflare-facts of the design notes; models' prices are the catalog's."""

    request: float = assumed(0.30e-6, "Workers: 0.30 a million")
    cpu_s: float = assumed(0.02e-3, "Workers: 0.02 a million CPU ms")
    kv_read: float = assumed(0.50e-6, "KV: 0.50 a million, misses as well")
    kv_write: float = assumed(5.0e-6, "KV: 5.00 a million")
    flight: float = assumed(0.15e-6, "Durable Objects: 0.15 a million requests; duration left out")
    semantic: float = assumed(
        5e-6, "embedding of 60 tokens at 0.02 a million, 384 queried dimensions at 0.01 a million"
    )


REGIONS: Final = tuple(
    Region(id, f"https://{id}.example", latitude, longitude)
    for id, latitude, longitude in (
        ("wnam", 45.60, -121.18),  # The Dalles
        ("enam", 39.04, -77.49),  # Ashburn
        ("weur", 50.11, 8.68),  # Frankfurt
        ("apac", 1.35, 103.82),  # Singapore
        ("apne", 35.68, 139.69),  # Tokyo
    )
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run's assumptions. warm_up_s: not measured; at least as long as memory and KV's views last."""

    traffic: Traffic = Traffic()
    network: Network = Network()
    isolates: Isolates = Isolates()
    caches: Caches = Caches()
    edge: Edge = Edge()
    cloud: Cloud = Cloud()
    prices: Prices = Prices()
    regions: tuple[Region, ...] = REGIONS
    models: tuple[Model, ...] = DEFAULT_MODELS
    warm_up_s: float = 75.0
    strategies: frozenset[Strategy] = frozenset(STRATEGIES)

    def without(self, *names: Strategy) -> "Scenario":
        return replace(self, strategies=self.strategies - set(names))

    def only(self, *names: Strategy) -> "Scenario":
        return replace(self, strategies=frozenset(names))


SECTIONS: Final = ("traffic", "network", "isolates", "caches", "edge", "cloud", "prices")


def read_scenario(path: Path, base: Scenario) -> Scenario:
    """The base with what the TOML file changes. Raises ScenarioError."""
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise ScenarioError(f"{path}: {exc}") from exc
    for name, table in tables.items():
        if name not in SECTIONS or not isinstance(table, dict):
            raise ScenarioError(f"{path}: there is no section [{name}]; use one of: {', '.join(SECTIONS)}")
        base = replace(base, **{name: _changed(getattr(base, name), table, f"{path}: {name}")})
    return base


def _changed(section: Any, table: dict[str, Any], where: str) -> Any:
    known = {each.name: getattr(section, each.name) for each in fields(section)}
    values = {}
    for name, value in table.items():
        if name not in known:
            raise ScenarioError(f"{where}.{name} is not known; use one of: {', '.join(known)}")
        wanted = type(known[name])
        if wanted is float and type(value) is int:
            value = float(value)
        if wanted is tuple and isinstance(value, list) and all(isinstance(each, int | float) for each in value):
            value = tuple(float(each) for each in value)
        if type(value) is not wanted:
            raise ScenarioError(f"{where}.{name} must be of the type {wanted.__name__}, got {value!r}")
        if isinstance(value, float | int) and value < 0:
            raise ScenarioError(f"{where}.{name} must not be negative, got {value!r}")
        values[name] = value
    return replace(section, **values)


def assumptions(scenario: Scenario) -> Iterator[tuple[str, str, Any, str]]:
    """(section, field, value, source) of each."""
    for name in SECTIONS:
        section = getattr(scenario, name)
        for each in fields(section):
            yield name, each.name, getattr(section, each.name), each.metadata["source"]

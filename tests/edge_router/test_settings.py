"""The Worker's variables: what is read from them, and how a wrong one is named."""

import json
from typing import Any

import pytest

from edge_router.catalog import DEFAULT_MODELS
from edge_router.settings import DEFAULT_EDGE_SHARE, VARIABLES, Region, SettingsError, read_settings

REGION: dict[str, Any] = {"id": "fra", "url": "https://fra.test", "latitude": 50.1, "longitude": 8.7}
MODEL = {"id": "m1", "side": "edge", "tier": "edge-small", "context_window_tokens": 1000}


def test_no_variables() -> None:
    """Closed to callers without keys, the default catalog, no cloud."""
    settings = read_settings({})

    assert settings.auth == "keys"
    assert settings.regions == ()
    assert settings.catalog.models == DEFAULT_MODELS


def test_limits_of_streams() -> None:
    """Heartbeats every five seconds; crawling is judged after fifteen, and need not be."""
    settings = read_settings({"MIN_TOKENS_PER_S": "0"})

    assert (settings.heartbeat_s, settings.slow_grace_s, settings.min_tokens_per_s) == (5, 15, 0)
    assert read_settings({}).min_tokens_per_s == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("AUHT", "AUHT: no such variable, did you mean AUTH; docs/configuration.md lists them", id="typo"),
        pytest.param("ZONE", "ZONE: no such variable; docs/configuration.md lists them", id="nothing like it"),
    ],
)
def test_variable_that_does_not_exist(name: str, says: str) -> None:
    """Stops the start too: a misspelt variable would otherwise be a default that nobody chose."""
    with pytest.raises(SettingsError) as caught:
        read_settings({"RATE_LIMIT": "off", name: "x"})

    assert str(caught.value) == says


@pytest.mark.parametrize("write", [lambda value: value, json.dumps], ids=["JSON values", "text"])
def test_structured_variables(write: Any) -> None:
    """wrangler.toml gives JSON values, `.dev.vars` and secrets give text: both are taken."""
    settings = read_settings({"CLOUD_REGIONS": write([REGION]), "CATALOG": write([MODEL]), "CACHE_TTL_S": "90"})

    assert settings.regions == (Region("fra", "https://fra.test", 50.1, 8.7),)
    assert [model.id for model in settings.catalog.models] == ["m1"]
    assert settings.lifetimes.ttl_s == 90


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        pytest.param("AUTH", "none", "AUTH", id="AUTH"),
        pytest.param("CACHE_TTL_S", 0, "CACHE_TTL_S", id="no lifetime"),
        pytest.param("CACHE_SWR_S", -1, "CACHE_SWR_S", id="stale before it was fresh"),
        pytest.param("CACHE_STALE_IF_ERROR_S", 31_536_001, "CACHE_STALE_IF_ERROR_S", id="more than a year"),
        pytest.param("CACHE_NORMALISATION", "loose", "CACHE_NORMALISATION", id="an unknown normalisation"),
        pytest.param("CACHE_TTL_S", "soon", "CACHE_TTL_S", id="a lifetime in words"),
        pytest.param("EDGE_TIMEOUT_S", 0, "EDGE_TIMEOUT_S", id="no time for the edge"),
        pytest.param("CLOUD_TIMEOUT_S", 601, "CLOUD_TIMEOUT_S", id="too much time for the cloud"),
        pytest.param("SEMANTIC_CACHE", "maybe", "SEMANTIC_CACHE", id="neither on nor off"),
        pytest.param("KEYS_TIMEOUT_S", 0, "KEYS_TIMEOUT_S", id="no time for a key's record"),
        pytest.param("LIMITS_TIMEOUT_S", 61, "LIMITS_TIMEOUT_S", id="too much time for strict limits"),
        pytest.param("CACHE_TIMEOUT_S", 0, "CACHE_TIMEOUT_S", id="no time to read what is stored"),
        pytest.param("SEMANTIC_TIMEOUT_S", 0, "SEMANTIC_TIMEOUT_S", id="no time to look anything up"),
        pytest.param("STREAM_IDLE_S", "nan", "STREAM_IDLE_S", id="not a number"),
        pytest.param("HEARTBEAT_S", 0, "HEARTBEAT_S", id="heartbeats without a pause"),
        pytest.param("MIN_TOKENS_PER_S", -1, "MIN_TOKENS_PER_S", id="a negative speed"),
        pytest.param("SLOW_GRACE_S", "0", "SLOW_GRACE_S", id="no grace"),
        pytest.param("MEMORY_CACHE_MIB", 65, "MEMORY_CACHE_MIB", id="more memory than an isolate has to spare"),
        pytest.param("CLOUD_REGIONS", "[", "CLOUD_REGIONS", id="regions that are not JSON"),
        pytest.param("CLOUD_REGIONS", {}, "CLOUD_REGIONS", id="regions that are no list"),
        pytest.param("CLOUD_REGIONS", [{"id": "fra"}], "CLOUD_REGIONS.0.url", id="a region without a URL"),
        pytest.param("CLOUD_REGIONS", [{**REGION, "url": "fra.test"}], "CLOUD_REGIONS.0.url", id="a bare host"),
        pytest.param("CLOUD_REGIONS", [REGION, {**REGION, "id": "FRA 1"}], "CLOUD_REGIONS.1.id", id="a region's id"),
        pytest.param("CLOUD_REGIONS", [{**REGION, "latitude": 91}], "CLOUD_REGIONS.0.latitude", id="beyond the pole"),
        pytest.param("CLOUD_REGIONS", [{**REGION, "lat": 1}], "CLOUD_REGIONS.0.lat", id="an unknown field"),
        pytest.param("CLOUD_REGIONS", [REGION, REGION], "CLOUD_REGIONS", id="a region twice"),
        pytest.param("CATALOG", "{", "CATALOG", id="a catalog that is not JSON"),
        pytest.param("CATALOG", [{**MODEL, "side": "moon"}], "CATALOG: m1: side", id="an entry of the catalog"),
    ],
)
def test_variable_with_a_wrong_value(name: str, value: object, where: str) -> None:
    """One line that names the variable, and the place in it."""
    with pytest.raises(SettingsError) as caught:
        read_settings({name: value})

    assert str(caught.value).startswith(where)
    assert "\n" not in str(caught.value)


def test_list_of_variables() -> None:
    """What the Worker's entry has to read from its environment."""
    assert {"AUTH", "CLOUD_REGIONS", "CATALOG", "CACHE_TTL_S"} <= set(VARIABLES)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        pytest.param({}, (DEFAULT_EDGE_SHARE, None), id="neither"),
        pytest.param({"EDGE_SHARE": 0.25}, (0.25, None), id="share"),
        pytest.param({"EDGE_SHARE": "0"}, (0.0, None), id="share of nothing, as text"),
        pytest.param({"QUALITY_FLOOR": 0.9}, (None, 0.9), id="floor"),
    ],
)
def test_point_that_the_router_is_set_to(
    variables: dict[str, Any], expected: tuple[float | None, float | None]
) -> None:
    """One of the two decides."""
    settings = read_settings(variables)

    assert (settings.edge_share, settings.quality_floor) == expected


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"EDGE_SHARE": 0.5, "QUALITY_FLOOR": 0.5}, "QUALITY_FLOOR: EDGE_SHARE is set as well"),
        ({"EDGE_SHARE": 1.5}, "EDGE_SHARE"),
        ({"EDGE_SHARE": "most"}, "EDGE_SHARE"),
        ({"QUALITY_FLOOR": -1}, "QUALITY_FLOOR"),
    ],
)
def test_point_that_can_not_be_set(variables: dict[str, Any], named: str) -> None:
    """Stops with one line that names the variable."""
    with pytest.raises(SettingsError, match=named) as caught:
        read_settings(variables)

    assert "\n" not in str(caught.value)

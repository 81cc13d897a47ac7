"""The catalog: look-up by id, and what is said of one that can't be used."""

from typing import Any

import pytest

from edge_router.catalog import DEFAULT_MODELS, Catalog, CatalogError, Model, parse_catalog

ENTRY: dict[str, Any] = {
    "id": "m1",
    "side": "edge",
    "tier": "edge-small",
    "context_window_tokens": 1000,
    "features": ["tools"],
}


def test_entry_as_a_model() -> None:
    """JSON lists become tuples, absent fields take their defaults."""
    assert parse_catalog([ENTRY]).models == (Model("m1", "edge", "edge-small", 1000, features=("tools",)),)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        pytest.param({"side": "moon"}, ["m1", "side", "edge, cloud"], id="side"),
        pytest.param({"side": []}, ["m1", "side"], id="side list"),
        pytest.param({"tier": "edge-huge"}, ["m1", "tier", "edge-small"], id="tier"),
        pytest.param({"tier": "cloud-fast"}, ["m1", "side edge", "tier cloud-fast"], id="tier of the other side"),
        pytest.param({"shape": "round"}, ["m1", "shape"], id="shape"),
        pytest.param({"id": ""}, ["id"], id="empty id"),
        pytest.param({"id": 5}, ["5", "id"], id="id number"),
        pytest.param({"context_window_tokens": -1}, ["m1", "context_window_tokens"], id="negative window"),
        pytest.param({"context_window_tokens": "1000"}, ["m1", "context_window_tokens"], id="window text"),
        pytest.param({"context_window_tokens": float("nan")}, ["m1", "context_window_tokens"], id="window NaN"),
        pytest.param({"input_usd_per_million": True}, ["m1", "input_usd_per_million"], id="price boolean"),
        pytest.param({"output_usd_per_million": None}, ["m1", "output_usd_per_million"], id="price null"),
        pytest.param({"features": ["tools", "smell"]}, ["m1", "feature", "smell"], id="feature"),
        pytest.param({"features": None}, ["m1", "features"], id="features null"),
        pytest.param({"features": [["tools"]]}, ["m1", "feature"], id="features nested"),
        pytest.param({"thinks": "false"}, ["m1", "thinks"], id="thinks text"),
        pytest.param({"cache_ttl_s": 0}, ["m1", "cache_ttl_s"], id="no time in the cache"),
        pytest.param({"declared_tokens_per_s": 0}, ["m1", "declared_tokens_per_s"], id="no speed"),
        pytest.param({"colour": "red"}, ["m1", "colour"], id="unknown field"),
    ],
)
def test_entry_with_a_wrong_field(change: dict[str, Any], parts: list[str]) -> None:
    """The message names the entry and the field."""
    with pytest.raises(CatalogError) as caught:
        parse_catalog([{**ENTRY, **change}])

    assert [part for part in parts if part not in str(caught.value)] == []


def test_stand_in() -> None:
    """A cloud model of the same catalog may answer in an edge model's place."""
    cloud = {"id": "c1", "side": "cloud", "tier": "cloud-fast", "context_window_tokens": 1000}
    catalog = parse_catalog([{**ENTRY, "stand_in": "c1"}, cloud])

    assert [model.stand_in for model in catalog.models] == ["c1", None]


@pytest.mark.parametrize("field", ["id", "side", "tier", "context_window_tokens"])
def test_entry_without_a_required_field(field: str) -> None:
    """The message names it; an entry without an id is named by its position."""
    with pytest.raises(CatalogError, match=field) as caught:
        parse_catalog([{name: value for name, value in ENTRY.items() if name != field}])

    assert str(caught.value).startswith("entry 0" if field == "id" else "m1")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        pytest.param([], "at least one", id="empty"),
        pytest.param({}, "list", id="an object"),
        pytest.param(None, "list", id="null"),
        pytest.param([ENTRY, "m2"], "entry 1", id="an entry that is text"),
        pytest.param([ENTRY, ENTRY], "m1 is in the catalog twice", id="an id twice"),
    ],
)
def test_catalog_that_can_not_be_used(entries: object, message: str) -> None:
    """The message says what stands there instead."""
    with pytest.raises(CatalogError, match=message):
        parse_catalog(entries)


@pytest.mark.parametrize(
    ("model_id", "expected"),
    [
        pytest.param("m1", "m1", id="by its id"),
        pytest.param("@cf/a/b", "@cf/a/b", id="under a wildcard"),
        pytest.param("@cf/exact", "@cf/exact", id="an entry goes before a wildcard"),
        pytest.param("@cf/*", None, id="the wildcard itself"),
        pytest.param("@cf/a*", None, id="a wildcard under the wildcard"),
        pytest.param("m2", None, id="unknown"),
    ],
)
def test_look_up(model_id: str, expected: str | None) -> None:
    """An id, or one that a wildcard stands for."""
    models = [
        Model("m1", "edge", "edge-small", 1),
        Model("@cf/exact", "edge", "edge-small", 2),
        Model("@cf/*", "edge", "edge-large", 3),
    ]
    found = Catalog(models).find(model_id)

    assert (found and found.id) == expected
    assert found is None or found.context_window_tokens == {"m1": 1, "@cf/exact": 2}.get(found.id, 3)


def test_version() -> None:
    """The same for the same entries, another for any change."""
    changed = [*DEFAULT_MODELS[:-1], Model("gpt-4o", "cloud", "cloud-quality", 128_000, 2.51)]

    assert Catalog(DEFAULT_MODELS).version == Catalog(list(DEFAULT_MODELS)).version
    assert Catalog(changed).version != Catalog(DEFAULT_MODELS).version


def test_cost() -> None:
    """Declared prices are per million tokens."""
    model = Model("m", "cloud", "cloud-fast", 1, 2.0, 8.0)

    assert model.cost_usd(500_000, 250_000) == 3.0

"""A model and a region are added by data alone, as docs/architecture.md says."""

import json

from edge_router.catalog import Catalog
from edge_router.location import Location
from edge_router.settings import read_settings
from tests.edge_router.harness import World, chat_body, read_json

SYDNEY = Location("SYD", 9.0, "AU", "OC", False, -33.9, 151.2)


async def test_model_that_is_added() -> None:
    """One entry of the catalog: it is listed, can be pinned, is chosen for its tier, and its price is reported."""
    entry = {
        "id": "acme-1", "side": "cloud", "tier": "cloud-fast", "context_window_tokens": 64_000,
        "input_usd_per_million": 1.0, "output_usd_per_million": 2.0, "features": ["tools", "json"],
    }  # fmt: skip
    models = read_settings({"CATALOG": json.dumps([entry])}).catalog.models
    world = World(models=models)

    listed = read_json(await world.ask("", path="/v1/models", method="GET"))
    pinned = await world.ask(chat_body(model="acme-1"))
    chosen = await world.ask(chat_body("Explain why, step by step.", model="auto"))

    assert "acme-1" in [model["id"] for model in listed["data"]]
    assert read_json(pinned)["nearside"]["cost_usd"] == Catalog(models).models[0].cost_usd(10, 5)
    assert chosen.headers["nearside-model"] == "acme-1"
    assert {call.body["model"] for call in world.cloud.calls} == {"acme-1"}


async def test_region_that_is_added() -> None:
    """One entry of CLOUD_REGIONS: the nearest callers reach it, the others stay where they were."""
    known = [
        {"id": "iad", "url": "http://iad.test", "latitude": 38.95, "longitude": -77.45},
        {"id": "fra", "url": "http://fra.test", "latitude": 50.11, "longitude": 8.68},
    ]
    added = {"id": "syd", "url": "http://syd.test", "latitude": -33.87, "longitude": 151.21, "residency": "au"}
    world = World(regions=read_settings({"CLOUD_REGIONS": [*known, added]}).regions)

    there = await world.ask(chat_body(model="cloud"), location=SYDNEY)
    here = await world.ask(chat_body(model="cloud"))
    kept = await world.ask(chat_body(model="cloud", residency="au"))

    assert there.headers["nearside-cloud-region"] == "syd"
    assert here.headers["nearside-cloud-region"] == "fra"
    assert kept.headers["nearside-cloud-region"] == "syd"

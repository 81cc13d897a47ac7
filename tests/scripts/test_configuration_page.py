"""docs/configuration.md: fresh, complete, and with examples that are taken."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

from edge_router.settings import VARIABLES, read_settings
from scripts.configuration_page import PAGE, page

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"


def test_page_is_fresh() -> None:
    """What `python -m scripts.configuration_page` would write is what is there."""
    assert PAGE.read_text() == page()


def test_page_names_every_variable() -> None:
    """Each with its values: a range with its unit, a choice, a secret as such."""
    text = page()

    assert all(f"| `{name}` |" in text for name in VARIABLES)
    assert "| `CACHE_SWR_S` | `3600` | 0 to 31 536 000 s |" in text
    assert "| `AUTH` | `keys` | `keys`, `open` |" in text
    assert "| `FALLBACK_KEYS` | – | list (secret) |" in text


def test_examples() -> None:
    """They can be pasted as they are."""
    variables = {
        "CLOUD_REGIONS": (EXAMPLES / "regions.json").read_text(),
        "CATALOG": (EXAMPLES / "catalog.json").read_text(),
    }

    settings = read_settings(variables)

    assert [region.id for region in settings.regions] == ["wnam", "weur"]
    assert len(settings.catalog.models) == len(json.loads(variables["CATALOG"]))


def test_variables_that_are_deployed() -> None:
    """wrangler.toml sets variables to their defaults, and names those that have none in a comment."""
    text = (ROOT / "wrangler.toml").read_text()

    deployed, default = read_settings(tomllib.loads(text)["vars"]), read_settings({})

    assert deployed.catalog.version == default.catalog.version
    assert replace(deployed, catalog=default.catalog) == default
    assert [name for name in VARIABLES if name not in text] == []

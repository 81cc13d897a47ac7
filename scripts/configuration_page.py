"""Writes docs/configuration.md from the settings models, so that the page can't differ from what is read.

python -m scripts.configuration_page            # after a variable was added or changed
python -m scripts.configuration_page --check    # exit code 1 when the page is not fresh
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cloud_fallback.settings import Settings as CloudSettings
from edge_router.settings import Variables

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"

_UNITS = {"_S": "s", "_MS": "ms", "_MIB": "MiB", "_BYTES": "bytes"}

_INTRODUCTION = """\
# Configuration

Made by `python -m scripts.configuration_page` from the models that read the variables; a test holds it fresh.

A variable that is wrong or unknown stops the start. The Worker then answers every request with 500 `misconfigured`, and
one line of its log names the variable (`wrangler tail`; `scripts/dev` prints it); cloud_fallback ends with that line.
Lists and objects may be written as JSON text, as secrets and `.dev.vars` need it. Secrets: `wrangler secret put NAME`.
"""

_EXAMPLES = """
## Regions and catalog

Examples that validate (a test reads them): [regions.json](examples/regions.json) for `CLOUD_REGIONS`,
[catalog.json](examples/catalog.json) for `CATALOG`. Fields of a region: [regions.md](regions.md). Fields of a model:
`id`, `side` (`edge`, `cloud`), `tier` (`edge-small`, `edge-large`, `cloud-fast`, `cloud-quality`),
`context_window_tokens`, prices in USD for a million tokens, `features` (`tools`, `json`, `vision`); all of them are in
`edge_router/catalog.py`.
"""


def page() -> str:
    """The whole page."""
    edge = _table(Variables.model_json_schema(by_alias=True)["properties"], "Worker")
    cloud = CloudSettings.model_json_schema(by_alias=True)["properties"]
    return "\n".join(
        [
            _INTRODUCTION,
            "## The Worker\n\nIn `[vars]` of wrangler.toml, which has a comment for each.\n",
            *edge,
            "\n## cloud_fallback\n\nIn the environment.\n",
            *_table({_cloud_name(name): schema for name, schema in cloud.items()}, "cloud_fallback"),
            _EXAMPLES,
        ]
    )


def _cloud_name(name: str) -> str:
    return name if name.isupper() else f"CLOUD_{name.upper()}"


def _table(properties: Mapping[str, Mapping[str, Any]], program: str) -> Iterator[str]:
    yield "| variable | default | values | effect |"
    yield "| --- | --- | --- | --- |"
    for name, schema in properties.items():
        if "description" not in schema:
            raise SystemExit(f"configuration_page: {name} of {program} has no description")
        yield f"| `{name}` | {_default(schema)} | {_values(name, schema)} | {schema['description']} |"


def _default(schema: Mapping[str, Any]) -> str:
    default = schema.get("default")
    if default in (None, [], ()):
        return "–"
    text = default if isinstance(default, str) else json.dumps(default)
    return f"`{Path(text).name if '/' in text else text}`"


def _values(name: str, schema: Mapping[str, Any]) -> str:
    options = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    kinds = " or ".join(dict.fromkeys(_kind(option) for option in options))
    unit = next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), "")
    secret = " (secret)" if schema.get("secret") or any(o.get("format") == "password" for o in options) else ""
    return f"{kinds}{' ' + unit if unit else ''}{secret}"


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") in ("integer", "number"):
        return _range(schema)
    if "pattern" in schema:
        return f"`{schema['pattern'].replace('|', chr(92) + '|')}`"
    return {"array": "list", "string": "text", "object": "object"}.get(str(schema.get("type")), "JSON")


def _range(schema: Mapping[str, Any]) -> str:
    least, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    most = schema.get("maximum")
    low = f"{least:g}" if least is not None else f"above {above:g}" if above is not None else ""
    return f"{low} to {most:,.10g}".replace(",", " ") if most is not None else f"{low} or more" if low else "number"


def main() -> None:
    """Writes the page, or checks it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="%(prog)s [--check]"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when the page is not fresh")
    if not parser.parse_args().check:
        PAGE.write_text(page())
    elif PAGE.read_text() != page():
        sys.exit("docs/configuration.md is not fresh: python -m scripts.configuration_page")


if __name__ == "__main__":
    main()

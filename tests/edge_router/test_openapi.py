"""The document at `/openapi.json`: fresh, complete, and served to anyone."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from edge_router.gateway import BATCH_PATHS
from edge_router.limits.telling import LIMIT_HEADERS
from edge_router.report import BODY_NAMES, HEADER_NAMES
from edge_router.requests import CONTROL_HEADERS
from scripts.openapi.__main__ import documents
from scripts.openapi.document import edge_document
from scripts.openapi.operations import EDGE
from tests.edge_router.harness import World


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.parent.name)
def test_document_is_fresh(path: Path) -> None:
    """What `python -m scripts.openapi` would write is what is there. When this fails: run it."""
    assert path.read_text() == documents()[path]


def test_every_path_of_the_gateway_is_described() -> None:
    """With its method and the scope that it needs. When this fails: scripts/openapi/operations.py lacks it."""
    served = {(method, path, scope) for path, (method, _, scope) in World().gateway()._endpoints.items()}

    described = {
        (each.method, each.path, each.scope)
        for each in EDGE
        if each.scope is not None and not each.path.startswith(BATCH_PATHS)
    }

    assert described == served | {("GET", "/v1/models/{id}", "infer")}


def test_every_fact_of_the_report_is_described() -> None:
    """Headers with every answer, fields in `nearside`, controls wherever a model is asked."""
    document = edge_document()
    chat = document["paths"]["/v1/chat/completions"]["post"]

    assert set(document["components"]["headers"]) == {*HEADER_NAMES, *LIMIT_HEADERS, "retry-after"}
    assert tuple(document["components"]["schemas"]["EdgeReport"]["properties"]) == BODY_NAMES
    assert {*CONTROL_HEADERS} < {parameter["name"] for parameter in chat["parameters"]}


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.parent.name)
def test_references_lead_somewhere(path: Path) -> None:
    """And each schema is one."""
    document = json.loads(path.read_text())

    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for reference in _references(document):
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        here = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return here + [each for inner in value.values() for each in _references(inner)]
    return [each for inner in value for each in _references(inner)] if isinstance(value, list) else []


async def test_served_to_anyone() -> None:
    """Without a key, with the report, as it lies beside the pages."""
    reply = await World(auth="keys").ask(path="/openapi.json", method="GET")

    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert json.loads(str(reply.body))["openapi"] == "3.1.0"
    assert reply.headers["nearside-colo"] == "CDG"

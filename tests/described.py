"""Requests made from our own OpenAPI documents by schemathesis, and what every answer to one must be."""

from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

BOUNDED = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
_TAKEN = ("requestBody", "parameters", "security")
_CONFORMANCE = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
_CONTRACT = {502, 503, 504}  # of what is no caller's fault; 500 is a bug


def asked(path: Path) -> list[Any]:
    """pytest's parameters: each operation of the document with right requests, and with wrong ones where any can be."""
    results = schemathesis.openapi.from_path(path).get_all_operations()
    found = [result.ok() for result in results if isinstance(result, Ok)]
    return [
        pytest.param(each, mode, id=f"{each.method.upper()} {each.path} {mode.value}")
        for each in found
        for mode in GenerationMode
        if mode.is_positive or any(each.definition.raw.get(name) for name in _TAKEN)
    ]


def check(case: Case[Any], response: httpx.Response | Response) -> None:
    """Status, media type, headers and body are as described, and no failure is a bug's."""
    assert response.status_code < 500 or response.status_code in _CONTRACT, response.text[:500]
    case.validate_response(response, checks=_CONFORMANCE)

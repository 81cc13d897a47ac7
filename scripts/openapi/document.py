"""Puts operations together to an OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.1.html)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel

from edge_router import __version__
from edge_router.limits.telling import LIMIT_HEADERS
from edge_router.report import HEADER_NAMES as REPORT_HEADERS
from edge_router.requests import CONTROL_HEADERS, ChatRequest
from scripts.openapi import answers
from scripts.openapi.operations import CLOUD, EDGE, EVENTS, JSON, Operation

_DESCRIPTION = """\
Answers LLM requests at the Cloudflare location nearest to the caller when it can, in the cloud when it must, and tells
on every response where that was, why, and how long each part took. Unknown fields of a body are ignored and passed on.
"""
_CLOUD_DESCRIPTION = (
    "The service behind the edge. It takes calls that the gateway signed, and forwards them to providers."
)

# Of the header's value. What is not here is text.
_HEADER_KINDS: Final[Mapping[str, str]] = {
    "nearside-client-rtt-ms": "number",
    "nearside-complexity": "number",
    "nearside-cloud-rtt-ms": "number",
    "nearside-cost-usd": "number",
    "nearside-cost-avoided-usd": "number",
    "age": "integer",
    "retry-after": "integer",
}
_CONTROL_KINDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "nearside-use-cache": {"enum": ["true", "false", "1", "0"]},
    "nearside-semantic-cache": {"enum": ["true", "false", "1", "0"]},
    "nearside-optimize-prompt": {"enum": ["true", "false", "1", "0"]},
    "nearside-fit-context": {"enum": ["true", "false", "1", "0"]},
    "nearside-cascade": {"enum": ["true", "false", "1", "0", "on", "off", "race"]},
    "nearside-cache-ttl": {"type": "integer", "minimum": 1, "maximum": 31_536_000},
    "nearside-cache-tags": {"type": "string", "pattern": r"^[A-Za-z0-9_.:/@-]{1,64}(,[A-Za-z0-9_.:/@-]{1,64}){0,7}$"},
    "nearside-max-latency-ms": {"type": "number", "exclusiveMinimum": 0, "maximum": 600_000},
    "nearside-residency": {"type": "string", "pattern": "^[a-z]{2,16}$"},
}
_ALWAYS: Final = ("x-request-id", "nearside-colo")  # of the headers, those that no answer lacks
_REFUSED: Final = {
    400: "Something in the request is wrong; `param` says what.",
    401: "No key, or not a valid one.",
    402: "More than the tenant may still spend.",
    403: "The key may not do this.",
    404: "No such path, model or answer.",
    405: "The path exists, the method does not.",
    408: "The body did not arrive in time.",
    409: "It can't be done now: the file is in use, or the batch has ended.",
    413: "More bytes than are read.",
    415: "The body must be plain JSON.",
    429: "Too often, or out of capacity: wait as `Retry-After` says.",
    500: "A bug, or a wrong configuration. The log finds it by the request id.",
    502: "A model or a region failed.",
    503: "Something that is needed can't be reached right now.",
    504: "No answer in time, or none stored (`only-if-cached`).",
}


def edge_document() -> dict[str, Any]:
    """The gateway's."""
    key = {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "nsk_<id>_<secret>",
        "description": "The scopes that a key needs stand with each path (docs/keys.md). `AUTH = open` asks for none.",
    }
    headers = {name: _header(name) for name in (*REPORT_HEADERS, *LIMIT_HEADERS, "retry-after")}
    return _document("Nearside", _DESCRIPTION, EDGE, {"key": key}, headers, [*_CONTROLS, _CACHE_CONTROL])


def cloud_document() -> dict[str, Any]:
    """cloud_fallback's."""
    signature = {
        "type": "apiKey",
        "in": "header",
        "name": "signature",
        "description": "HTTP message signature (RFC 9421) of the edge, with `signature-input` and `content-digest`.",
    }
    headers = {name: _header(name) for name in ("x-request-id", "retry-after")}
    return _document("Nearside cloud fallback", _CLOUD_DESCRIPTION, CLOUD, {"signature": signature}, headers, [])


def _document(
    title: str,
    description: str,
    operations: Sequence[Operation],
    security: Mapping[str, Any],
    headers: Mapping[str, Any],
    controls: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    schemas = _Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        told = _operation(operation, schemas, next(iter(security)), sorted(headers), controls)
        paths.setdefault(operation.path, {})[operation.method.lower()] = told
    error = schemas.reference(answers.ErrorBody)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": __version__,
            "description": description,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "securitySchemes": dict(security),
            "headers": dict(headers),
            "responses": {
                str(status): {
                    "description": text,
                    "headers": _references(sorted(headers)),
                    "content": {JSON: {"schema": error}},
                }
                for status, text in _REFUSED.items()
            },
            "schemas": dict(sorted(schemas.found.items())),
        },
    }


class _Schemas:
    """Collects the models that operations name."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def reference(self, model: type[BaseModel]) -> dict[str, Any]:
        self._add(model)
        return {"$ref": f"#/components/schemas/{model.__name__}"}

    def request(self, operation: Operation) -> dict[str, Any]:
        """The body's schema; fields that it shares with chats are checked as a chat's are."""
        assert operation.takes is not None
        reference = self.reference(operation.takes)
        if operation.more_fields:
            self._add(ChatRequest)
            fields = self.found[ChatRequest.__name__]["properties"]
            own = self.found[operation.takes.__name__]["properties"]
            own.update({name: fields[name] for name in operation.more_fields if name not in own})
        return reference

    def _add(self, model: type[BaseModel]) -> None:
        if model.__name__ in self.found:
            return
        schema = model.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
        self.found.update(schema.pop("$defs", {}))
        self.found[model.__name__] = schema


def _operation(
    operation: Operation,
    schemas: _Schemas,
    scheme: str,
    headers: Sequence[str],
    controls: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    parameters = [*operation.parameters, *(controls if operation.asks_models else ())]
    told: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": f"{operation.method.lower()}{operation.path.translate(_NO_SIGNS)}",
        "security": [{scheme: [operation.scope]}] if operation.scope else [],
        "responses": _responses(operation, schemas, headers),
    }
    if parameters:
        told["parameters"] = parameters
    if operation.takes is not None:
        content = {operation.takes_as: {"schema": schemas.request(operation)}}
        told["requestBody"] = {"required": operation.needs_body, "content": content}
    return told


_NO_SIGNS = str.maketrans({"/": "_", "{": None, "}": None, ".": "_"})


def _responses(operation: Operation, schemas: _Schemas, headers: Sequence[str]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.answers is not None:
        content[operation.media_type] = {"schema": schemas.reference(operation.answers)}
    elif operation.streams == "never":
        content[operation.media_type] = {"schema": {"type": "string"}}
    if operation.streams != "never":
        content[EVENTS] = {"schema": schemas.reference(answers.Event)}
    responses: dict[str, Any] = {
        "200": {"description": operation.summary, "headers": _references(headers), "content": content}
    }
    statuses = set(_REFUSED) if operation.scope else {404, 405, 500, 503}
    responses |= {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)}
    if operation.unready is not None:
        content = {JSON: {"schema": schemas.reference(operation.unready)}}
        responses["503"] = {"description": "Not ready", "headers": _references(headers), "content": content}
    return responses


def _references(headers: Sequence[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in headers}


def _header(name: str) -> dict[str, Any]:
    kind = _HEADER_KINDS.get(name, "string")
    return {"required": name in _ALWAYS, "schema": {"type": kind}}


_CONTROLS = [
    {
        "name": name,
        "in": "header",
        "required": False,
        "description": "The same as the body's field, which wins.",
        "schema": _CONTROL_KINDS[name],
    }
    for name in CONTROL_HEADERS
]
_CACHE_CONTROL = {
    "name": "cache-control",
    "in": "header",
    "required": False,
    "description": "Request directives of RFC 9111; unknown ones are ignored.",
    "schema": {"type": "string"},
}

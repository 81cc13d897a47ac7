"""A minimal JSON value that a JSON Schema accepts: what a simulated model answers in JSON mode or to a tool."""

from typing import Any

MAX_DEPTH = 12
FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "simulated@example.com",
    "uri": "https://example.com/simulated",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
    "hostname": "example.com",
}


def minimal_instance(schema: dict[str, Any]) -> Any:
    """A value of the schema: every property it names, the fewest items it allows. Patterns are not honoured."""
    return _instance(schema, root=schema, name="", depth=0)


def _instance(schema: Any, *, root: dict[str, Any], name: str, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return None
    if "$ref" in schema:
        return _instance(_resolved(schema["$ref"], root), root=root, name=name, depth=depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for alternatives in ("anyOf", "oneOf"):
        if schema.get(alternatives):
            return _instance(schema[alternatives][0], root=root, name=name, depth=depth + 1)
    if schema.get("allOf"):
        parts = [part for part in schema["allOf"] if isinstance(part, dict)]
        merged = {key: value for part in parts for key, value in part.items()}
        merged["properties"] = {k: v for part in parts for k, v in part.get("properties", {}).items()}
        return _instance(merged, root=root, name=name, depth=depth + 1)
    return _of_type(schema, root=root, name=name, depth=depth)


def _of_type(schema: dict[str, Any], *, root: dict[str, Any], name: str, depth: int) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    match kind:
        case "object":
            properties = schema.get("properties", {})
            names = dict.fromkeys([*properties, *schema.get("required", [])])
            if depth > MAX_DEPTH // 2:
                names = dict.fromkeys(schema.get("required", []))
            return {
                key: _instance(properties.get(key, {"type": "string"}), root=root, name=key, depth=depth + 1)
                for key in names
            }
        case "array":
            count = schema.get("minItems", 1 if depth < MAX_DEPTH // 2 else 0)
            item = schema.get("items", {"type": "string"})
            return [_instance(item, root=root, name=name, depth=depth + 1) for _ in range(count)]
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _string(schema, name)


def _number(schema: dict[str, Any]) -> float:
    step = schema.get("multipleOf", 1)
    if "minimum" in schema:
        low = schema["minimum"]
    elif "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + step
    elif "maximum" in schema or "exclusiveMaximum" in schema:
        low = min(step, schema.get("maximum", step), schema.get("exclusiveMaximum", step + step) - step)
    else:
        low = step
    number: float = -(-low // step) * step if "multipleOf" in schema else low
    return number


def _string(schema: dict[str, Any], name: str) -> str:
    text: str = FORMATS.get(schema.get("format", ""), f"simulated {name}".rstrip())
    text += "." * (schema.get("minLength", 0) - len(text))
    limit: int = schema.get("maxLength", len(text))
    return text[:limit]


def _resolved(reference: str, root: dict[str, Any]) -> Any:
    """The part of the root that `#/a/b` names."""
    part: Any = root
    for key in reference.removeprefix("#").strip("/").split("/"):
        if key:
            part = part.get(key.replace("~1", "/").replace("~0", "~"), {}) if isinstance(part, dict) else {}
    return part

"""Whether a JSON value fits a JSON schema, as far as types, required keys, enums and items go.

Not a validator: what it does not know (`$ref`, `oneOf`, patterns, ranges) it takes for fitting.
"""

from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 16
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def fits(value: object, schema: object, *, depth: int = 0) -> bool:
    """Never raises, whatever the schema is."""
    if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
        return True
    if not _has_type(value, schema.get("type")):
        return False
    choices = schema.get("enum")
    if isinstance(choices, list) and value not in choices:
        return False
    if isinstance(value, dict):
        return _object_fits(value, schema, depth)
    if isinstance(value, list):
        return all(fits(item, schema.get("items"), depth=depth + 1) for item in value)
    return True


def _object_fits(value: dict[str, Any], schema: Mapping[str, Any], depth: int) -> bool:
    required, properties = schema.get("required"), schema.get("properties")
    if isinstance(required, list) and any(isinstance(name, str) and name not in value for name in required):
        return False
    if not isinstance(properties, Mapping):
        return True
    if schema.get("additionalProperties") is False and any(name not in properties for name in value):
        return False
    return all(fits(item, properties.get(name), depth=depth + 1) for name, item in value.items())


def _has_type(value: object, wanted: object) -> bool:
    names = wanted if isinstance(wanted, list) else [wanted]
    known = [name for name in names if isinstance(name, str) and name in _TYPES]
    return not known or any(_is(value, name) for name in known)


def _is(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])

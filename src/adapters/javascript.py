"""Values across the border between Python and JavaScript, as JSON: one crossing each, nothing to destroy."""

import json
from typing import Any

from js import JSON

encode = json.JSONEncoder(separators=(",", ":")).encode
_parse, _stringify = JSON.parse, JSON.stringify  # looked up once


def to_object(value: Any) -> Any:
    """A plain JavaScript object from JSON-like data. Lone surrogates survive, because the JSON is ASCII."""
    return _parse(encode(value))


def from_object(value: Any, names: Any = None) -> Any:
    """JSON-like data from a JavaScript object; None for `undefined`.

    names: a JavaScript array of the properties to read of it and of what is within, those of its class included, which
    would be left out otherwise.
    """
    text = _stringify(value) if names is None else _stringify(value, names)
    return json.loads(text) if isinstance(text, str) else None

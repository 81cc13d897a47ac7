"""Values across the border between Python and JavaScript, as JSON: one crossing each, nothing to destroy."""

import json
from typing import Any

from js import JSON

encode = json.JSONEncoder(separators=(",", ":")).encode
_parse, _stringify = JSON.parse, JSON.stringify  # looked up once


def to_object(value: Any) -> Any:
    """A plain JavaScript object from JSON-like data. Lone surrogates survive, because the JSON is ASCII."""
    return _parse(encode(value))


def from_object(value: Any) -> Any:
    """JSON-like data from a JavaScript object; None for `undefined`."""
    text = _stringify(value)
    return json.loads(text) if isinstance(text, str) else None

"""Parts of an answer that may be anything: what is not as it should be reads as nothing."""

import json
from collections.abc import Mapping
from typing import Any


def object_of(data: str | bytes) -> Mapping[str, Any]:
    """A JSON object; empty for anything else."""
    try:
        return mapping_of(json.loads(data))
    except (ValueError, RecursionError):
        return {}


def mapping_of(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def count_of(value: object) -> int:
    return value if isinstance(value, int) else 0


def first_choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a completion or a chunk; empty for a chunk of another choice."""
    choices = answer.get("choices")
    first = mapping_of(choices[0]) if isinstance(choices, list) and choices else {}
    return first if first.get("index", 0) == 0 else {}

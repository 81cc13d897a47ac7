"""Prompts from JSON Lines: one object with a `prompt` a line."""

import json
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """line: counted from 1, as editors do."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class BrokenLine:
    line: int
    reason: str


def read_prompts(lines: Iterable[str]) -> tuple[list[Prompt], list[BrokenLine]]:
    """Every line is a prompt, broken, or blank; blank ones count for nothing."""
    prompts: list[Prompt] = []
    broken: list[BrokenLine] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        read = _read_line(number, line)
        if isinstance(read, Prompt):
            prompts.append(read)
        else:
            broken.append(read)
    return prompts, broken


def _read_line(number: int, line: str) -> Prompt | BrokenLine:
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        return BrokenLine(number, "not JSON")
    if not isinstance(parsed, dict):
        return BrokenLine(number, "not an object")
    if "prompt" not in parsed:
        return BrokenLine(number, "no 'prompt'")
    prompt = parsed["prompt"]
    if not isinstance(prompt, str) or not prompt.strip():
        return BrokenLine(number, "'prompt' is not a text")
    return Prompt(number, prompt)

"""What the lines of a file ask, and what that will cost at most. Pure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edge_router.tokens import estimate_tokens
from edge_router.workers_ai import DEFAULT_OUTPUT_TOKENS


@dataclass(frozen=True, slots=True)
class Line:
    """number: counted from 1, as editors do. body: of a chat request, never streamed."""

    number: int
    body: dict[str, Any]

    @property
    def input_tokens(self) -> int:
        """Estimated, as the gateway does it."""
        return estimate_tokens("\n".join(_text(message) for message in self.body["messages"]))

    @property
    def output_limit_tokens(self) -> int:
        """The longest answer there can be: what the line says, or what the gateway asks for else."""
        limit = self.body.get("max_completion_tokens") or self.body.get("max_tokens")
        return limit if isinstance(limit, int) else DEFAULT_OUTPUT_TOKENS


@dataclass(frozen=True, slots=True)
class Problem:
    """number: the line's."""

    number: int
    reason: str


def read_lines(texts: Iterable[str]) -> tuple[list[Line], list[Problem]]:
    """Each line is `{"prompt": "…"}`, a chat request, broken, or blank; blank ones count for nothing."""
    lines: list[Line] = []
    broken: list[Problem] = []
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        read = _read(number, text)
        if isinstance(read, Line):
            lines.append(read)
        else:
            broken.append(read)
    return lines, broken


def _read(number: int, text: str) -> Line | Problem:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return Problem(number, "not JSON")
    if not isinstance(parsed, dict):
        return Problem(number, "not an object")
    body = {name: value for name, value in parsed.items() if name not in ("prompt", "stream", "stream_options")}
    prompt, messages = parsed.get("prompt"), parsed.get("messages")
    if isinstance(prompt, str) and prompt.strip() and messages is None:
        return Line(number, {**body, "messages": [{"role": "user", "content": prompt}]})
    if isinstance(messages, list) and messages and all(isinstance(message, dict) for message in messages):
        return Line(number, body)
    return Problem(number, "neither a 'prompt' nor 'messages'")


def most_usd(line: Line, routed: Mapping[str, Any]) -> float | None:
    """With the first model of a route as `/v1/route` tells it, an answer as long as allowed; None without prices."""
    first = (routed.get("candidates") or [{}])[0]
    input_usd, output_usd = first.get("input_usd_per_million"), first.get("output_usd_per_million")
    if not isinstance(input_usd, int | float) or not isinstance(output_usd, int | float):
        return None
    return (line.input_tokens * input_usd + line.output_limit_tokens * output_usd) / 1_000_000


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""

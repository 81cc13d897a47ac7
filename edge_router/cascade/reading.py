"""What the verifier reads of a request and of an answer."""

from collections.abc import Mapping
from typing import Any

from ..requests import ChatRequest
from .verifier import Asked, Said


def asked_of(request: ChatRequest) -> Asked:
    wanted, schema = request.response_format, None
    if wanted is not None and wanted.type != "text":
        schema = (wanted.json_schema.json_schema if wanted.json_schema else None) or {}
    return Asked(
        question=request.last_user_text,
        instructions="\n".join(each.text for each in request.messages if each.role in ("system", "developer")),
        schema=schema,
        has_limit=request.output_limit_tokens is not None or bool(request.stop),
    )


def said_of(completion: Mapping[str, Any]) -> Said:
    """The first choice of a `chat.completion` that was checked before."""
    choice = completion["choices"][0]
    message = choice["message"]
    return Said(
        text=message.get("content") or "",
        finish_reason=str(choice.get("finish_reason") or "stop"),
        refusal=message.get("refusal") or "",
        calls_tools=bool(message.get("tool_calls")),
        log_probabilities=_log_probabilities(choice.get("logprobs")),
    )


def _log_probabilities(logprobs: object) -> list[float]:
    tokens = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    values = [token.get("logprob") for token in tokens or () if isinstance(token, Mapping)]
    return [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]

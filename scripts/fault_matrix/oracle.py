"""What the simulated models say when nothing goes wrong, computed without asking anybody. Pure."""

from typing import Any

from edge_router.catalog import DEFAULT_MODELS
from edge_router.workers_ai import DEFAULT_OUTPUT_TOKENS
from scripts.fault_matrix.cases import Case
from scripts.local.ai_catalog import MODELS as AI_MODELS
from scripts.local.faulty_response import HUGE_CHUNK_BYTES, TINY_CHUNK_COUNT
from scripts.local.simulated_chat import chat_task, completed

_TOLD_NOT_TO_THINK = {model.id for model in DEFAULT_MODELS if model.thinks}


def complete_answers(case: Case, prompt: str, model: str) -> tuple[str, ...]:
    """Every text that is a whole answer of the model; more than one where the fault itself makes up a text."""
    tokens = _tokens(case.plain_body(prompt), model)
    whole = "".join(tokens)
    if case.mode == "stream" and case.fault.kind == "huge-chunk":
        return whole, "x" * HUGE_CHUNK_BYTES + "".join(tokens[1:])
    if case.mode == "stream" and case.fault.kind == "tiny-chunks":
        return whole, "t" * TINY_CHUNK_COUNT
    return (whole,)


def whole_answer(body: dict[str, Any], model: str) -> str:
    """What the model says to a plain request."""
    return "".join(_tokens(body, model))


def _tokens(body: dict[str, Any], model: str) -> list[str]:
    at_edge = AI_MODELS.get(model)
    limit = {"max_tokens": DEFAULT_OUTPUT_TOKENS} if at_edge else {}
    thinks = at_edge is not None and at_edge.is_thinking and model not in _TOLD_NOT_TO_THINK
    return completed(chat_task({**limit, **body}, model=model, is_thinking=thinks)).tokens

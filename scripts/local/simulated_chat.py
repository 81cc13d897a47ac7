"""What a simulated model does with one chat request: prose, JSON or a tool call, within its token limit."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from scripts.local.simulated_json import minimal_instance
from scripts.local.simulated_text import bad_answer, simulated_answer, simulated_reasoning, tokens_of

TOKENS_PER_MESSAGE = 4  # role and separators, as in OpenAI's own counting recipe
FREE_JSON = {
    "type": "object",
    "properties": {"simulated": {"const": True}, "model": {"type": "string"}, "answer": {"type": "string"}},
}


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChatTask:
    """One request, reduced to what the answer depends on. input_tokens: of all messages."""

    model: str
    prompt: str
    input_tokens: int
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    json_schema: dict[str, Any] | None = None
    tool: Tool | None = None
    is_thinking: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """One choice. tokens: of the content, or of the tool call's arguments when `tool_name` is set."""

    tokens: list[str]
    finish_reason: Literal["stop", "length", "tool_calls"]
    reasoning_tokens: list[str]
    tool_name: str | None = None
    tool_call_id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}")

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def output_tokens(self) -> int:
        return len(self.tokens) + len(self.reasoning_tokens)


def chat_task(body: dict[str, Any], *, model: str, is_thinking: bool = False) -> ChatTask:
    """The task in an OpenAI chat body, or in Workers AI's native inputs, which differ in details only."""
    messages = body.get("messages") or [{"role": "user", "content": body.get("prompt", "")}]
    prompt = "\n".join(f"{message.get('role')}: {content_text(message)}" for message in messages)
    stop = body.get("stop") or ()
    limit = body.get("max_completion_tokens")
    return ChatTask(
        model=model,
        prompt=prompt,
        input_tokens=len(tokens_of(prompt)) + TOKENS_PER_MESSAGE * len(messages),
        max_tokens=body.get("max_tokens") if limit is None else limit,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        json_schema=_wanted_schema(body.get("response_format")),
        tool=_wanted_tool(body),
        is_thinking=is_thinking,
    )


def completed(task: ChatTask, *, choice_index: int = 0, fault_kind: str = "") -> Outcome:
    """The answer to the task; the same each time, another one for each choice.

    fault_kind: one of `bad-…` gives an answer of that kind.
    """
    bad = bad_answer(fault_kind, task.prompt, task.model)
    if bad is not None:
        return _within(Outcome(tokens_of(bad), "stop", []), task.max_tokens)
    seed = task.prompt if choice_index == 0 else f"{task.prompt}\n#{choice_index}"
    reasoning = tokens_of(simulated_reasoning(seed, task.model)) if task.is_thinking else []
    if task.tool is not None:
        text = json.dumps(minimal_instance(task.tool.parameters))
        outcome = Outcome(tokens_of(text), "tool_calls", reasoning, task.tool.name)
    elif task.json_schema is not None:
        outcome = Outcome(tokens_of(json.dumps(minimal_instance(task.json_schema))), "stop", reasoning)
    else:
        text = _until_stop(simulated_answer(seed, task.model), task.stop)
        outcome = Outcome(tokens_of(text), "stop", reasoning)
    return _within(outcome, task.max_tokens)


def usage(input_tokens: int, outcomes: Sequence[Outcome], *, cached_tokens: int = 0) -> dict[str, Any]:
    output_tokens = sum(outcome.output_tokens for outcome in outcomes)
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": sum(len(outcome.reasoning_tokens) for outcome in outcomes)},
    }


def content_text(message: dict[str, Any]) -> str:
    """A message's text, whether its content is a string, a list of parts or missing."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(str(part.get("text", f"[{part.get('type')}]")) for part in content)
    return json.dumps(message["tool_calls"]) if message.get("tool_calls") else ""


def _within(outcome: Outcome, max_tokens: int | None) -> Outcome:
    if max_tokens is None or outcome.output_tokens <= max_tokens:
        return outcome
    reasoning = outcome.reasoning_tokens[:max_tokens]
    left = max_tokens - len(reasoning)
    return replace(outcome, tokens=outcome.tokens[:left], finish_reason="length", reasoning_tokens=reasoning)


def _until_stop(text: str, stop: tuple[str, ...]) -> str:
    ends = [position for each in stop if each and (position := text.find(each)) >= 0]
    return text[: min(ends)] if ends else text


def _wanted_schema(response_format: Any) -> dict[str, Any] | None:
    """OpenAI nests the schema under json_schema.schema; Workers AI's native models take it directly."""
    if not isinstance(response_format, dict):
        return None
    if response_format.get("type") == "json_object":
        return FREE_JSON
    if response_format.get("type") == "json_schema":
        described = response_format.get("json_schema") or {}
        schema = described.get("schema", described) if isinstance(described, dict) else None
        return schema if isinstance(schema, dict) else FREE_JSON
    return None


def _wanted_tool(body: dict[str, Any]) -> Tool | None:
    """The tool that tool_choice forces; a model that may choose answers with text."""
    # OpenAI wraps a tool in {"type": "function", "function": ...}; native models take it flat as well.
    functions = [tool.get("function", tool) for tool in body.get("tools") or []]
    choice = body.get("tool_choice")
    if choice in ("required", "any"):
        chosen = functions[:1]
    elif isinstance(choice, dict):
        name = choice.get("function", choice).get("name")
        chosen = [function for function in functions if function.get("name") == name]
    else:
        return None
    if not chosen:
        return None
    return Tool(str(chosen[0].get("name")), chosen[0].get("parameters") or {"type": "object"})

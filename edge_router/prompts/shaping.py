"""What a prompt becomes before it is looked up, routed and sent, by what its sender or tenant asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ..chat_call import ChatCall
from ..deciding import Decider
from ..requests import parse_chat
from ..tokens import estimate_tokens
from .optimizer import optimize
from .rules import OutputRule, PromptRules, constraint_of, level_of
from .window import INSTRUCTIONS, fit

NO_RULES: Final = PromptRules()
_ITS_OWN = ("response_format", "tools", "functions")  # requests with one of these form their answers themselves


@dataclass(slots=True)
class _Shaping:
    """A body that is being changed, and what was done to it."""

    body: dict[str, Any]
    facts: dict[str, Any]

    @property
    def messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = self.body["messages"]
        return messages

    def instruct(self, text: str) -> None:
        """Adds to the first instructions, or makes some."""
        for i, message in enumerate(self.messages):
            if message.get("role") in INSTRUCTIONS and isinstance(message.get("content"), str):
                self.messages[i] = {**message, "content": f"{message['content']}\n\n{text}"}
                return
        self.messages.insert(0, {"role": "system", "content": text})


class PromptTools:
    """Scope: isolate; holds no state of a request."""

    def __init__(self, decider: Decider) -> None:
        self._decider = decider

    def shape(self, call: ChatCall) -> ChatCall:
        """The same call with another body and a report that says how. Raises RequestRejected when nothing fits."""
        rules, request = call.tenant.prompts or NO_RULES, call.request
        shaping = _Shaping({**call.body, "messages": list(call.body["messages"])}, {})
        if rules.optimize if request.optimize_prompt is None else request.optimize_prompt:
            _optimize(shaping)
        if rules.system_prompts and not any(m.get("role") in INSTRUCTIONS for m in shaping.messages):
            level = level_of(self._decider.complexity_of(call), self._decider.thresholds_for(call.tenant.id))
            if level in rules.system_prompts:
                shaping.instruct(rules.system_prompts[level])
                shaping.facts["system_prompt"] = level
        if rules.output and not any(call.body.get(name) for name in _ITS_OWN):
            _constrain(shaping, rules.output, limited=request.output_limit_tokens is not None)
        if rules.fit_context if request.fit_context is None else request.fit_context:
            self._fit(shaping, call, rules)
        if not shaping.facts:
            return call
        call.report.prompt = shaping.facts
        again = parse_chat(shaping.body).model_copy(update={"residency": request.residency})
        return replace(call, body=shaping.body, request=again)

    def _fit(self, shaping: _Shaping, call: ChatCall, rules: PromptRules) -> None:
        reserved = call.limit_tokens + sum(
            estimate_tokens(str(shaping.body[name])) for name in ("tools", "functions") if shaping.body.get(name)
        )
        budget = self._decider.window_tokens(call) - reserved
        if rules.max_input_tokens is not None:
            budget = min(budget, rules.max_input_tokens)
        fitted = fit(shaping.messages, budget_tokens=budget)
        if fitted.dropped or fitted.cut:
            shaping.body["messages"] = fitted.messages
            shaping.facts |= {"dropped_messages": fitted.dropped, "cut_messages": fitted.cut}


def _optimize(shaping: _Shaping) -> None:
    """What users and instructions say; earlier answers and results of tools stay as they are."""
    before = after = 0
    for i, message in enumerate(shaping.messages):
        if message.get("role") not in ("user", *INSTRUCTIONS):
            continue
        content = message["content"]
        if isinstance(content, str):
            shorter = optimize(content)
            shaping.messages[i] = {**message, "content": shorter.text}
            before, after = before + shorter.original_tokens, after + shorter.optimized_tokens
        else:
            parts = [_optimized_part(part) for part in content]
            shaping.messages[i] = {**message, "content": [part for part, _, _ in parts]}
            before, after = before + sum(b for _, b, _ in parts), after + sum(a for _, _, a in parts)
    shaping.facts["original_tokens"], shaping.facts["optimized_tokens"] = before, after
    shaping.facts["saved_percent"] = round(100 * (before - after) / max(1, before), 1)


def _optimized_part(part: Mapping[str, Any]) -> tuple[Mapping[str, Any], int, int]:
    text = part.get("text")
    if part.get("type") != "text" or not isinstance(text, str):
        return part, 0, 0
    shorter = optimize(text)
    return {**part, "text": shorter.text}, shorter.original_tokens, shorter.optimized_tokens


def _constrain(shaping: _Shaping, rule: OutputRule, *, limited: bool) -> None:
    """What the request says itself stays."""
    constraint = constraint_of(rule)
    for name, value in constraint.fields.items():
        if not (name == "max_tokens" and limited) and shaping.body.get(name) is None:
            shaping.body[name] = value
    shaping.instruct(constraint.instruction)
    shaping.facts["output"] = constraint.name

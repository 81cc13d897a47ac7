"""What was agreed with a tenant about its prompts: the field `prompts` of its key record. docs/prompts.md"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..complexity import Thresholds

Level = Literal["simple", "medium", "complex"]
WORD_TOKENS = 1.6  # of an answer, with room for long words
BULLET_TOKENS = 60
SPARE_TOKENS = 8

_Prompt = Annotated[str, Field(min_length=1, max_length=8000)]
_Label = Annotated[str, Field(pattern=r"^[^\n\"]{1,64}$")]


class OutputRule(BaseModel):
    """How answers are to be limited; one of the three. as_json: labels as `{"label": …}` by a schema."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: Annotated[tuple[_Label, ...], Field(min_length=2, max_length=50)] | None = None
    max_bullets: Annotated[int, Field(ge=1, le=50)] | None = None
    max_words: Annotated[int, Field(ge=1, le=5000)] | None = None
    as_json: bool = False

    @model_validator(mode="after")
    def _one_of_them(self) -> "OutputRule":
        given = [name for name in ("labels", "max_bullets", "max_words") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("one of labels, max_bullets and max_words")
        if self.as_json and self.labels is None:
            raise ValueError("as_json goes with labels")
        return self


class PromptRules(BaseModel):
    """system_prompts: by how complex a question is, for requests that bring none of their own.
    max_input_tokens: what a conversation is fitted into, when that is less than the model's window.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    optimize: bool = False
    fit_context: bool = False
    max_input_tokens: Annotated[int, Field(ge=64, le=10_000_000)] | None = None
    system_prompts: dict[Level, _Prompt] | None = None
    output: OutputRule | None = None


@dataclass(frozen=True, slots=True)
class Constraint:
    """What an output rule adds to a request: fields of its body, and a line of instruction."""

    name: str
    fields: Mapping[str, Any]
    instruction: str


def level_of(complexity: float, thresholds: Thresholds) -> Level:
    """As the router would send it: to the small edge model, to what lies between, to the best."""
    if complexity < thresholds.edge_large:
        return "simple"
    return "complex" if complexity >= thresholds.cloud_quality else "medium"


def constraint_of(rule: OutputRule) -> Constraint:
    """`stop` is only for models of OpenAI's shape, so that it is left out where the limit does without."""
    if rule.labels is not None:
        return _labels(rule.labels, rule.as_json)
    if rule.max_bullets is not None:
        most = rule.max_bullets
        return Constraint(
            "max_bullets",
            {"max_tokens": most * BULLET_TOKENS + SPARE_TOKENS, "stop": [f"\n{most + 1}."]},
            f"Answer as a numbered list of at most {most} short points, nothing else.",
        )
    most = rule.max_words or 1
    limit = round(most * WORD_TOKENS) + SPARE_TOKENS
    return Constraint("max_words", {"max_tokens": limit}, f"Answer in at most {most} words.")


def _labels(labels: tuple[str, ...], as_json: bool) -> Constraint:
    longest = max(len(label) for label in labels)
    if not as_json:
        line = f"Answer with exactly one of these labels and nothing else: {', '.join(labels)}"
        return Constraint("labels", {"max_tokens": longest + SPARE_TOKENS}, line)
    schema = {
        "type": "object",
        "properties": {"label": {"type": "string", "enum": list(labels)}},
        "required": ["label"],
        "additionalProperties": False,
    }
    response_format = {"type": "json_schema", "json_schema": {"name": "label", "strict": True, "schema": schema}}
    fields = {"max_tokens": longest + 2 * SPARE_TOKENS, "response_format": response_format}
    return Constraint("labels", fields, "Answer with the label that fits best.")

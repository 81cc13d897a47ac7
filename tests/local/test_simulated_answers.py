"""Simulated text, JSON and prompt cache: repeatable, about the prompt, quick."""

import json
from typing import Any

import pytest

from scripts.local.prompt_cache import PromptCache
from scripts.local.simulated_chat import chat_task, completed
from scripts.local.simulated_json import minimal_instance
from scripts.local.simulated_text import simulated_answer, tokens_of

PROMPT = "Tell me about volcanoes in Iceland"
LONG_PROMPT = "Explain in detail how glaciers and volcanoes interact in Iceland"


def test_text_depends_on_prompt_and_model_only() -> None:
    answer = simulated_answer(PROMPT, "m")

    assert answer == simulated_answer(PROMPT, "m")
    assert answer != simulated_answer(PROMPT, "other")
    assert answer != simulated_answer(PROMPT + "?", "m")


def test_text_says_that_it_is_simulated_and_speaks_of_the_prompt() -> None:
    answer = simulated_answer(PROMPT, "m")

    assert answer.startswith("[simulated answer by m] ")
    assert "volcanoes" in answer.lower()
    assert "iceland" in answer.lower()


def test_text_has_a_real_answers_length() -> None:
    """About 40 to 150 tokens, and more when the prompt asks for an explanation."""
    short = [len(tokens_of(simulated_answer(f"{PROMPT} {i}", "m"))) for i in range(50)]
    long = [len(tokens_of(simulated_answer(f"{LONG_PROMPT} {i}", "m"))) for i in range(50)]

    assert min(short) >= 40
    assert max(short) <= 180
    assert min(long) > sum(short) / len(short)
    assert max(long) <= 300


def test_some_texts_have_multi_byte_characters() -> None:
    texts = [simulated_answer(f"{PROMPT} {i}", "m") for i in range(20)]

    assert any(not text.isascii() for text in texts)


@pytest.mark.parametrize("text", [simulated_answer(PROMPT, "m"), "", "a\n\nb  c\t—é😀", '{"a": [1, 2.5]}'])
def test_tokens_join_to_the_text(text: str) -> None:
    assert "".join(tokens_of(text)) == text


def test_an_odd_prompt_gets_an_answer() -> None:
    """No words, a lone surrogate, format braces."""
    for prompt in ("", "??", "\ud800 {0} {name}"):
        assert len(tokens_of(simulated_answer(prompt, "m"))) > 20


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        pytest.param({"type": "string"}, "simulated", id="string"),
        pytest.param({"type": "string", "minLength": 12, "maxLength": 12}, "simulated...", id="length"),
        pytest.param({"type": "string", "format": "date"}, "2026-01-01", id="format"),
        pytest.param({"type": "integer", "minimum": 18}, 18, id="minimum"),
        pytest.param({"type": "integer", "exclusiveMinimum": 18}, 19, id="exclusive minimum"),
        pytest.param({"type": "number", "maximum": -2}, -2, id="maximum"),
        pytest.param({"type": "integer", "minimum": 7, "multipleOf": 5}, 10, id="multiple"),
        pytest.param({"enum": ["red", "blue"]}, "red", id="enum"),
        pytest.param({"const": 3}, 3, id="const"),
        pytest.param({"type": ["null", "boolean"]}, True, id="union"),
        pytest.param({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [True, True], id="array"),
        pytest.param({"anyOf": [{"type": "null"}, {"type": "string"}]}, None, id="any of"),
        pytest.param({"$ref": "#/$defs/a", "$defs": {"a": {"const": 1}}}, 1, id="reference"),
        pytest.param(
            {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["b"]},
            {"a": None, "b": "simulated b"},
            id="object",
        ),
        pytest.param(
            {"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]},
            {"a": 1, "b": 2},
            id="all of",
        ),
    ],
)
def test_minimal_instance(schema: dict[str, Any], expected: Any) -> None:
    """The instance has everything the schema names and no more than it needs."""
    assert minimal_instance(schema) == expected


def test_a_recursive_schema_ends() -> None:
    node = {"type": "object", "properties": {"child": {"$ref": "#"}, "children": {"items": {"$ref": "#"}}}}

    assert json.dumps(minimal_instance(node))


def test_each_choice_is_another_answer() -> None:
    task = chat_task({"messages": [{"role": "user", "content": PROMPT}]}, model="m")

    assert completed(task, choice_index=0).text != completed(task, choice_index=1).text


def test_thinking_uses_up_the_token_limit() -> None:
    """Reasoning comes first, so a small limit leaves no content, as with the real thinking models."""
    task = chat_task({"prompt": PROMPT, "max_tokens": 5}, model="m", is_thinking=True)

    outcome = completed(task)

    assert (len(outcome.reasoning_tokens), outcome.tokens, outcome.finish_reason) == (5, [], "length")


def test_prompt_cache_counts_the_repeated_prefix_in_steps_of_128() -> None:
    """From 1,024 tokens on; another model's prompts do not count."""
    cache = PromptCache()
    prefix = "word " * 1100

    assert cache.seen("m", prefix + "one") == 0
    assert cache.seen("m", prefix + "two") == 1024
    assert cache.seen("other", prefix) == 0
    assert cache.seen("m", "short") == 0


@pytest.mark.parametrize("kind", ["bad-refusal", "bad-blank", "bad-half", "bad-loop", "bad-unsure"])
def test_bad_answers_end_like_good_ones(kind: str) -> None:
    """Only the text tells: the finish reason is `stop`, and the same prompt gives the same answer."""
    task = chat_task({"messages": [{"role": "user", "content": "What are tides?"}]}, model="m")

    outcome = completed(task, fault_kind=kind)

    assert outcome.finish_reason == "stop"
    assert outcome.text == completed(task, fault_kind=kind).text != completed(task).text

"""What scripts/ask takes from a file."""

import pytest

from scripts.asking.prompts import BrokenLine, Prompt, read_prompts


def test_each_line_is_one_prompt() -> None:
    """Other fields are passed over, blank lines count for nothing, lines keep the numbers an editor shows."""
    prompts, broken = read_prompts(['{"id": 7, "prompt": "What is a colo?"}\n', "\n", '{"prompt": "¿Qué?"}'])

    assert prompts == [Prompt(1, "What is a colo?"), Prompt(3, "¿Qué?")]
    assert broken == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param('{"prompt": "cut', "not JSON", id="cut off"),
        pytest.param("[" * 100_000, "not JSON", id="nested too deeply"),
        pytest.param('["prompt"]', "not an object", id="an array"),
        pytest.param('{"text": "hello"}', "no 'prompt'", id="another field"),
        pytest.param('{"prompt": 3}', "'prompt' is not a text", id="a number"),
        pytest.param('{"prompt": "  "}', "'prompt' is not a text", id="white space"),
    ],
)
def test_broken_line(line: str, reason: str) -> None:
    """A line that holds no prompt is named with its number, and the others are still read."""
    prompts, broken = read_prompts(['{"prompt": "one"}', line, '{"prompt": "three"}'])

    assert broken == [BrokenLine(2, reason)]
    assert [prompt.line for prompt in prompts] == [1, 3]

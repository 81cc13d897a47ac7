"""Which answers show by their text that they are not good enough; examples of both kinds for every check."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.cascade.json_schema import fits
from edge_router.cascade.verifier import Asked, Check, Said, verify, verify_beginning

Q = "What causes tides?"
A = "Tides are caused mainly by the gravity of the moon, and to a lesser extent by that of the sun."
LOOP = "The moon pulls on the water of the sea. " * 8
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "tags": {"items": {"enum": ["a", "b"]}}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
LONG = "The tide rises and falls twice a day in most places, which sailors have known for a very long time. " * 1 + (
    "Where a bay is narrow the difference between high and low water can be more than fifteen metres. "
)

REJECTED: list[tuple[Check, str, str]] = [
    ("empty", Q, ""),
    ("empty", Q, " \n\t "),
    ("empty", Q, "..."),
    ("empty", Q, "```\n```"),
    ("refusal", Q, "I'm sorry, but I can't assist with that request."),
    ("refusal", Q, "I’m sorry, but I can’t help with that."),
    ("refusal", Q, "Sorry, I am not able to provide that information. Please ask something else."),
    ("refusal", Q, "I cannot answer this question."),
    ("refusal", Q, "Unfortunately, I'm unable to directly access that document."),
    ("refusal", Q, "I can't do that, but I can tell you a joke."),
    ("refusal", Q, "I apologize, but I cannot fulfill this request. " + LONG * 3),
    ("boilerplate", Q, "As an AI language model, I do not experience tides."),
    ("boilerplate", Q, "Well, as a large language model I was not made for this."),
    ("boilerplate", Q, "I am an AI and can say little about water."),
    ("boilerplate", Q, "According to my knowledge cutoff, tides were still there."),
    ("uncertain", Q, "I'm not sure. It could be the wind."),
    ("uncertain", Q, "I don't know."),
    ("uncertain", Q, "Sorry, I do not have enough information."),
    ("uncertain", Q, "It might be the moon, but I am not entirely sure."),
    ("repetition", Q, LOOP),
    ("repetition", Q, f"{A} {LONG}" + "and then and then " * 12),
    ("repetition", Q, "water " * 60),
    ("repetition", Q, f"{A}\n" + "- The moon pulls the sea towards it\n" * 9),
    ("format", "What is the capital of France? Answer in one word.", "The capital of France is the city of Paris."),
    ("format", "Is the moon a planet? Answer yes or no.", "The moon orbits the earth."),
    ("format", "Is the moon a planet? (yes/no)", "The moon orbits the earth."),
    ("format", "How many moons has Mars? Reply with only a number.", "Mars has several small moons."),
    ("format", "Write a loop in Python. Only code.", "You can use a loop that goes over the items one by one"),
    ("format", "Who wrote Faust? Respond in JSON.", "Goethe wrote Faust."),
    ("format", "List five causes of tides.", "1. The moon\n2. The sun\n3. The wind"),
    ("format", "Give me 10 tips for better sleep", "1. Go to bed early.\n2. No screens.\n"),
    ("truncated", "Write a loop in Python", "Here it is:\n```python\nfor item in items:\n"),
    ("truncated", Q, LONG + LONG + "That is why sailors look at the"),
    ("truncated", Q, LONG + LONG + "That is why sailors, fishermen,"),
    ("language", Q, "潮汐主要是由月球的引力引起的，太阳的引力也起到一定的作用，海水因此每天涨落两次。"),
    ("language", "Что вызывает приливы и отливы на море?", A),
    ("language", "What is the cause of the tides in the sea, and how often do they come?",
     "Die Gezeiten werden von dem Mond und der Sonne verursacht, und sie kommen zwei Mal am Tag. Das ist nicht auf"
     " allen Meeren gleich."),
    ("language", "Quelle est la cause des marées dans la mer, et comment est-ce que la lune agit sur elles ?",
     "The cause of the tides is the gravity of the moon and of the sun, and it is strongest when they are in line."),
]  # fmt: skip

ACCEPTED: list[tuple[str, str]] = [
    (Q, A),
    (Q, LONG * 3),
    ("What symbol stands for addition?", "+"),
    ("How do you feel in one emoji?", "🙂"),
    ("2 + 2?", "4"),
    ("What is 6 x 7?", "42."),
    ("Who said it?", '"Et tu, Brute?"'),
    ("What do cats eat?", "I could not help but notice that you like cats! They eat meat."),
    ("Is it legal to fish here?", "I can't give legal advice, but in general you need a licence. " + LONG * 2),
    ("Write an email that declines an invitation.", "Dear Ann,\nI'm sorry, but I can't attend. " + LONG * 2),
    ("How do I politely refuse?", 'Say: "I\'m sorry, but I can\'t help with that." ' + LONG),
    ("What can penguins not do?", "They cannot fly. We cannot provide them with wings either."),
    ("Are you an AI?", "Yes, I am an AI."),
    ("What is your favourite colour?", "As an AI, I don't have one, but blue is liked by most people."),
    ("What is a language model?", "As a large language model shows, text can be predicted word by word."),
    ("What did the boy say in the story?", "I don't know, he said, and went on."),
    ("Name a song by Oasis", "I'm not sure if you mean the band, but " + LONG * 2),
    ("What is known about dark matter?", "It is not known what it is made of. " + LONG * 2),
    ("Repeat the word water ten times", "water " * 10),
    ("Write the lyrics of a chant", "We will rock you! " * 20),
    ("Compare the plans", "| plan | price |\n| --- | --- |\n" + "| basic | 10 |\n" * 12),
    ("Show a matrix of zeros", "```\n" + "0 0 0 0\n" * 20 + "```\nThat is all."),
    ("What is the capital of France? Answer in one word.", "**Paris**"),
    ("What is the capital of France? Answer in one word.", "Answer: Paris."),
    ("Describe each season in one word.", "Spring: new. Summer: hot. Autumn: gold. Winter: cold."),
    ("Is the moon a planet? Answer yes or no.", "No, it is a satellite."),
    ("Is the moon a planet? Answer yes or no and explain.", "The moon is not a planet."),
    ("How many moons has Mars? Reply with only a number.", "Two"),
    ("How many moons has Mars? Reply with only a number.", "2"),
    ("Write a loop in Python. Only code.", "for item in items: print(item)"),
    ("Who wrote Faust? Respond in JSON.", '{"author": "Goethe"}'),
    ("List five causes of tides.", "1. Moon\n2. Sun\n3. Wind\n4. Pressure\n5. Currents"),
    ("List five causes of tides.", "The moon, the sun, the wind, air pressure and currents."),
    ("List 3 ideas in 2 words", "1. One two\n2. Three four\n3. Five six"),
    ("Give me 2-3 examples", "1. The moon"),
    ("Write two paragraphs about tides", "1. " + LONG),
    ("Write a loop", "```python\nfor item in items:\n    print(item)\n```"),
    ("List the planets", LONG + LONG + "\n- Mercury\n- Venus\n- Earth"),
    ("Translate 'good morning' into Chinese", "早上好，这是早晨问候别人时最常用的说法，也可以只说早或者您早。"),
    ("把这句话翻译成英文：潮汐是由月亮引起的", A),
    ("写一封英文邮件给客户，说明发货延迟的原因", "Dear customer, " + A),
    ("What is the German word for tide?", "Das Wort ist die Gezeit, und es wird nicht oft in der Einzahl gebraucht."),
    ("print hello world in python please", "```python\nprint('hello world')\n```"),
    ("Что такое HTTP?", "HTTP"),
    ("What does the word 潮汐 mean?", "It means tide: the rise and fall of the sea."),
    ("ok", "Bien sûr, je vous en prie, et n'hésitez pas à poser une autre question si vous en avez une."),
]  # fmt: skip


@pytest.mark.parametrize(("check", "question", "answer"), REJECTED)
def test_answer_that_shows_its_fault(check: Check, question: str, answer: str) -> None:
    """It is rejected, by the check that names the fault."""
    assert verify(Asked(question), Said(answer)) == check


@pytest.mark.parametrize(("question", "answer"), ACCEPTED)
def test_answer_that_shows_no_fault(question: str, answer: str) -> None:
    """It passes, however it may look at first sight; so does its beginning."""
    assert verify(Asked(question), Said(answer)) is None
    assert verify_beginning(Asked(question), answer)[0] is None


@pytest.mark.parametrize(
    ("asked", "said", "check"),
    [
        pytest.param(Asked(Q), Said(A, finish_reason="length"), "truncated", id="our limit"),
        pytest.param(Asked(Q, has_limit=True), Said(A, finish_reason="length"), None, id="the caller's limit"),
        pytest.param(Asked(Q, has_limit=True), Said(LONG * 3 + "and the"), None, id="the caller's stop word"),
        pytest.param(Asked(Q), Said("", refusal="No."), "refusal", id="OpenAI's refusal"),
        pytest.param(Asked(Q), Said("Some", finish_reason="content_filter"), "refusal", id="filtered"),
        pytest.param(Asked(Q), Said("", calls_tools=True), None, id="a tool call needs no text"),
        pytest.param(
            Asked("Tell me about tides.", "Always answer in German, whatever the user speaks."),
            Said("Die Gezeiten werden von dem Mond und der Sonne verursacht, und das ist nicht überall gleich."),
            None,
            id="the instructions ask for another language",
        ),
        pytest.param(Asked(Q), Said(A, log_probabilities=[-0.1, -0.2, -2.5]), None, id="likely words"),
        pytest.param(Asked(Q), Said(A, log_probabilities=[-1.5, -0.9]), "log-probability", id="unlikely on the mean"),
        pytest.param(Asked(Q), Said(A, log_probabilities=[-15.0] + [-0.1] * 99), "log-probability", id="one slip"),
    ],
)  # fmt: skip
def test_what_is_known_besides_the_text(asked: Asked, said: Said, check: Check | None) -> None:
    """How the answer ended, what limits were set and how likely the model found its words count as well."""
    assert verify(asked, said) == check


@pytest.mark.parametrize(
    ("schema", "text", "is_fit"),
    [
        ({}, '{"any": "object"}', True),
        ({}, "[1]", False),
        ({}, "Sure! Here is the JSON.", False),
        ({}, '{"cut": ', False),
        ({}, '```json\n{"a": 1}\n```', False),
        (SCHEMA, '{"name": "Ann", "age": 3, "tags": ["a"]}', True),
        (SCHEMA, '{"name": "Ann", "age": 3.0}', True),
        (SCHEMA, '{"name": "Ann"}', False),
        (SCHEMA, '{"name": "Ann", "age": "3"}', False),
        (SCHEMA, '{"name": "Ann", "age": true}', False),
        (SCHEMA, '{"name": "Ann", "age": 3, "more": 1}', False),
        (SCHEMA, '{"name": "Ann", "age": 3, "tags": ["c"]}', False),
        (SCHEMA, '{"name": null, "age": 3}', False),
        ({"type": "array", "items": {"type": ["integer", "null"]}}, "[1, null]", True),
        ({"type": "array", "items": {"type": ["integer", "null"]}}, "[1, 0.5]", False),
        ({"type": "no such type"}, '{"a": 1}', True),
        ({"$ref": "#/nowhere", "required": [1], "properties": 7}, '{"a": 1}', True),
    ],
)
def test_json_that_was_asked_for(schema: dict[str, Any], text: str, is_fit: bool) -> None:
    """It must be JSON, an object at least, with the schema's keys and types; what is not understood fits."""
    assert verify(Asked(Q, schema=schema), Said(text)) == (None if is_fit else "json")


def test_json_that_the_callers_limit_cut() -> None:
    """That is what the caller asked for."""
    assert verify(Asked(Q, schema={}, has_limit=True), Said('{"a": ', finish_reason="length")) is None


@pytest.mark.parametrize(
    ("asked", "text", "expected"),
    [
        pytest.param(Asked(Q), "I'm sor", (None, False), id="too little"),
        pytest.param(Asked(Q), "I'm sorry, but I can't help", ("refusal", False), id="a refusal begins"),
        pytest.param(Asked(Q), A + LONG, (None, True), id="an answer begins"),
        pytest.param(Asked(Q, schema={}), "Sure, here", ("json", False), id="no JSON"),
        pytest.param(Asked(Q, schema={}), ' {"a": ' + "1" * 500, (None, False), id="JSON is known at its end only"),
        pytest.param(Asked(Q, schema={}), "  ", (None, False), id="nothing yet"),
    ],
)
def test_beginning_of_a_stream(asked: Asked, text: str, expected: tuple[Check | None, bool]) -> None:
    """A refusal shows in the first words; an answer is let go when its first sentence shows nothing."""
    assert verify_beginning(asked, text) == expected


def test_every_check_has_examples() -> None:
    """The closed list is all there is, and all of it is tested."""
    shown = {check for check, _, _ in REJECTED} | {"json", "log-probability"}

    assert shown == set(get_args(Check))


TEXTS = st.one_of(
    st.text(max_size=300),
    st.text(alphabet="ab \n`*|1.,'\"{}[]Iı", max_size=400),
    st.builds(lambda text, times: text * times, st.text(min_size=1, max_size=20), st.integers(1, 400)),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["type", "required", "properties", "items", "enum", "additionalProperties"]), inner, max_size=4
    ),
    max_leaves=12,
)  # fmt: skip


@given(question=TEXTS, instructions=TEXTS, answer=st.one_of(TEXTS, JSON.map(json.dumps)), schema=st.none() | JSON)
def test_any_text_gets_a_verdict(question: str, instructions: str, answer: str, schema: Any) -> None:
    """No question, answer or schema makes a check raise."""
    asked = Asked(question, instructions, schema if isinstance(schema, dict) else None)

    assert verify(asked, Said(answer)) in {None, *get_args(Check)}
    assert verify_beginning(asked, answer)[0] in {None, *get_args(Check)}


@pytest.mark.parametrize(
    ("question", "answer"),
    [(Q, LONG * 500), ("a " * 50_000, "b " * 50_000), ("(" * 50_000, "i" * 50_000), ("```" * 9_000, "`a" * 30_000)],
    ids=["prose", "words", "brackets", "backticks"],
)
def test_long_texts(question: str, answer: str) -> None:
    """Are read within bounds: a pattern that runs away would not end before the test's own timeout."""
    verify(Asked(question, question), Said(answer))


def test_schema_that_is_none() -> None:
    """What is no schema forbids nothing."""
    assert fits({"a": 1}, True)
    assert fits({"a": 1}, {"properties": {"a": True}})

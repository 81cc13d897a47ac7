"""Hard guards of the pair verifier: what differs so that no cosine makes two texts the same question."""

import pytest

from edge_router.semantic.guards import GUARDS, compare
from edge_router.semantic.reading import read


def guard_of(asked: str, stored: str) -> str | None:
    return compare(read(asked), read(stored)).guard


REFUSED = [
    ("number", "How do I cook 2 cups of rice?", "How do I cook 3 cups of rice?"),
    ("number", "Give me five names", "Give me ten names"),
    ("number", "What is 15% of 240?", "What is 25% of 240?"),
    ("number", "What is -7 times 6?", "What is 7 times 6?"),
    ("number", "Install Python 3.10", "Install Python 3.1"),
    ("number", "Who was the second president?", "Who was the third president?"),
    ("number", "Who was the 2nd president?", "Who was the 3rd president?"),
    ("number", "A table for four at seven", "A table for seven at four"),
    ("number", "Mix 1 part vinegar with 3 parts water", "Mix 3 parts vinegar with 1 part water"),
    ("date", "Who won the cup in 2010?", "Who won the cup in 2014?"),
    ("date", "Is it open on Monday?", "Is it open on Tuesday?"),
    ("date", "What happened in March?", "What happened in April?"),
    ("unit", "How much is 10 kg in stones?", "How much is 10 lb in stones?"),
    ("unit", "Bake it at 200 °C", "Bake it at 200 °F"),
    ("unit", "What does £200 buy?", "What does €200 buy?"),
    ("negation", "Can I log in with a password?", "Can I log in without a password?"),
    ("negation", "Why can I see it?", "Why can't I see it?"),
    ("negation", "I want these emails", "I no longer want these emails"),
    ("negation", "Is it safe to eat?", "Is it unsafe to eat?"),
    ("negation", "Is an unkind answer impolite?", "Is a polite answer here?"),
    ("negation", "Are you able to come?", "Are you unable to come?"),
    ("quoted", 'What does "bank" mean?', 'What does "bench" mean?'),
    ("quoted", "What does `git pull` do?", "What does `git push` do?"),
    ("question", "When is the exam?", "Where is the exam?"),
    ("question", "How many users are there?", "Who are the users?"),
    ("target", "Say good morning in French", "Say good morning in German"),
    ("target", "Read a CSV file in Python", "Read a CSV file in Java"),
    ("entity", "What is the capital of Australia?", "What is the capital of Austria?"),
    ("entity", "What does os.path.join do?", "What does os.path.split do?"),
    ("opposite", "Why did sales increase?", "Why did sales decrease?"),
    ("opposite", "Should I buy a house?", "Should I sell a house?"),
    ("direction", "Should I eat before the run?", "Should I eat after the run?"),
    ("direction", "How do I convert Celsius to Fahrenheit?", "How do I convert Fahrenheit to Celsius?"),
    ("direction", "Flights from Boston to Denver", "Flights from Denver to Boston"),
    ("comparison", "Is Python faster than Java?", "Is Java faster than Python?"),
    ("word_order", "Why did the dog bite the man?", "Why did the man bite the dog?"),
    ("word_order", "Can my landlord sue me?", "Can I sue my landlord?"),
]


@pytest.mark.parametrize(("guard", "asked", "stored"), REFUSED)
def test_refused(guard: str, asked: str, stored: str) -> None:
    """Each guard names itself, whichever of the two texts was stored."""
    assert guard_of(asked, stored) == guard
    assert guard_of(stored, asked) == guard


def test_every_guard_is_shown() -> None:
    """The table above has a line for each guard there is."""
    assert {guard for guard, _, _ in REFUSED} == set(GUARDS)


@pytest.mark.parametrize(
    ("asked", "stored"),
    [
        pytest.param("It costs 1,000 dollars", "It costs $1000", id="thousands separator, currency sign"),
        pytest.param("Is 10% enough?", "Is ten percent enough?", id="number words, percent"),
        pytest.param("Who was the 2nd king?", "Who was the second king?", id="ordinals"),
        pytest.param("Is 2.5M a lot?", "Is 2.5 million a lot?", id="millions"),
        pytest.param("It weighs 5kg", "It weighs 5 kilograms", id="unit written together"),
        pytest.param("I cannot log in", "I am unable to log in", id="one negation, said otherwise"),
        pytest.param("In Python, how do I sort a list?", "How do I sort a list in Python?", id="a part moved"),
        pytest.param("What is the capital of France?", "What is France's capital?", id="genitive"),
        pytest.param("Was the dog bitten by the man?", "Did the man bite the dog?", id="passive"),
        pytest.param("What is the reason cats purr?", "Why do cats purr?", id="question word, said otherwise"),
        pytest.param("How old is the king?", "What is the age of the king?", id="question of a measure"),
        pytest.param("What is the difference between a and b?", "How do b and a differ?", id="symmetric"),
        pytest.param("Is the UN useful?", "Is the United Nations useful?", id="acronym"),
        pytest.param("Is OCR useful?", "Is optical character recognition useful?", id="initials"),
        pytest.param("What is a snowplow?", "What is a snow plow?", id="one word or two"),
        pytest.param("What is my colour?", "What is my color?", id="spelling"),
    ],
)
def test_spared(asked: str, stored: str) -> None:
    """Said in another way, still the same question: neither a guard nor a doubt."""
    comparison = compare(read(asked), read(stored))

    assert comparison.guard is None
    assert comparison.doubts == ()


@pytest.mark.parametrize(
    ("doubt", "asked", "stored"),
    [
        ("extra_word", "How do I reset my password?", "How do I reset my bank password?"),
        ("extra_word", "What is A/B testing?", "What is B testing?"),
        ("replaced_word", "how do i cook salmon", "how do i cook tuna"),
        ("preposition", "How do I get to the station?", "How do I get from the station?"),
        ("person", "How old is he?", "How old is she?"),
        ("person", "What is your name?", "What is my name?"),
        ("modal", "Must I pay VAT?", "Can I pay VAT?"),
        ("question", "Why is it blue?", "What is it, blue?"),
        ("tense", "Who is the president?", "Who was the president?"),
        ("extra_number", "Name some kings", "Name 3 kings"),
        ("empty", "What is that?", "Who are you?"),
        ("and_or", "Is it safe to eat eggs and bacon?", "Is it safe to eat eggs or bacon?"),
    ],
)
def test_doubted(doubt: str, asked: str, stored: str) -> None:
    """No guard, but no hit at the default threshold either."""
    assert doubt in compare(read(asked), read(stored)).doubts
    assert doubt in compare(read(stored), read(asked)).doubts

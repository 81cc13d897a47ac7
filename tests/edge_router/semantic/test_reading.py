"""How the pair verifier reads one text."""

import pytest

from edge_router.semantic.reading import Reading, read


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1,000 and 1000", ("1000", "1000")),
        ("twenty five", ("25",)),
        ("2 million", ("2000000",)),
        ("worth 2.5M", ("2500000",)),
        ("$1.50", ("1.5",)),
        ("version 3.10", ("3.10",)),
        ("-5 °C", ("-5",)),
        ("the 2nd and the second", ("#2", "#2")),
        ("at 10:30", ("10:30",)),
        ("one does not", ()),
        ("¾ cup", ("0.75",)),
        ("rooms 3 5 twenty 7", ("3", "5", "27")),
        ("rooms five 300", ("5", "300")),
        ("a--b", ()),
        ("someone's 5 kg", ("5",)),
        ("type two diabetes", ("2",)),
        ("a 5x- zoom", ("5x",)),
        ("5-10", ("5-10",)),
    ],
)
def test_numbers(text: str, numbers: tuple[str, ...]) -> None:
    """Numbers are compared by value, versions and times as they are written; `one` is mostly a person."""
    assert read(text).numbers == numbers


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("What is it?", "what"),
        ("Which one is it?", "what"),
        ("Can you tell me who it was?", "who"),
        ("In Berlin, where can I eat?", "where"),
        ("What is the best way to eat?", "how"),
        ("I want to know why", "why"),
        ("Is it raining?", "yesno"),
        ("How many are there?", "how_many"),
        ("How much does it cost?", "what"),
        ("How old is it?", "what"),
        ("Write a poem", ""),
    ],
)
def test_question(text: str, question: str) -> None:
    """The kind of question, whatever politeness and paraphrase it is wrapped in."""
    assert read(text).question == question


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("In Python, how do I sort a list?", (("in", "python"), ("", "sort", "list"))),
        ("What is the capital of France?", (("", "franc", "capital"),)),
        ("Is Ohio larger than Iowa?", (("", "ohio", "larger"), ("than", "iowa"))),
        ("Is it colder here than in Oslo?", (("", "colder"), ("than in", "oslo"))),
    ],
)
def test_parts(text: str, parts: tuple[tuple[str, ...], ...]) -> None:
    """Parts of a sentence may move; the words inside one may not."""
    assert read(text).parts == parts


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("deleting my accounts", "remove the account"),
        ("sign in", "log into it"),
        ("the tyre's colour", "color of the tire"),
        ("optimisation", "optimization"),
        ("planned", "planning"),
        ("e-mail", "email"),
        ("stopped", "stopping"),
        ("written", "writing"),
    ],
)
def test_same_words(one: str, other: str) -> None:
    """Inflections, spellings and synonyms are one word."""
    assert read(one).bag == read(other).bag


@pytest.mark.parametrize(("one", "other"), [("plan", "plane"), ("niger", "nigeria"), ("iran", "iraq"), ("cod", "code")])
def test_other_words(one: str, other: str) -> None:
    """What only looks alike is not."""
    assert read(one).bag != read(other).bag


def test_names() -> None:
    """Capitals inside a sentence and acronyms are names; a title in capitals names nothing."""
    assert read("Is the Louvre in the US?").names == {"louvr", "usa"}
    assert read("How To Bake A Good Cake At Home").names == frozenset()


def test_remembered() -> None:
    """An asked text meets several candidates and is read once."""
    first: Reading = read("What is remembered?")

    assert read("What is remembered?") is first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("meet at 5 pm", ("meet", "pm_time")),
        ("meet at 5pm", ("meet", "pm_time")),
        ("how hot is °C", ("temperature", "celsius")),
        ("it is o'clock", ("o'clock",)),
        ("a co-worker", read("a coworker").said),
        ("the log-in", read("the login").said),
        ("wake at 5am", ("wake", "am_time")),
    ],
)
def test_odd_words(text: str, said: tuple[str, ...]) -> None:
    """Times, units alone, apostrophes inside words, compounds that are one word."""
    assert read(text).said == said


@pytest.mark.parametrize(
    ("text", "number"), [("hundred five", "105"), ("two hundred five", "205"), ("two hundred", "200")]
)
def test_hundreds(text: str, number: str) -> None:
    assert read(text).numbers == (number,)

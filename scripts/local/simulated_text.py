"""Simulated prose: the same for the same prompt and model, of a real answer's length, about the prompt's words."""

import hashlib
import random
import re

SHORT_SENTENCES = (2, 5)
LONG_SENTENCES = (7, 11)
LONG_PROMPT = re.compile(r"\b(explain|essay|list|describe|compare|detail\w*|story|steps?|write|why|how)\b", re.I)

# Any text is the concatenation of its tokens: a piece of a word with its leading space, or one symbol.
TOKEN = re.compile(r"\s?\w{1,7}|\s?[^\w\s]|\s")
WORD = re.compile(r"[^\W\d_]{4,}")

STOP_WORD = re.compile(
    r"""(?x)
    about| after| also| because| been| before| being| between| both| could| does| each| from| give|
    have| help| here| into| just| like| make| many| more| most| much| need| only| other| over| please|
    should| some| such| tell| than| that| their| them| then| there| these| they| this| those| through|
    under| user| very| want| what| when| where| which| while| will| with| would| write| your| explain|
    describe| list| system| assistant| developer| tool
    """
)
DEFAULT_TOPICS = ("question", "answer", "context")

OPENINGS = (
    "The short answer is that {a} depends on {b} more than on anything else.",
    "When people ask about {a}, they usually mean its relation to {b}.",
    "{A} is easiest to understand by looking at {b} first.",
    "There are two parts to this: {a}, and what it does to {b}.",
)
SENTENCES = (
    "In practice {a} changes slowly, so small differences in {b} matter early on.",
    "A common mistake is to treat {a} as fixed while {b} is still moving.",
    "For example, a team that measured {a} every week saw {b} improve by about {n} %.",
    "It helps to write down what {a} should look like before touching {b}.",
    "The cost of {a} grows with its size, whereas {b} stays nearly constant.",
    "Most sources agree on {a}, though they differ about {b}.",
    "If {a} is not available, {b} gives a reasonable first approximation.",
    "That is why {a} and {b} are often discussed together.",
    "Temperatures near {n} °C make {a} less predictable, and {b} follows.",
    "The idea goes back to a café conversation about {a}, long before {b} was common.",
    "One way to check this is to hold {b} still and vary {a} — the effect is visible within {n} minutes.",
    "Careful readers will notice that {a} says nothing about {b} on its own.",
    "Start with {a}, keep {b} simple, and review the result after {n} days.",
)
CLOSINGS = (
    "In summary, look at {a} first and let {b} follow.",
    "Overall, {a} is worth the effort as long as {b} stays in view.",
    "If you share more about {b}, the advice on {a} can be more precise.",
)
REASONING = (
    "The user asks about {a}.",
    "I should mention {b} and keep {a} in focus.",
    "A short structure will do: first {a}, then {b}.",
    "Let me make sure that {a} is not confused with {b}.",
)


def marker(model: str) -> str:
    return f"[simulated answer by {model}] "


def bad_answer(kind: str, prompt: str, model: str) -> str | None:
    """What a weak model might say, for the fault kinds `bad-…`; None for any other kind."""
    good = simulated_answer(prompt, model)
    answers = {
        "bad-refusal": "I'm sorry, but I can't help with that. Is there anything else that you would like to know?",
        "bad-blank": " \n \n",
        "bad-half": f"{good} {good} That is why most of the people who have looked into it agree that the",
        "bad-loop": " ".join(good.split(". ")[:2]) + "." + " It is what it is because it is what it is." * 20,
        "bad-unsure": "I'm not sure about that. It may be true.",
    }
    return answers.get(kind)


def simulated_answer(prompt: str, model: str) -> str:
    """Roughly 40 to 120 tokens, or 150 to 270 when the prompt asks for something long. Cost: under 1 ms."""
    rng = _seeded(prompt, model, "answer")
    topics = _topics(prompt)
    low, high = LONG_SENTENCES if LONG_PROMPT.search(prompt) else SHORT_SENTENCES
    body = rng.sample(SENTENCES, rng.randint(low, high))
    templates = [rng.choice(OPENINGS), *body, rng.choice(CLOSINGS)]
    return marker(model) + " ".join(_filled(template, topics, rng) for template in templates)


def simulated_reasoning(prompt: str, model: str) -> str:
    """What a thinking model thinks before it answers: 20 to 60 tokens."""
    rng = _seeded(prompt, model, "reasoning")
    topics = _topics(prompt)
    return " ".join(_filled(template, topics, rng) for template in REASONING[: rng.randint(2, len(REASONING))])


def tokens_of(text: str) -> list[str]:
    """Word pieces whose concatenation is the text."""
    return TOKEN.findall(text)


def _seeded(*parts: str) -> random.Random:
    return random.Random(hashlib.blake2b("\0".join(parts).encode(errors="replace")).digest())


def _topics(prompt: str) -> list[str]:
    words = (word.lower() for word in WORD.findall(prompt[-4000:]))
    found = list(dict.fromkeys(word for word in words if not STOP_WORD.fullmatch(word)))[-12:]
    return found if len(found) > 1 else [*found, *DEFAULT_TOPICS]


def _filled(template: str, topics: list[str], rng: random.Random) -> str:
    first, second = rng.sample(topics, 2)
    return template.format(a=first, A=first.capitalize(), b=second, n=rng.randint(3, 45))

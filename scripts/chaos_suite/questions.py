"""What the tenants ask, chosen by a seed, and the answers that are right. Pure.

Own questions hold the tenant's name, so that the simulated answer to them can be nobody else's. Shared ones are asked
by all tenants: their answers read alike, so where they come from is what tells tenants apart.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from edge_router.catalog import DEFAULT_MODELS
from scripts.fault_matrix.oracle import whole_answer

Kind = Literal["plain", "stream", "crowd", "duo", "batch", "embeddings"]
WEIGHTS: Mapping[Kind, int] = {"plain": 8, "stream": 8, "crowd": 1, "duo": 1, "batch": 1, "embeddings": 1}

CROWD = 6
BATCH = 3
REPEATED = 40  # own questions that a tenant asks again and again
REPEATED_SHARE = 0.4
MAX_TOKENS = 400

# To the edge, to the cloud, and where the router decides; two pinned ones, because they have no other model to go to.
_FORMS = (
    ("What is {topic} {number} of {owner}?", "auto"),
    ("Write code in Rust that sorts {topic} {number} of {owner}, and explain why it is fast.", "auto"),
    ("Name one {topic} numbered {number} that {owner} likes.", "edge"),
    ("Compare {topic} {number} with others that {owner} knows.", "cloud"),
    ("When was {topic} {number} of {owner} made?", "@cf/meta/llama-3.2-3b-instruct"),
    ("Who made {topic} {number} of {owner}?", "gpt-4o-mini"),
)
_TOPICS = ("lantern", "harbour", "orchard", "granite", "violin", "meadow")
TEXTS = ("a red lantern", "the old harbour", "an apple orchard", "granite from the north")


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt. is_own: it holds the tenant's name. is_repeated: others of its kind may answer it, by meaning."""

    prompt: str
    model: str
    is_own: bool = True
    is_repeated: bool = False

    def body(self, *, stream: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": self.prompt}],
            "max_tokens": MAX_TOKENS,
        }
        if self.is_repeated:
            body["semantic_cache"] = True
        return body | {"stream": True, "stream_options": {"include_usage": True}} if stream else body


@dataclass(frozen=True, slots=True)
class Step:
    """What is sent together: one request, a crowd of one tenant with the same question, or one of each tenant.

    questions: several only for a batch.
    """

    kind: Kind
    tenants: tuple[str, ...]
    questions: tuple[Question, ...]


class Script:
    """The steps of one caller. The same seed asks the same. run: makes questions of different runs different."""

    def __init__(self, seed: str, tenants: tuple[str, ...], run: str) -> None:
        self._random = random.Random(seed)
        self._tenants = tenants
        self._run = run
        self._caller = seed
        self._number = 0

    def next_step(self) -> Step:
        kind = self._random.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))[0]
        tenant = self._random.choice(self._tenants)
        if kind == "duo":
            return Step(kind, self._tenants, (self._fresh(None),))
        if kind == "crowd":
            return Step(kind, (tenant,) * CROWD, (self._fresh(tenant),))
        if kind == "batch":
            questions = tuple(self._fresh(tenant, model="auto") for _ in range(BATCH))
            return Step(kind, (tenant,), questions)
        if kind == "embeddings":
            return Step(kind, (tenant,), (Question(self._random.choice(TEXTS), "embed", is_own=False),))
        is_repeated = self._random.random() < REPEATED_SHARE
        return Step(kind, (tenant,), (self._repeated(tenant) if is_repeated else self._fresh(tenant),))

    def _fresh(self, tenant: str | None, model: str | None = None) -> Question:
        self._number += 1
        return _question(tenant, f"{self._caller}-{self._number}", self._run, self._random, model)

    def _repeated(self, tenant: str) -> Question:
        return repeated(tenant, self._run)[self._random.randrange(REPEATED)]


@lru_cache
def repeated(tenant: str, run: str) -> list[Question]:
    """The questions that a tenant asks again and again."""
    chosen = random.Random(tenant)
    made = (_question(tenant, f"r{number}", run, chosen) for number in range(REPEATED))
    return [replace(question, is_repeated=True) for question in made]


def _question(tenant: str | None, number: str, run: str, chosen: random.Random, model: str | None = None) -> Question:
    form, wanted = chosen.choice(_FORMS)
    prompt = form.format(topic=chosen.choice(_TOPICS), number=f"{number}-{run}", owner=tenant or "anyone")
    return Question(prompt, model or wanted, is_own=tenant is not None)


@lru_cache(maxsize=20_000)
def answer_of(question: Question, model: str) -> str:
    """What the simulated model says to it when nothing fails."""
    return whole_answer(question.body(stream=False), model)


def dearest_usd() -> float:
    """More than any single request of the scripts can cost: a batch, at the edge and at the cloud."""
    return 2 * BATCH * max(model.cost_usd(4_000, 4_000) for model in DEFAULT_MODELS)

"""Pair verifier: may the answer stored for one text be given to another? docs/semantic-cache.md has the figures."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Final

from . import weights
from .features import features
from .guards import Comparison, compare
from .reading import Reading, read
from .weighing import PairScore, Weights, load_weights

# No false hit on tests/data/semantic_adversarial.jsonl; the curve is in docs/semantic-cache.md.
DEFAULT_THRESHOLD: Final = 0.80
# For tenants who prefer hits: about one hit in eight, and one in five, was labelled another question.
BALANCED_THRESHOLD: Final = 0.63
LOOSE_THRESHOLD: Final = 0.44

# Below it, even a pair that no guard and no doubt touches is not taken for the same question.
_MIN_SURE: Final = 0.55
_DOUBTED: Final = math.nextafter(DEFAULT_THRESHOLD, 0.0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """score: in [0, 1], how surely the texts ask the same. guard: the name of the guard that refused the pair."""

    score: float
    guard: str | None


class PairVerifier:
    """Guards, doubts and one set of weights. Holds no state beside the weights: safe to share. Scope: any."""

    def __init__(self, weights: Weights) -> None:
        self._score = PairScore(weights)

    def verify(self, asked: str, stored: str, cosine: float) -> Verdict:
        """cosine: of the embeddings of the two texts, by the embedder that the weights were trained on."""
        if asked == stored:
            return Verdict(1.0 if asked.strip() else 0.0, None)
        return self.judge(read(asked), read(stored), cosine)

    def judge(self, asked: Reading, stored: Reading, cosine: float) -> Verdict:
        """`verify` for texts that were read before."""
        comparison, chance, score = compare(asked, stored), 0.0, self._score
        if comparison.guard is None:
            chance = score.chance(features(asked, stored, comparison, cosine, score.words, score.unseen))
        return verdict_of(comparison, chance)


def verdict_of(comparison: Comparison, chance: float) -> Verdict:
    """What a doubt rests on, the training labels often ignore: no chance makes a doubted pair a hit by default."""
    if comparison.guard is not None:
        return Verdict(0.0, comparison.guard)
    if not comparison.doubts and chance >= _MIN_SURE:
        return Verdict(DEFAULT_THRESHOLD + (1.0 - DEFAULT_THRESHOLD) * chance, None)
    return Verdict(_DOUBTED * chance, None)


def is_same(verdict: Verdict, threshold: float = DEFAULT_THRESHOLD) -> bool:
    """Whether the stored answer may be used. threshold: in (0, 1], a tenant's own or one of the three named here."""
    return verdict.guard is None and verdict.score >= threshold


@cache
def shipped() -> PairVerifier:
    """With the weights that come with the gateway."""
    return PairVerifier(load_weights(weights))


def verify(asked: str, stored: str, cosine: float) -> Verdict:
    """By the verifier that is shipped."""
    return shipped().verify(asked, stored, cosine)

"""How hard a question is, from its text alone: 0 (a small model will do) to 1 (needs a strong one)."""

import re
from dataclasses import dataclass
from typing import Protocol

HEAD_CHARACTERS = 8192  # of a long text only the beginning and the end are read
TAIL_CHARACTERS = 2048

_HARD = re.compile(
    r"\b(explain|analy[sz]e|compare|contrast|why|how (?:do|does|would|should)|implications?|step by step|detailed"
    r"|comprehensive|prove|derive|refactor|debug|optimi[sz]e|implement|design|essay|evaluate|critique)\b"
)
_EASY = re.compile(
    r"\b(what(?:'s| is| are| was)|who(?:'s| is| was)|when (?:did|was|is)|where|define|list|name|translate)\b"
)

SIMPLE, MEDIUM, COMPLEX = 0.2, 0.5, 0.8


@dataclass(frozen=True, slots=True)
class Thresholds:
    """On one scorer's scale: below `edge_large` goes to edge-small, below `cloud_fast` to edge-large, and so on."""

    edge_large: float
    cloud_fast: float
    cloud_quality: float

    def moved(self, by: float) -> "Thresholds":
        """Each by so much, within [0, 1]. One at an end stays there: all, or nothing, was to go this way."""
        ends = (0.0, 1.0)
        moved = (
            each if each in ends else min(1.0, max(0.0, each + by))
            for each in (self.edge_large, self.cloud_fast, self.cloud_quality)
        )
        return Thresholds(*moved)


class ComplexityScorer(Protocol):
    """What the router needs of a scorer, learned or not. Pure: no I/O, the same text gives the same score."""

    name: str

    def score(self, text: str) -> float:
        """In [0, 1] for any text, the empty one included; never raises."""
        ...

    def thresholds(self, *, edge_share: float | None, quality_floor: float | None) -> Thresholds:
        """Where the tiers begin, so that `edge_share` of the traffic stays at the edge or, when that is None,
        `quality_floor` of the quality gap between the models is recovered; one of them is not None, both in [0, 1].
        """
        ...


class KeywordRules:
    """The readable baseline: a few words and the length. About as good as a coin on real outcomes."""

    name = "rules"

    def score(self, text: str) -> float:
        """SIMPLE, MEDIUM or COMPLEX. Short look-ups are simple; long texts and requests to reason are not."""
        if len(text) > HEAD_CHARACTERS + TAIL_CHARACTERS:
            text = f"{text[:HEAD_CHARACTERS]} {text[-TAIL_CHARACTERS:]}"
        lowered = text.lower()
        words = len(lowered.split())
        if _EASY.search(lowered) and words < 15:
            return SIMPLE
        if _HARD.search(lowered) or words > 50:
            return COMPLEX
        return SIMPLE if words < 10 else MEDIUM

    def thresholds(self, *, edge_share: float | None, quality_floor: float | None) -> Thresholds:
        """Always the same: nothing was measured that could tell one share from another."""
        return Thresholds(edge_large=0.3, cloud_fast=0.7, cloud_quality=0.9)

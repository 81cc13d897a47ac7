"""How hard a question is, from its text alone: 0 (a small model will do) to 1 (needs a strong one)."""

import re
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


class ComplexityScorer(Protocol):
    """What the router needs of a scorer, learned or not. Pure: no I/O, the same text gives the same score."""

    name: str

    def score(self, text: str) -> float:
        """In [0, 1] for any text, the empty one included; never raises."""
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

"""What became of a checked answer: for the report, the cache and the record that ratings are joined to."""

from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal[
    "accepted",  # the edge model's answer passed the verifier and was delivered
    "escalated",  # it did not, and the cloud's was
    "kept",  # it did not, and was delivered all the same: there was no better one
    "overtaken",  # in a race, the cloud's answer was there first
]
Because = Literal["no-time", "cloud-failed"]


@dataclass(slots=True)
class Outcome:
    """reason: the check that rejected the edge model's answer. because: why a rejected answer was kept.

    late: the check that rejected the rest of a stream, whose beginning had passed and was sent. other_cost_usd,
    other_tokens: of the answer that was asked for and not delivered.
    """

    verdict: Verdict
    reason: str | None = None
    because: Because | None = None
    late: str | None = None
    raced: bool = False
    other_cost_usd: float = 0.0
    other_tokens: int = 0

    @property
    def is_good(self) -> bool:
        """Whether what was delivered may be kept and served again."""
        return self.verdict != "kept" and self.late is None

    @property
    def complaint(self) -> str:
        """What was wrong with the edge model's answer; empty when nothing was seen."""
        return self.reason or self.late or ""

    def header(self) -> str:
        """As a structured field (RFC 9651): the verdict, with parameters."""
        facts = {"reason": self.reason, "because": self.because}
        text = self.verdict + "".join(f"; {name}={value}" for name, value in facts.items() if value)
        return f"{text}; raced" if self.raced else text

    def body(self) -> dict[str, Any]:
        facts = {
            "verdict": self.verdict,
            "reason": self.reason,
            "because": self.because,
            "late": self.late,
            "raced": self.raced or None,
            "other_cost_usd": self.other_cost_usd or None,
        }
        return {name: value for name, value in facts.items() if value is not None}

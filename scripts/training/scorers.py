"""What the learned router is compared with, and names for groups of rows."""

from collections.abc import Callable, Sequence

from edge_router.complexity import KeywordRules
from scripts.training.rows import Row

BASELINES: dict[str, Callable[[str], float]] = {
    "random": lambda _: 0.5,  # equal scores: exactly the mean of all random orders
    "length": lambda text: float(len(text)),
    "keyword rules": KeywordRules().score,
}

# Labels of these two are odd in RouteLLM's file: a constant answer, and a strong model that is never right.
ODD_SUBJECTS = {"mmlu": frozenset({"moral_scenarios", "high_school_mathematics"})}


def groups(rows: Sequence[Row], by: str = "benchmark") -> dict[str, list[int]]:
    """Positions of the rows with scores by benchmark or subject; benchmarks with odd labels also without those."""
    found: dict[str, list[int]] = {}
    for position, row in enumerate(rows):
        if row.has_scores:
            found.setdefault(row.benchmark if by == "benchmark" else row.subject or "(none)", []).append(position)
    out: dict[str, list[int]] = {}
    for name, positions in found.items():
        out[name] = positions
        odd = ODD_SUBJECTS.get(name, frozenset()) if by == "benchmark" else frozenset()
        clean = [position for position in positions if rows[position].subject not in odd]
        if 0 < len(clean) < len(positions):
            out[f"{name}, clean"] = clean
    return out

"""Simulates the cascade on prompts whose answers by a weak and a strong model were scored; prints quality against cost.

    scripts/eval_cascade ../shared/data/router_train.jsonl.gz --plot docs/cascade/curves.svg

Each line: {"prompt": "…", "weak_score": 0, "strong_score": 1}. The edge model is wrong where the weak one was (a
fraction is the probability of being right); the router's scores come from cross-validation. What the answers said is
not known, so two rates are assumed: how many wrong answers show by their text that they are bad, and how many right
ones look as if they did. Such texts are written and given to the real verifier, together with ordinary ones.
The cost of a question is counted in calls of the strong model; a call of the edge model costs --edge-cost of that.
Exit codes: 0 done, 2 nothing could be done.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_router.cascade.verifier import Asked, Said, verify
from scripts.local.simulated_text import bad_answer, simulated_answer
from scripts.training.console import CannotRun, console, progress, rows_of
from scripts.training.fitting import read_corpus, sampled
from scripts.training.rows import Row
from scripts.training.student import TREES
from scripts.training.train import FEWEST_ROWS, only_seen
from scripts.training.validation import FOLDS, by_fold

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

BAD_KINDS = ("bad-refusal", "bad-blank", "bad-half", "bad-loop", "bad-unsure")
VISIBLE_SHARES = (0.0, 0.05, 0.1, 0.2, 0.4)  # of the wrong answers
ODD_SHARES = (0.0, 0.01, 0.05)  # of the right answers
BUDGETS = (0.2, 0.4, 0.6)
SHARES = np.linspace(0, 1, 201)
SEED = 0


@dataclass(frozen=True, slots=True)
class World:
    """Rows in the order of the router, those for the strong model first.

    right: whether the edge model's answer is. strong: score of the strong model's. caught: whether the verifier rejects
    a text of the kind that a bad answer to this prompt would have; misjudged: whether it rejects an ordinary one.
    chances, luck: uniform in [0, 1), which answers of the assumed shares these are.
    """

    right: Flags
    strong: Array
    caught: Flags
    misjudged: Flags
    chances: Array
    luck: Array

    def rejected(self, visible: float, odd: float) -> Flags:
        """visible: share of the wrong answers that show it. odd: share of the right ones that look so."""
        shows = np.where(self.right, self.luck < odd, self.chances < visible)
        return np.where(shows, self.caught, self.misjudged)


@dataclass(frozen=True, slots=True)
class Line:
    """Mean quality and cost by the share of questions that go to the strong model at once."""

    costs: Array
    qualities: Array

    def quality_for(self, cost: float) -> float:
        """The best that can be had for at most so much."""
        affordable = self.qualities[self.costs <= cost + 1e-9]
        return float(affordable.max()) if len(affordable) else float("nan")

    def cost_of(self, quality: float) -> float:
        """The least for which at least this quality can be had."""
        enough = self.costs[self.qualities >= quality - 1e-9]
        return float(enough.min()) if len(enough) else float("nan")


def routing(world: World, *, edge_cost: float) -> Line:
    """Each question goes to one of the two."""
    return _line(world, np.zeros(len(world.right), bool), 0.0, edge_cost)


def cascade(world: World, rejected: Flags, *, band: float = 1.0, edge_cost: float) -> Line:
    """Edge answers are checked where the score is in the upper share `band` of those that the edge answers first."""
    return _line(world, rejected, band, edge_cost)


def _line(world: World, rejected: Flags, band: float, edge_cost: float) -> Line:
    count = len(world.right)
    costs, qualities = [], []
    for share in SHARES:
        direct = round(share * count)
        checked = direct + round(band * (count - direct))
        escalated = np.zeros(count, bool)
        escalated[direct:checked] = rejected[direct:checked]
        at_edge = np.arange(count) >= direct
        qualities.append(float(np.where(at_edge & ~escalated, world.right, world.strong).mean()))
        costs.append(float(at_edge.mean() * edge_cost + (~at_edge | escalated).mean()))
    return Line(np.array(costs), np.array(qualities))


def simulated(rows: Sequence[Row], scores: Array) -> World:
    """With fixed seeds: the same rows and scores give the same world."""
    order = np.argsort(-scores, kind="stable")
    ordered = [rows[place] for place in order]
    random = np.random.default_rng(SEED)
    weak = np.array([row.weak for row in ordered], float)
    kinds = random.integers(len(BAD_KINDS), size=len(ordered))
    return World(
        right=random.random(len(ordered)) < weak,
        strong=np.array([row.strong for row in ordered], float),
        caught=np.array([_is_rejected(row, BAD_KINDS[kind]) for row, kind in zip(ordered, kinds, strict=True)]),
        misjudged=np.array([_is_rejected(row, None) for row in ordered]),
        chances=random.random(len(ordered)),
        luck=random.random(len(ordered)),
    )


def _is_rejected(row: Row, kind: str | None) -> bool:
    text = simulated_answer(row.prompt, "edge") if kind is None else bad_answer(kind, row.prompt, "edge")
    return verify(Asked(row.prompt), Said(text or "")) is not None


def page(world: World, *, edge_cost: float) -> str:
    """The tables of docs/cascade.md."""
    alone = routing(world, edge_cost=edge_cost)
    low, high = float(world.right.mean()), float(world.strong.mean())
    half, most = low + 0.5 * (high - low), low + 0.8 * (high - low)
    lines = [
        f"{len(world.right):,} prompts; right at the edge {low:.1%}, in the cloud {high:.1%}; a call at the edge costs"
        f" {edge_cost:g} of one in the cloud.",
        f"The verifier rejects {world.caught.mean():.1%} of the bad texts and {world.misjudged.mean():.2%} of the"
        " ordinary ones.",
        "",
        "| wrong answers that show it | right ones that look so | escalated |"
        + "".join(f" quality for {budget:g} |" for budget in BUDGETS)
        + " cost of half the gap | of 80 % |",
        "| --- | --- | --- |" + " --- |" * (len(BUDGETS) + 2),
    ]

    def row(title: str, line: Line, escalated: float | None) -> str:
        found = [f"{line.quality_for(budget):.3f}" for budget in BUDGETS]
        found += [f"{line.cost_of(half):.2f}", f"{line.cost_of(most):.2f}"]
        cells = ["–" if escalated is None else f"{escalated:.1%}", *(cell.replace("nan", "–") for cell in found)]
        return f"| {title} | {' | '.join(cells)} |"

    lines.append(row("routing alone | –", alone, None))
    for visible in VISIBLE_SHARES:
        for odd in ODD_SHARES:
            rejected = world.rejected(visible, odd)
            line = cascade(world, rejected, edge_cost=edge_cost)
            lines.append(row(f"{visible:.0%} | {odd:.0%}", line, float(rejected.mean())))
    upper = cascade(world, world.rejected(0.2, 0.01), band=0.5, edge_cost=edge_cost)
    lines.append(row("20%, upper half checked | 1%", upper, None))
    return "\n".join(lines)


def draw(world: World, path: Path, *, edge_cost: float) -> None:
    """One line for each share of wrong answers that show it. Same world, same bytes."""
    import matplotlib as mpl  # type: ignore[import-not-found,import-untyped,unused-ignore]  # group train
    from matplotlib.figure import Figure  # type: ignore[import-not-found,import-untyped,unused-ignore]

    mpl.rcParams["svg.hashsalt"] = "nearside"
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    alone = routing(world, edge_cost=edge_cost)
    axes.plot(alone.costs, alone.qualities, "k--", label="routing alone")
    for visible in VISIBLE_SHARES[1:]:
        line = cascade(world, world.rejected(visible, 0.01), edge_cost=edge_cost)
        axes.plot(line.costs, line.qualities, label=f"cascade, {visible:.0%} of wrong answers show it")
    harmful = cascade(world, world.rejected(0.0, 0.05), edge_cost=edge_cost)
    axes.plot(harmful.costs, harmful.qualities, ":", label="cascade, none does, 5% of right ones look so")
    axes.set_xlabel("cost of a question, in calls of the strong model")
    axes.set_ylabel("mean quality")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/eval_cascade", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, metavar="DATA.jsonl[.gz]", help="prompts with scores")
    parser.add_argument("--edge-cost", type=float, default=0.05, help="of a call of the strong model (%(default)s)")
    parser.add_argument("--plot", type=Path, metavar="CURVES.svg")
    arguments = parser.parse_args(argv)
    try:
        world = _world(arguments.file)
    except CannotRun as exc:
        print(f"scripts/eval_cascade: {exc}", file=sys.stderr)
        return 2
    print(page(world, edge_cost=arguments.edge_cost))
    if arguments.plot:
        draw(world, arguments.plot, edge_cost=arguments.edge_cost)
    return 0


def _world(path: Path) -> World:
    """Raises CannotRun."""
    errors = console(stderr=True)
    rows = rows_of(path, errors)
    scored = [row for row in rows if row.has_scores]
    if len(scored) < FEWEST_ROWS:
        raise CannotRun(f"{path} has {len(scored)} rows with scores; at least {FEWEST_ROWS} are needed")
    corpus, extra = read_corpus(sampled(scored), only_seen(rows))
    with progress(errors) as bar:
        task = bar.add_task("cross-validation", total=FOLDS)
        unseen = by_fold(corpus, extra, folds=FOLDS, by_subject=False, trees=TREES, done=lambda: bar.advance(task))
    return simulated(corpus.rows, unseen.gains)


if __name__ == "__main__":
    sys.exit(main())

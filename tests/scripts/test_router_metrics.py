"""The router's metrics against brute force: RouteLLM's definitions (arXiv 2406.18665), written out the slow way."""

from itertools import pairwise, permutations
from statistics import mean

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scripts.training.metrics import Quality, curve, quality

Rows = list[tuple[float, float, float]]  # score, weak, strong

scored_rows: st.SearchStrategy[Rows] = st.lists(
    st.tuples(
        st.sampled_from([0.1, 0.2, 0.3, 0.4]),  # few, so that ties are the rule
        st.sampled_from([0.0, 0.5, 1.0]),
        st.sampled_from([0.0, 0.25, 1.0]),
    ),
    min_size=1,
    max_size=5,
)


def recovered(rows: Rows, share: float) -> float:
    """PGR(c): mean over all orders of equal scores; a prompt that is cut by the share counts in part."""
    weak, strong = mean(row[1] for row in rows), mean(row[2] for row in rows)
    reached = []
    for order in permutations(rows):
        if [row[0] for row in order] != sorted((row[0] for row in rows), reverse=True):
            continue
        calls = share * len(rows)
        taken = [min(1.0, max(0.0, calls - place)) for place in range(len(rows))]
        reached.append(mean(w + part * (s - w) for part, (_, w, s) in zip(taken, order, strict=True)))
    return (mean(reached) - weak) / (strong - weak)


def measured(rows: Rows) -> Quality:
    scores, weak, strong = zip(*rows, strict=True)
    found = quality(scores, weak, strong, resamples=20)
    assert found is not None
    return found


@settings(deadline=None)
@given(scored_rows)
def test_apgr_is_the_area_by_trapezoids(rows: Rows) -> None:
    """APGR: area under PGR(c) over c = 0, 10, … 100 %."""
    assume(abs(sum(strong - weak for _, weak, strong in rows)) > 0.1)
    values = [recovered(rows, step / 10) for step in range(11)]
    area = sum((low + high) / 2 for low, high in pairwise(values)) / 10

    assert measured(rows).apgr == pytest.approx(area)


@settings(deadline=None)
@given(scored_rows, st.sampled_from([0.5, 0.8]))
def test_cpt_is_the_first_share_that_recovers_so_much(rows: Rows, wanted: float) -> None:
    """CPT(x): at it PGR is at least x, and at no smaller share."""
    assume(abs(sum(strong - weak for _, weak, strong in rows)) > 0.1)
    found = measured(rows)
    share = (found.cpt50 if wanted == 0.5 else found.cpt80) / 100

    assert recovered(rows, share) == pytest.approx(wanted)
    assert all(recovered(rows, share * part / 20) < wanted + 1e-9 for part in range(20))


def test_a_perfect_order_and_its_reverse() -> None:
    """One prompt of four needs the strong model: found first, a quarter of the calls recovers everything."""
    weak, strong = [1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]

    best, worst = quality([0.1, 0.2, 0.3, 0.9], weak, strong), quality([0.9, 0.3, 0.2, 0.1], weak, strong)

    assert best is not None
    assert worst is not None
    assert (best.cpt50, best.cpt80) == pytest.approx((12.5, 20.0))
    assert (worst.cpt50, worst.cpt80) == pytest.approx((87.5, 95.0))
    assert best.apgr == pytest.approx(0.87)


def test_equal_scores_are_the_random_router() -> None:
    """A constant score says nothing: exactly one half, whatever the order of the rows."""
    found = quality([0.3] * 50, [0.0] * 40 + [1.0] * 10, [1.0] * 50)

    assert found is not None
    assert found.apgr == pytest.approx(0.5)
    assert found.cpt50 == pytest.approx(50)


@pytest.mark.parametrize("rows", [pytest.param(0, id="no rows"), pytest.param(3, id="equally good models")])
def test_without_a_gap_there_is_nothing_to_recover(rows: int) -> None:
    """PGR divides by the gap: None rather than an infinite figure."""
    assert curve([0.1, 0.2, 0.3][:rows], [1.0, 0.0, 1.0][:rows], [0.0, 1.0, 1.0][:rows]) is None


def test_order_of_the_rows_does_not_matter() -> None:
    """The same rows in reverse give the same figures, ties included."""
    scores, weak, strong = [0.5, 0.5, 0.2, 0.9], [0.0, 1.0, 0.5, 0.0], [1.0, 0.0, 1.0, 1.0]

    forwards = curve(scores, weak, strong)
    backwards = curve(scores[::-1], weak[::-1], strong[::-1])

    assert forwards is not None
    assert backwards is not None
    assert forwards.pgr == pytest.approx(backwards.pgr)


def test_the_interval_holds_the_figure_and_is_the_same_each_time() -> None:
    """Bootstrap with a fixed seed: two runs agree to the last digit."""
    scores = [index / 200 for index in range(200)]
    weak = [float(index % 3 > 0) for index in range(200)]
    strong = [float(index > 20) for index in range(200)]

    first, second = quality(scores, weak, strong), quality(scores, weak, strong)

    assert first is not None
    assert first == second
    assert first.low < first.apgr < first.high

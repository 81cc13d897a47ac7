"""The steps that docs/benchmarks/hot-path.md shows can still be taken, each in real workerd."""

from scripts.benchmarks.steps import STEPS, measure_steps
from scripts.benchmarks.workerd import stage


def test_every_step_runs() -> None:
    """A step that the gateway has outgrown ends the program with its traceback."""
    stage()

    assert set(measure_steps(list(STEPS), times=1, rounds=1)) == set(STEPS)

"""Chaos, storm and soak with small budgets, on stacks of their own: docs/chaos.md says what they check."""

import pytest

from scripts.chaos_suite.run import run_chaos
from scripts.chaos_suite.soak import run_soak
from scripts.chaos_suite.storm import run_storm

pytestmark = [pytest.mark.workerd, pytest.mark.timeout(600)]

SOAK_S = 180  # and a minute before it, for the capacity
# One of each sort; scripts/chaos has them all.
ACTIONS = {
    "kill-wnam",
    "kill-emulators",
    "kill-workerd",
    "disk-full",
    "clock-+3600s",
    "kv-malformed",
    "ai-cut",
    "vectorize-error",
    "do-cut",
    "ledger-error",
    "cloud-error",
    "upstream-refuse",
}


def test_chaos() -> None:
    """Whatever is killed, slow, full or talks nonsense: callers get right answers or errors of the contract."""
    outcome = run_chaos(seconds=40, seed=1, callers=6, chosen=ACTIONS.__contains__)

    assert outcome.record.broken == {}, outcome.record.examples
    assert outcome.record.requests > 0
    assert {"kill-wnam", "kill-emulators", "kill-workerd"} <= set(outcome.actions)


def test_storm() -> None:
    """A tenth of all calls behind the gateway fails: nothing is outside the contract."""
    outcome = run_storm(requests=300, connections=20, seed=1)

    assert outcome.record.broken == {}, outcome.record.examples
    assert outcome.record.requests >= 300


def test_soak() -> None:
    """Where nothing fails, nothing is unexplained, and the isolate lets go of what requests made it hold.

    Minutes say nothing of resident memory, which V8 and workerd let grow first: scripts/soak does.
    """
    soak = run_soak(seconds=SOAK_S)

    assert soak.unexplained == 0, (soak.outcomes, soak.examples)
    assert soak.leaks == []

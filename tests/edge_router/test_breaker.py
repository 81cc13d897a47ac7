"""The circuit breaker of a region, on a clock that only the test moves."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_router.breaker import (
    CONSECUTIVE,
    FIRST_PAUSE_S,
    MAX_PAUSE_S,
    MIN_CALLS,
    PROBE_LEASE_S,
    WINDOW_S,
    Breaker,
    Passage,
)


def opened(at_s: float = 0.0) -> Breaker:
    """A breaker that failures in a row have just opened."""
    breaker = Breaker()
    for _ in range(CONSECUTIVE):
        breaker.failed(breaker.enter(at_s), at_s)
    return breaker


def test_failures_in_a_row() -> None:
    """Open the breaker: no call is admitted until the pause is over, then one."""
    breaker = opened()

    assert breaker.state(0.0) == "open"
    assert not breaker.admits(FIRST_PAUSE_S - 0.01)
    assert breaker.state(FIRST_PAUSE_S) == "half_open"
    assert breaker.admits(FIRST_PAUSE_S)


def test_success_between_failures() -> None:
    """Failures that are not in a row, and not half of all, leave it closed."""
    breaker = Breaker()
    for number in range(60):
        passage = breaker.enter(number)
        breaker.failed(passage, number) if number % 3 == 0 else breaker.succeeded(passage, number)

    assert breaker.state(60) == "closed"


def test_every_other_call_fails() -> None:
    """The failure rate opens it although no two failures come in a row."""
    breaker = Breaker()
    for number in range(MIN_CALLS):
        passage = breaker.enter(0.0)
        breaker.failed(passage, 0.0) if number % 2 else breaker.succeeded(passage, 0.0)

    assert breaker.state(0.0) == "open"


def test_failures_long_ago_do_not_count() -> None:
    """The rate is that of the last seconds."""
    breaker = Breaker()
    for number in range(MIN_CALLS):
        now_s = number * WINDOW_S
        passage = breaker.enter(now_s)
        breaker.failed(passage, now_s) if number % 2 else breaker.succeeded(passage, now_s)

    assert breaker.state(MIN_CALLS * WINDOW_S) == "closed"


def test_half_open_lets_one_through() -> None:
    """While the probe is under way all others stay out; its success lets them in."""
    breaker = opened()
    probe = breaker.enter(FIRST_PAUSE_S)

    assert not breaker.admits(FIRST_PAUSE_S)
    breaker.succeeded(probe, FIRST_PAUSE_S + 0.1)
    assert breaker.state(FIRST_PAUSE_S + 0.1) == "closed"


def test_failed_probes() -> None:
    """Each doubles the pause, up to its limit."""
    breaker, now_s, pauses = opened(), 0.0, []
    for _ in range(6):
        since_s = now_s
        while not breaker.admits(now_s):
            now_s += 0.5
        pauses.append(now_s - since_s)
        breaker.failed(breaker.enter(now_s), now_s)

    assert pauses == [1, 2, 4, 8, 8, 8]


def test_probe_whose_caller_left() -> None:
    """Says nothing: the next call is the probe."""
    breaker = opened()
    breaker.left(breaker.enter(FIRST_PAUSE_S))

    assert breaker.state(FIRST_PAUSE_S) == "half_open"
    assert breaker.admits(FIRST_PAUSE_S)


def test_probe_that_is_never_heard_of_again() -> None:
    """The runtime may end a request without a word: after the lease another one probes."""
    breaker = opened()
    breaker.enter(FIRST_PAUSE_S)

    assert not breaker.admits(FIRST_PAUSE_S + PROBE_LEASE_S - 0.1)
    assert breaker.admits(FIRST_PAUSE_S + PROBE_LEASE_S)


def test_calls_from_before() -> None:
    """What began before the region was found failing, or found well again, says nothing about afterwards."""
    breaker = Breaker()
    early = [breaker.enter(-1.0) for _ in range(2 * CONSECUTIVE)]
    for passage in early[:CONSECUTIVE]:
        breaker.failed(passage, 0.0)
    breaker.succeeded(early[CONSECUTIVE], 0.1)
    assert breaker.state(0.1) == "open"

    breaker.succeeded(breaker.enter(FIRST_PAUSE_S), FIRST_PAUSE_S)
    for passage in early[CONSECUTIVE:]:
        breaker.failed(passage, FIRST_PAUSE_S)
    assert breaker.state(FIRST_PAUSE_S) == "closed"


def test_call_of_last_resort() -> None:
    """One that goes although the breaker is open closes it by success, and changes nothing by failure."""
    failing, well = opened(), opened()

    failing.failed(failing.enter(0.5), 0.6)
    well.succeeded(well.enter(0.5), 0.6)

    assert failing.state(0.6) == "open"
    assert failing.state(FIRST_PAUSE_S) == "half_open"
    assert well.state(0.6) == "closed"


@pytest.mark.parametrize(("others_answered", "expected"), [(False, "open"), (True, "closed")])
def test_silence(others_answered: bool, expected: str) -> None:
    """No answer is the region's fault only if nobody got one meanwhile: else it is one slow model's."""
    breaker = Breaker()
    silent = [breaker.enter(0.0) for _ in range(2 * CONSECUTIVE)]
    if others_answered:
        breaker.succeeded(breaker.enter(0.0), 30.0)
    for passage in silent:
        breaker.stayed_silent(passage, 60.0)

    assert breaker.state(60.0) == expected


def test_hint_of_another_isolate() -> None:
    """The next call is a probe; a breaker that saw a success just now knows better."""
    unused, busy = Breaker(), Breaker()
    busy.succeeded(busy.enter(99.0), 99.0)
    for breaker in (unused, busy):
        breaker.suspect(100.0)

    assert unused.state(100.0) == "half_open"
    assert busy.state(100.0) == "closed"


class Region(RuleBasedStateMachine):
    """Calls in any order and number, to a region that works or does not."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now_s = 0.0
        self.is_up = True
        self.came_back_s = 0.0
        self.under_way: list[Passage] = []
        self.probes: list[float] = []

    @rule(seconds=st.floats(0.0, 20.0))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def go_down(self) -> None:
        self.is_up = False

    @precondition(lambda self: not self.is_up)
    @rule()
    def come_back(self) -> None:
        self.is_up, self.came_back_s = True, self.now_s

    @precondition(lambda self: self.breaker.admits(self.now_s))
    @rule()
    def call(self) -> None:
        if self.breaker.state(self.now_s) == "half_open":
            assert not self.probes or self.now_s - self.probes[-1] >= PROBE_LEASE_S
            self.probes.append(self.now_s)
        self.under_way.append(self.breaker.enter(self.now_s))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), leaves=st.booleans())
    def end(self, data: st.DataObject, leaves: bool) -> None:
        passage = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        if leaves:
            self.breaker.left(passage)
        elif self.is_up:
            self.breaker.succeeded(passage, self.now_s)
        else:
            self.breaker.failed(passage, self.now_s)
        self.probes.clear()

    @rule()
    def hint(self) -> None:
        self.breaker.suspect(self.now_s)

    @invariant()
    def closed_admits_and_open_does_not(self) -> None:
        state = self.breaker.state(self.now_s)
        assert state != "closed" or self.breaker.admits(self.now_s)
        assert state != "open" or not self.breaker.admits(self.now_s)

    @invariant()
    def is_tried_again_in_time(self) -> None:
        """However long it was down: after the longest pause and a lease, a call may go."""
        assert self.breaker.admits(self.now_s + MAX_PAUSE_S + PROBE_LEASE_S)


TestAnyCalls = Region.TestCase

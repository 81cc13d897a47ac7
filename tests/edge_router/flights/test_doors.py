"""How long callers wait for a shared object to let them in."""

from edge_router.flights.doors import DISTRUST_MS, MAX_WAIT_MS, TURN_MS, Doors
from tests.fakes import FakeClock

PATIENCE_S = 0.2


def doors() -> tuple[FakeClock, Doors]:
    clock = FakeClock()
    return clock, Doors(clock, patience_s=PATIENCE_S)


def test_caller_alone() -> None:
    """Gives up when the patience is over."""
    clock, entrance = doors()
    waiting = entrance.wait("a")
    clock.advance(PATIENCE_S)

    assert waiting.more_s() <= 0


def test_crowd() -> None:
    """Each caller is granted the time that all of them need."""
    clock, entrance = doors()
    crowd = [entrance.wait("a") for _ in range(100)]
    clock.advance(PATIENCE_S)

    assert abs(crowd[0].more_s() - (100 * TURN_MS / 1000 - PATIENCE_S)) < 1e-6


def test_crowd_at_another_door() -> None:
    """Says nothing about this one."""
    clock, entrance = doors()
    for _ in range(100):
        entrance.wait("a")
    waiting = entrance.wait("b")
    clock.advance(PATIENCE_S)

    assert waiting.more_s() <= 0


def test_door_that_opens() -> None:
    """As long as it lets in one after the other, the others wait."""
    clock, entrance = doors()
    first, second = entrance.wait("a"), entrance.wait("a")
    clock.advance(0.15)
    first.leave("entered")
    clock.advance(0.1)
    assert abs(second.more_s() - 0.1) < 1e-6
    clock.advance(0.101)

    assert second.more_s() <= 0


def test_longest_wait() -> None:
    """There is an end to it, however many wait."""
    clock, entrance = doors()
    crowd = [entrance.wait("a") for _ in range(1000)]
    clock.advance(MAX_WAIT_MS / 1000)

    assert crowd[0].more_s() <= 0


def test_after_an_object_was_given_up() -> None:
    """A crowd is no excuse any more, until a door opens or some time has gone by."""
    clock, entrance = doors()
    entrance.wait("a").leave("gave_up")
    crowd = [entrance.wait("b") for _ in range(100)]
    clock.advance(PATIENCE_S)
    assert crowd[0].more_s() <= 0

    crowd.pop().leave("entered")
    assert crowd[0].more_s() > 0

    crowd.pop().leave("gave_up")
    clock.advance(DISTRUST_MS / 1000 + 0.001)
    late = [entrance.wait("c") for _ in range(100)]
    clock.advance(PATIENCE_S)
    assert late[0].more_s() > 0


def test_caller_who_goes_away() -> None:
    """Says nothing about the object."""
    clock, entrance = doors()
    entrance.wait("a").leave("called_off")
    crowd = [entrance.wait("b") for _ in range(100)]
    clock.advance(PATIENCE_S)

    assert crowd[0].more_s() > 0

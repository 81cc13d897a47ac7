"""One tenant's ledger: what is granted, what counts as spent, and that nothing counts twice."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from edge_router.budgets.ledger import (
    ENDED_KEPT_S,
    EXPIRED_KEPT_S,
    MAX_MODELS,
    OTHER,
    RESERVED_S,
    UNSETTLED,
    Ledger,
    Left,
    Refusal,
)
from edge_router.budgets.money import NOTHING, Cost, nano_usd, usd
from edge_router.budgets.policy import SpendingLimits
from tests.fakes import MemorySql


def at(text: str) -> float:
    """Unix time of an ISO date and time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NOON = at("2026-11-28T12:00")
ONE = Cost(1_000, 10)
LIMITS = SpendingLimits(nano_usd_day=10_000, nano_usd_month=15_000, tokens_day=1_000, tokens_month=2_000)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(MemorySql())


def spent(ledger: Ledger, now_s: float = NOON) -> tuple[Cost, Cost]:
    """Of the day: (spent, reserved)."""
    day = ledger.sums(now_s).day
    return day.spent, day.reserved


def refused(ledger: Ledger, cost: Cost, limits: SpendingLimits, now_s: float = NOON) -> Refusal:
    answer = ledger.reserve("asks too much", cost, limits, now_s)
    assert isinstance(answer, Refusal)
    return answer


def test_reservation_is_settled(ledger: Ledger) -> None:
    """What was spent takes the place of what was reserved."""
    left = ledger.reserve("a", Cost(4_000, 100), LIMITS, NOON)
    before = spent(ledger)
    ledger.settle("a", ONE, "m", NOON + 2)

    assert left == Left(6_000, 900, tokens_allowed=1_000, tokens_reset_at_s=at("2026-11-29T00:00:00"))
    assert before == (NOTHING, Cost(4_000, 100))
    assert spent(ledger) == (ONE, NOTHING)
    assert ledger.sums(NOON).models == {"m": (ONE, 1)}


def test_reservation_is_released(ledger: Ledger) -> None:
    """As if it had never been there."""
    ledger.reserve("a", ONE, LIMITS, NOON)
    ledger.release("a", NOON)

    assert spent(ledger) == (NOTHING, NOTHING)


@pytest.mark.parametrize(
    ("limits", "refusal"),
    [
        pytest.param(
            SpendingLimits(nano_usd_day=2_500),
            Refusal("usd_day", 2_500, 1_000, 1_000, 1_000, at("2026-11-29T00:00")),
            id="dollars of the day",
        ),
        pytest.param(
            SpendingLimits(nano_usd_month=2_999),
            Refusal("usd_month", 2_999, 1_000, 1_000, 1_000, at("2026-12-01T00:00")),
            id="dollars of the month",
        ),
        pytest.param(
            SpendingLimits(tokens_day=29),
            Refusal("tokens_day", 29, 10, 10, 10, at("2026-11-29T00:00")),
            id="tokens of the day",
        ),
        pytest.param(
            SpendingLimits(tokens_month=25),
            Refusal("tokens_month", 25, 10, 10, 10, at("2026-12-01T00:00")),
            id="tokens of the month",
        ),
        pytest.param(
            SpendingLimits(nano_usd_day=2_000, tokens_month=20),
            Refusal("tokens_month", 20, 10, 10, 10, at("2026-12-01T00:00")),
            id="of several the one that holds longest",
        ),
    ],
)
def test_refusal(ledger: Ledger, limits: SpendingLimits, refusal: Refusal) -> None:
    """Spent, reserved and asked for together would be more than the limit. It says which, and until when."""
    ledger.reserve("spent", ONE, LIMITS, NOON)
    ledger.settle("spent", ONE, "m", NOON)
    ledger.reserve("in flight", ONE, LIMITS, NOON)
    answer = refused(ledger, ONE, limits)

    assert answer == refusal
    assert answer.left == refusal.allowed - 2 * refusal.asked
    assert spent(ledger) == (ONE, ONE)


def test_last_cent(ledger: Ledger) -> None:
    """A limit can be reached, not passed."""
    limits = SpendingLimits(nano_usd_day=2 * ONE.nano_usd)

    assert ledger.reserve("a", ONE, limits, NOON) == Left(1_000, None)
    assert ledger.reserve("b", ONE, limits, NOON) == Left(0, None)
    assert refused(ledger, Cost(1, 0), limits).left == 0
    assert ledger.reserve("free", NOTHING, limits, NOON) == Left(0, None)


def test_answer_that_cost_more_than_was_reserved(ledger: Ledger) -> None:
    """Counts in full. What is left is not less than nothing."""
    limits = SpendingLimits(nano_usd_day=1_000)
    ledger.reserve("a", ONE, limits, NOON)
    ledger.settle("a", Cost(1_500, 15), "m", NOON)

    assert spent(ledger)[0] == Cost(1_500, 15)
    assert refused(ledger, ONE, limits).left == 0


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(lambda ledger: ledger.reserve("a", Cost(5, 5), LIMITS, NOON), id="reserve"),
        pytest.param(lambda ledger: ledger.settle("a", Cost(5, 5), "m", NOON), id="settle"),
        pytest.param(lambda ledger: ledger.release("a", NOON), id="release"),
    ],
)
@pytest.mark.parametrize("ended", ["settled", "released"])
def test_call_that_comes_again(ledger: Ledger, ended: str, again: Callable[[Ledger], object]) -> None:
    """Changes nothing, once a reservation has ended."""
    ledger.reserve("a", ONE, LIMITS, NOON)
    if ended == "settled":
        ledger.settle("a", ONE, "m", NOON)
    else:
        ledger.release("a", NOON)
    before = ledger.sums(NOON)
    again(ledger)

    assert ledger.sums(NOON) == before


def test_reservation_that_comes_again(ledger: Ledger) -> None:
    """Is granted as before, and counts once, even when there is no room for another."""
    limits = SpendingLimits(nano_usd_day=1_000)

    assert ledger.reserve("a", ONE, limits, NOON) == ledger.reserve("a", ONE, limits, NOON) == Left(0, None)
    assert spent(ledger) == (NOTHING, ONE)


def test_reservation_that_comes_after_its_release(ledger: Ledger) -> None:
    """Whoever gave up waiting for a grant releases it; when the two meet on their way, nothing stays reserved."""
    ledger.release("a", NOON)
    ledger.reserve("a", ONE, LIMITS, NOON)

    assert spent(ledger) == (NOTHING, NOTHING)


def test_settlement_without_a_reservation(ledger: Ledger) -> None:
    """Counts: so can be told what was spent while the ledger could not be reached."""
    ledger.settle("a", ONE, "m", NOON)
    ledger.settle("a", ONE, "m", NOON)

    assert spent(ledger) == (ONE, NOTHING)


def test_reservation_that_nobody_settles(ledger: Ledger) -> None:
    """Counts as spent, because it may have been, and says that it was never settled."""
    ledger.reserve("a", ONE, LIMITS, NOON)
    before = spent(ledger, NOON + RESERVED_S)
    after = ledger.sums(NOON + RESERVED_S + 1)

    assert before == (NOTHING, ONE)
    assert (after.day.spent, after.day.reserved) == (ONE, NOTHING)
    assert after.models == {UNSETTLED: (ONE, 1)}


@pytest.mark.parametrize("ends", ["settled", "released"])
def test_late_end_of_a_reservation(ledger: Ledger, ends: str) -> None:
    """Still sets right what was counted in its place."""
    ledger.reserve("a", Cost(4_000, 100), LIMITS, NOON)
    later_s = NOON + RESERVED_S + 1
    ledger.sums(later_s)
    if ends == "settled":
        ledger.settle("a", ONE, "m", later_s)
    else:
        ledger.release("a", later_s)
    sums = ledger.sums(later_s)

    assert sums.day.spent == (ONE if ends == "settled" else NOTHING)
    assert sums.models == ({"m": (ONE, 1)} if ends == "settled" else {})


def test_midnight(ledger: Ledger) -> None:
    """A new day begins at nothing, the month goes on; an answer counts to the day on which it was reserved."""
    ledger.reserve("a", ONE, LIMITS, at("2026-11-28T23:59:59"))
    morning_s = at("2026-11-29T00:00:05")
    ledger.settle("a", ONE, "m", morning_s)
    sums = ledger.sums(morning_s)

    assert spent(ledger, at("2026-11-28T23:59:59"))[0] == ONE
    assert (sums.day.spent, sums.month.spent) == (NOTHING, ONE)
    assert ledger.reserve("b", Cost(10_000, 0), LIMITS, morning_s) == Left(0, 1_000, 1_000, at("2026-11-30T00:00:00"))


@pytest.mark.parametrize(
    ("now", "day", "month", "resets"),
    [
        pytest.param("2026-11-30T23:59:59", "2026-11-30", "2026-11-01", "2026-12-01", id="the month's last second"),
        pytest.param("2026-12-31T12:00", "2026-12-31", "2026-12-01", "2027-01-01", id="new year"),
        pytest.param("2028-02-29T00:00", "2028-02-29", "2028-02-01", "2028-03-01", id="leap day"),
        pytest.param("2027-01-31T08:00", "2027-01-31", "2027-01-01", "2027-02-01", id="a long month"),
    ],
)
def test_periods(ledger: Ledger, now: str, day: str, month: str, resets: str) -> None:
    """Days and calendar months, in UTC."""
    sums = ledger.sums(at(now))

    assert (sums.day.starts_at_s, sums.day.resets_at_s) == (at(day), at(day) + 86_400)
    assert (sums.month.starts_at_s, sums.month.resets_at_s) == (at(month), at(resets))


def test_models(ledger: Ledger) -> None:
    """A sum for each, the dearest first; beyond a bound, names that callers choose share one."""
    for number in range(MAX_MODELS + 5):
        ledger.settle(f"{number}", Cost(number, 1), f"sim-{number}", NOON)
    ledger.settle("again", Cost(1_000_000, 1), "sim-1", NOON)
    models = ledger.sums(NOON).models

    assert list(models)[:2] == ["sim-1", OTHER]
    assert models[OTHER] == (Cost(sum(range(MAX_MODELS, MAX_MODELS + 5)), 5), 5)
    assert len(models) == MAX_MODELS + 1


def test_storage_is_bounded() -> None:
    """Ids are forgotten soon after they ended, what never was settled after a week, sums after the next month."""
    sql = MemorySql()
    ledger = Ledger(sql)
    for number in range(100):
        ledger.settle(f"{number}", ONE, "m", NOON)
    ledger.reserve("lost", ONE, LIMITS, NOON)
    ledger.sums(NOON + ENDED_KEPT_S + 1)
    ids = sql.exec("SELECT * FROM ended")
    ledger.sums(NOON + EXPIRED_KEPT_S + 1)
    lost = sql.exec("SELECT * FROM reservations")
    next_month = ledger.sums(at("2026-12-31T00:00"))
    kept = sql.exec("SELECT * FROM spent")
    ledger.sums(at("2027-01-01T00:01"))

    assert not ids
    assert not lost
    assert next_month.month.spent == NOTHING
    assert kept
    assert not sql.exec("SELECT * FROM spent")


def test_no_float_drift(ledger: Ledger) -> None:
    """A million tenths of a cent are a thousand dollars."""
    for number in range(1_000):
        ledger.settle(f"{number}", Cost(nano_usd(0.001), 1), "m", NOON)

    assert usd(spent(ledger)[0].nano_usd) == 1.0


COSTS = st.builds(Cost, st.integers(0, 500), st.integers(0, 50))
STATE_LIMITS = SpendingLimits(nano_usd_day=1_000, nano_usd_month=1_500, tokens_day=120, tokens_month=200)


@dataclass(slots=True)
class Known:
    """What the model remembers of a reservation. cost: what it counts as. until_s: when the ledger
    forgets the id.
    """

    day: str
    cost: Cost
    since_s: float
    until_s: float
    is_open: bool = True
    has_expired: bool = False


class AnyOrder(RuleBasedStateMachine):
    """Requests that reserve, settle, release, repeat themselves and die, on a ledger that is evicted in between, beside
    a model that keeps each reservation's day and what became of it.
    """

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.sql = MemorySql()
        self.ledger = Ledger(self.sql)
        self.now_s = self.latest_s = NOON
        self.known: dict[str, Known] = {}

    @rule(target=ids, cost=COSTS)
    def reserve(self, cost: Cost) -> object:
        reservation_id = f"r{len(self.known)}"
        day, month = self._used(self._today) + cost, self._used(self._today[:7]) + cost
        fits = day.nano_usd <= 1_000 and month.nano_usd <= 1_500 and day.tokens <= 120 and month.tokens <= 200
        answer = self.ledger.reserve(reservation_id, cost, STATE_LIMITS, self.now_s)

        assert isinstance(answer, Left) is fits
        if not fits:
            return multiple()
        left_nano_usd = min(1_000 - day.nano_usd, 1_500 - month.nano_usd)
        assert isinstance(answer, Left)
        assert (answer.nano_usd, answer.tokens) == (left_nano_usd, min(120 - day.tokens, 200 - month.tokens))
        assert answer.tokens_allowed == (120 if 120 - day.tokens < 200 - month.tokens else 200)
        self.known[reservation_id] = Known(self._today, cost, self.now_s, self.now_s + EXPIRED_KEPT_S)
        return reservation_id

    @rule(reservation_id=ids, cost=COSTS)
    def reserve_again(self, reservation_id: str, cost: Cost) -> None:
        if self._is_remembered(reservation_id):
            assert isinstance(self.ledger.reserve(reservation_id, cost, STATE_LIMITS, self.now_s), Left)

    @rule(reservation_id=ids, percent=st.integers(0, 100))
    def settle(self, reservation_id: str, percent: int) -> None:
        """For no more than was reserved, or the limits would not hold."""
        reserved = self.known[reservation_id].cost
        cost = Cost(reserved.nano_usd * percent // 100, reserved.tokens * percent // 100)
        if self._is_remembered(reservation_id):
            self.ledger.settle(reservation_id, cost, "m", self.now_s)
            self._end(reservation_id, cost)

    @rule(reservation_id=ids)
    def release(self, reservation_id: str) -> None:
        if self._is_remembered(reservation_id):
            self.ledger.release(reservation_id, self.now_s)
            self._end(reservation_id, NOTHING)

    @rule()
    def restart(self) -> None:
        """The object is evicted; what it stored is not."""
        self.ledger = Ledger(self.sql)

    @rule(seconds=st.sampled_from([-30.0, 1.0, ENDED_KEPT_S / 2, 1.5 * RESERVED_S, 13 * 3600.0, 3 * 86_400.0]))
    def wait(self, seconds: float) -> None:
        """Clocks step back, reservations expire, days pass, the month changes."""
        self.now_s += seconds
        self.latest_s = max(self.latest_s, self.now_s)

    @invariant()
    def sums_agree(self) -> None:
        sums = self.ledger.sums(self.now_s)
        for each in self.known.values():
            each.has_expired |= each.is_open and each.since_s < self.now_s - RESERVED_S
        for period, name in ((sums.day, self._today), (sums.month, self._today[:7])):
            assert period.spent + period.reserved == self._used(name)
            assert period.reserved == self._used(name, in_flight=True)
        assert sums.day.spent.nano_usd + sums.day.reserved.nano_usd <= 1_000
        assert sums.month.spent.tokens + sums.month.reserved.tokens <= 200
        assert sum((cost for cost, _ in sums.models.values()), NOTHING) == sums.month.spent

    @property
    def _today(self) -> str:
        return datetime.fromtimestamp(self.now_s, UTC).date().isoformat()

    def _used(self, period: str, *, in_flight: bool = False) -> Cost:
        found = (each for each in self.known.values() if each.day.startswith(period))
        return sum((each.cost for each in found if not in_flight or (each.is_open and not each.has_expired)), NOTHING)

    def _is_remembered(self, reservation_id: str) -> bool:
        """Calls are repeated within seconds; what comes days later may count anew. What was forgotten stays so, also
        when the clock steps back.
        """
        return self.latest_s <= self.known[reservation_id].until_s

    def _end(self, reservation_id: str, cost: Cost) -> None:
        known = self.known[reservation_id]
        if known.is_open:
            known.cost, known.is_open, known.until_s = cost, False, self.now_s + ENDED_KEPT_S


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)

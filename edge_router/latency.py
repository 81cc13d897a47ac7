"""How long calls took lately, by place and kind. Pure: the caller passes the time; no I/O.

A window holds the latest samples themselves, so that windows of several isolates merge without counting anything twice.
"""

import json
from bisect import bisect, insort
from collections import OrderedDict
from collections.abc import Sequence
from math import ceil, inf, isfinite, sqrt
from typing import Final, Literal

WINDOW_S: Final = 300.0  # older samples say little; a candidate that nobody tried meanwhile is unknown again
MAX_SAMPLES: Final = 64  # of one window
MAX_KEYS: Final = 512  # windows of one table
EWMA_WEIGHT: Final = 0.1  # of the newest sample, once there are more than ten
PRIOR_SAMPLES: Final = 2.0  # what the declared value counts for against measured ones
PRIOR_DEVIATION: Final = 0.4  # of the declared value, as a share of it
ONE_SIDED_95: Final = 2.0  # standard deviations, for few samples (Student's t at 3 to 10 of them: 2.4 to 1.8)
ENOUGH_SAMPLES: Final = 20  # from here the measured p95 speaks for itself
MAX_SKEW_S: Final = 60.0  # how far in the future another machine's sample may lie
MAX_MS: Final = 3_600_000.0
NOWHERE: Final = "-"  # as a colo: the runtime did not say where we are

Kind = Literal["ttft", "total", "rtt"]


class Summary:
    """Of times, oldest first. All are 0 when there are none.

    Each figure is found when it is asked for: every call changes its window, and most are asked for one or two.
    """

    __slots__ = ("_averages", "_ordered", "_times_ms", "count")

    def __init__(self, times_ms: Sequence[float] = ()) -> None:
        self._times_ms = times_ms
        self._ordered: list[float] | None = None
        self._averages: tuple[float, float] | None = None
        self.count = len(times_ms)

    @property
    def p95_ms(self) -> float:
        return self._at(ceil(0.95 * self.count) - 1)

    @property
    def median_ms(self) -> float:
        return self._at((self.count - 1) // 2)

    @property
    def ewma_ms(self) -> float:
        return self._mean_and_deviation()[0]

    @property
    def deviation_ms(self) -> float:
        return self._mean_and_deviation()[1]

    def _at(self, rank: int) -> float:
        if self._ordered is None:
            self._ordered = sorted(self._times_ms)
        return self._ordered[rank] if self._ordered else 0.0

    def _mean_and_deviation(self) -> tuple[float, float]:
        """Plain averages at first, then exponentially weighted ones."""
        if self._averages is None:
            mean = variance = 0.0
            for position, ms in enumerate(self._times_ms):
                weight = max(EWMA_WEIGHT, 1 / (position + 1))
                difference = ms - mean if position else 0.0
                mean = mean + weight * difference if position else ms
                variance = (1 - weight) * (variance + weight * difference * difference)
            self._averages = mean, sqrt(variance)
        return self._averages


NOTHING: Final = Summary()


class LatencyWindow:
    """The latest times of one kind of call, at most MAX_SAMPLES of the last WINDOW_S seconds."""

    __slots__ = ("_samples", "_summary", "_valid_until_s")

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []  # (Unix time in seconds, milliseconds), oldest first
        self._summary = NOTHING
        self._valid_until_s = 0.0

    def add(self, now_s: float, ms: float) -> None:
        """Times that cannot be (negative, not finite) are ignored."""
        if not 0.0 <= ms < MAX_MS or not isfinite(now_s):
            return
        insort(self._samples, (round(now_s, 3), round(ms, 1)))
        if len(self._samples) > MAX_SAMPLES:
            del self._samples[0]
        self._valid_until_s = 0.0

    def merge(self, samples: list[tuple[float, float]], now_s: float) -> None:
        """Another isolate's samples, its copies of ours among them."""
        fresh = [(t, ms) for t, ms in samples if t <= now_s + MAX_SKEW_S and 0.0 <= ms < MAX_MS]
        self._samples = sorted({*self._samples, *fresh})[-MAX_SAMPLES:]
        self._valid_until_s = 0.0

    def samples(self, now_s: float) -> list[tuple[float, float]]:
        """(Unix time in seconds, milliseconds) of those in the window, oldest first."""
        return self._samples[bisect(self._samples, (now_s - WINDOW_S, inf)) :]

    def summary(self, now_s: float) -> Summary:
        if now_s >= self._valid_until_s:
            self._samples = self.samples(now_s)
            self._summary = Summary([ms for _, ms in self._samples])
            self._valid_until_s = self._samples[0][0] + WINDOW_S if self._samples else float("inf")
        return self._summary

    def upper_ms(self, now_s: float, declared_ms: float) -> float:
        """What the next call will hardly exceed: about 19 of 20 stay below.

        Without samples that is twice the declared value: a new candidate gets tried where time is not short, and is
        not trusted where it is. From ENOUGH_SAMPLES on it is the measured p95.
        """
        known = self.summary(now_s)
        if known.count >= ENOUGH_SAMPLES:
            return known.p95_ms
        weight = known.count + PRIOR_SAMPLES
        mean = (known.count * known.ewma_ms + PRIOR_SAMPLES * declared_ms) / weight
        variance = known.count * known.deviation_ms**2 + PRIOR_SAMPLES * (PRIOR_DEVIATION * declared_ms) ** 2
        return mean + ONE_SIDED_95 * sqrt(variance / weight * (1 + 1 / weight))


class LatencyTable:
    """Windows by (colo, kind, name), name being a model's or a region's id. Scope: isolate.

    The least recently used go when there are more than `max_keys`.
    """

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        self._max_keys = max_keys
        self._windows: OrderedDict[tuple[str, Kind, str], LatencyWindow] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def add(self, colo: str, kind: Kind, name: str, *, now_s: float, ms: float) -> None:
        self._own(colo, kind, name).add(now_s, ms)

    def summary(self, colo: str, kind: Kind, name: str, *, now_s: float) -> Summary:
        window = self._windows.get((colo, kind, name))
        return NOTHING if window is None else window.summary(now_s)

    def lowest_ms(self, colo: str, kind: Kind, name: str, *, now_s: float, latest: int) -> float | None:
        """Of the latest samples: what the way itself takes, without the queues of a busy moment. None without any."""
        window = self._windows.get((colo, kind, name))
        times_ms = [ms for _, ms in window.samples(now_s)[-latest:]] if window is not None else []
        return min(times_ms, default=None)

    def upper_ms(self, colo: str, kind: Kind, name: str, *, now_s: float, declared_ms: float) -> float:
        return self._windows.get((colo, kind, name), _EMPTY).upper_ms(now_s, declared_ms)

    def dump(self, colo: str, now_s: float) -> str:
        """One place's samples as compact JSON, for other isolates: {kind: {name: [seconds, ms, seconds, ms, …]}}."""
        kinds: dict[str, dict[str, list[float]]] = {}
        for (place, kind, name), window in self._windows.items():
            samples = window.samples(now_s) if place == colo else []
            if samples:
                kinds.setdefault(kind, {})[name] = [number for sample in samples for number in sample]
        return json.dumps(kinds, separators=(",", ":"))

    def merge(self, colo: str, text: str, now_s: float) -> None:
        """What `dump` made elsewhere. Raises ValueError when it is not of that form."""
        for kind, name, samples in _parsed(text):
            self._own(colo, kind, name).merge(samples, now_s)

    def _own(self, colo: str, kind: Kind, name: str) -> LatencyWindow:
        key = (colo, kind, name)
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = LatencyWindow()
            if len(self._windows) > self._max_keys:
                self._windows.popitem(last=False)
        else:
            self._windows.move_to_end(key)
        return window


_EMPTY: Final = LatencyWindow()  # never added to


def _parsed(text: str) -> list[tuple[Kind, str, list[tuple[float, float]]]]:
    kinds = json.loads(text)
    if not isinstance(kinds, dict) or not all(isinstance(names, dict) for names in kinds.values()):
        raise ValueError("shared latencies are not an object of objects")
    found: list[tuple[Kind, str, list[tuple[float, float]]]] = []
    for kind in ("ttft", "total", "rtt"):
        for name, numbers in kinds.get(kind, {}).items():
            if not isinstance(numbers, list) or len(numbers) % 2 or not all(map(_is_number, numbers)):
                raise ValueError("shared latencies are not pairs of numbers")
            found.append((kind, name, list(zip(numbers[::2], numbers[1::2], strict=True))[-MAX_SAMPLES:]))
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)

"""Which of equal upstreams is quickest now: peak EWMA, as in Finagle's balancer.

A slow answer counts at once, a quick one slowly, and what is not asked for a while is forgotten, so that an upstream
that was slow gets another chance. What is unknown costs nothing and is tried first.
"""

import math
from collections.abc import Callable

HALF_LIFE_S = 10.0


class PeakEwma:
    """Scope: process. now_s: a monotonic clock."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._value_s = 0.0
        self._at_s = now_s()

    def add(self, latency_s: float) -> None:
        value_s, now_s = self.value_s, self._now_s()
        if latency_s < value_s:
            weight = math.exp2(-(now_s - self._at_s) / HALF_LIFE_S)
            latency_s = weight * self._value_s + (1 - weight) * latency_s
        self._value_s, self._at_s = latency_s, now_s

    @property
    def value_s(self) -> float:
        """0 when nothing is known."""
        return self._value_s * math.exp2(-(self._now_s() - self._at_s) / HALF_LIFE_S)

    def cost(self, in_flight: int) -> float:
        """What one more call would wait, roughly: the busier of two equals is the worse."""
        return self.value_s * (in_flight + 1)

"""Servers with one bounded queue, first come, first served: M/M/c/K when times are exponential."""

from collections import deque
from collections.abc import Generator
from math import inf
from typing import Any

import simpy

Ticket = simpy.Event
Steps = Generator[simpy.Event, Any, Any]  # what simpy runs


class Slots:
    """count, queue: may be infinite. busy_s: the integral of busy slots over time, since `measure` was called."""

    def __init__(self, env: simpy.Environment, count: float = inf, queue: float = inf) -> None:
        self._env = env
        self._count = count
        self._queue = queue
        self._waiting: deque[Ticket] = deque()
        self._busy = 0
        self._since_s = self._measured_from_s = env.now
        self._busy_s = 0.0
        self.refused = 0

    def enter(self) -> Ticket | None:
        """A ticket that succeeds when there is a slot; None when the queue is full."""
        ticket = self._env.event()
        if self._busy < self._count:
            self._add(1)
            return ticket.succeed()
        if len(self._waiting) >= self._queue:
            self.refused += 1
            return None
        self._waiting.append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Frees the slot, or gives up waiting for it."""
        if not ticket.triggered:
            self._waiting.remove(ticket)
        elif self._waiting:
            self._waiting.popleft().succeed()
        else:
            self._add(-1)

    def measure(self) -> None:
        self._add(0)
        self._busy_s, self._measured_from_s, self.refused = 0.0, self._env.now, 0

    def erlangs(self) -> float:
        """Slots that were busy on average."""
        self._add(0)
        span_s = self._env.now - self._measured_from_s
        return self._busy_s / span_s if span_s else 0.0

    def _add(self, change: int) -> None:
        self._busy_s += self._busy * (self._env.now - self._since_s)
        self._since_s = self._env.now
        self._busy += change

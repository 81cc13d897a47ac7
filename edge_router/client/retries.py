"""When a call is tried again, and after how long: only while nothing of an answer was seen (`may_repeat`)."""

from dataclasses import dataclass
from typing import Any

from tenacity import RetryCallState, retry_if_exception, stop_after_attempt, stop_any, stop_before_delay
from tenacity.wait import wait_random, wait_random_exponential

from .errors import ClientError

JITTER_S = 0.25  # on top of Retry-After, which many callers are told at the same moment


@dataclass(frozen=True, slots=True)
class Retries:
    """attempts: the first one included; 1 turns retries off. base_s: the first wait is random up to it, then up to
    twice as long, and so on (full jitter). max_wait_s: who is told to wait longer gets the error at once.
    """

    attempts: int = 3
    base_s: float = 0.5
    max_wait_s: float = 20.0

    def arguments(self, total_s: float) -> dict[str, Any]:
        """For tenacity's `Retrying` and `AsyncRetrying`. total_s: no wait goes beyond."""
        return {
            "retry": retry_if_exception(self._may_repeat),
            "wait": self._wait_s,
            "stop": stop_any(stop_after_attempt(self.attempts), stop_before_delay(total_s)),
            "reraise": True,
        }

    def _may_repeat(self, error: BaseException) -> bool:
        return isinstance(error, ClientError) and error.may_repeat and (error.retry_after_s or 0.0) <= self.max_wait_s

    def _wait_s(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, ClientError) and error.retry_after_s is not None:
            return error.retry_after_s + wait_random(0, JITTER_S)(state)
        return wait_random_exponential(multiplier=self.base_s, max=self.max_wait_s)(state)

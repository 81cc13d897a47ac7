"""What can go wrong with a call, as docs/errors.md lists it.

ClientError
├── APIError                  the gateway answered with an error: status, code, type, param, retry_after_s, report
│   ├── RequestRejected       the caller must change the request                  400, 404, 405, 413, …
│   ├── NotAllowed            no key, not a valid one, or not for this            401, 403
│   ├── BudgetExceeded        more than the key may still spend                   402
│   ├── RateLimited           too often, or an upstream out of capacity           429
│   └── UpstreamFailed        a model or a region failed                          5xx
├── StreamFailed              a stream broke after its status was sent; `text` is what had come
├── TimedOut                  `phase` says which of the timeouts
├── ConnectionFailed          no connection, or it broke
└── UnreadableAnswer          an answer that is no OpenAI answer
"""

from collections.abc import Mapping
from typing import Any, Literal

from .report import EdgeReport, read_report

Phase = Literal["connect", "first_token", "idle", "total"]
TRANSIENT_STATUSES = frozenset({429, 502, 503, 504})
TRANSIENT_TYPES = frozenset({"upstream_error", "rate_limit_error"})


class ClientError(Exception):
    """Any failure of a call.

    may_repeat: whether asking again is safe: nothing of an answer was seen, and another attempt can go better.
    retry_after_s: as the gateway said.
    """

    may_repeat = False
    retry_after_s: float | None = None


class APIError(ClientError):
    """The gateway answered with an error."""

    def __init__(self, status: int, error: Mapping[str, Any], report: EdgeReport, retry_after_s: float | None) -> None:
        self.status = status
        self.message = str(error.get("message") or f"status {status}")
        self.code, self.type, self.param = (_text(error.get(name)) for name in ("code", "type", "param"))
        self.report = report
        self.retry_after_s = retry_after_s
        # `only-if-cached` is a 504 by RFC 9111, and no other attempt will find it stored.
        self.may_repeat = status in TRANSIENT_STATUSES and self.type != "invalid_request_error"
        super().__init__(f"{status} {self.code or self.type or ''}: {self.message}")


class RequestRejected(APIError):
    """The caller must change the request."""


class NotAllowed(APIError):
    """No key, not a valid one, or not for this."""


class BudgetExceeded(APIError):
    """More than the key may still spend."""


class RateLimited(APIError):
    """Too often, or an upstream out of capacity."""


class UpstreamFailed(APIError):
    """A model or a region failed."""


class StreamFailed(ClientError):
    """A stream broke after its status was sent. code: the gateway's, or `stream_cut`; text: what had come."""

    def __init__(self, error: Mapping[str, Any], report: EdgeReport, text: str) -> None:
        self.code, self.type = _text(error.get("code")), _text(error.get("type"))
        self.message = str(error.get("message") or "the stream broke")
        self.report, self.text = report, text
        self.retry_after_s = report.retry_after_s
        self.may_repeat = not text and self.type in TRANSIENT_TYPES
        super().__init__(f"{self.code or self.type or 'stream_failed'}: {self.message}")


class TimedOut(ClientError):
    """phase: which of the timeouts."""

    def __init__(self, phase: Phase, timeout_s: float) -> None:
        self.phase = phase
        self.may_repeat = phase == "connect"
        super().__init__(f"no {phase} within {timeout_s} s" if phase != "total" else f"not whole within {timeout_s} s")


class ConnectionFailed(ClientError):
    """No connection (then the request was never sent, and may be repeated), or it broke."""

    def __init__(self, message: str, *, is_connected: bool) -> None:
        self.may_repeat = not is_connected
        super().__init__(message)


class UnreadableAnswer(ClientError):
    """An answer that is no OpenAI answer."""


def api_error(status: int, answer: Mapping[str, Any], headers: Mapping[str, str]) -> APIError:
    """Of an answer whose status is an error. headers: by names in lower case."""
    error = answer.get("error")
    report = read_report(headers, answer.get("nearside"))
    retry_after_s = _seconds(headers.get("retry-after"))
    if retry_after_s is None:
        retry_after_s = report.retry_after_s
    return _class_of(status)(status, error if isinstance(error, dict) else {}, report, retry_after_s)


def _class_of(status: int) -> type[APIError]:
    if status >= 500:
        return UpstreamFailed
    return {401: NotAllowed, 402: BudgetExceeded, 403: NotAllowed, 429: RateLimited}.get(status, RequestRejected)


def _seconds(value: str | None) -> float | None:
    """Of `Retry-After`; a date, which the gateway never sends, counts as nothing said."""
    return float(value) if value and value.strip().isdecimal() else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None

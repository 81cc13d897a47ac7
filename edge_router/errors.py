"""What can go wrong with a request, and how each case looks on the wire (OpenAI's error object).

GatewayError                 carries status, type, param and code
├── RequestRejected          the caller must change the request              -> 4xx
│   ├── NotAuthenticated     no key, or not a valid one                      -> 401
│   ├── NotFound             no such path or model                           -> 404
│   ├── MethodNotAllowed     the path exists, the method does not            -> 405
│   ├── BodyTooLarge         more bytes than we read                         -> 413
│   ├── NotCached            only a stored answer would do, there is none    -> 504
│   ├── RateLimited          the tenant asks too often                       -> 429
│   └── BudgetExceeded       more than the tenant may still spend            -> 402
├── BudgetUnavailable        what it may still spend can't be known          -> 503
├── UpstreamError            a model or a region failed                      -> 502
│   ├── UpstreamTimeout      no first token before the deadline              -> 504
│   ├── UpstreamBusy         out of capacity or rate limited                 -> 429 or 503
│   │   └── EdgeClosed       Workers AI can't be used here or today          -> 429 or 503
│   ├── FlightLost           a call shared with others was lost on its way   -> 502
│   ├── CloudUnavailable     no cloud region could be reached                -> 502
│   └── RegionFailed         what answered in a region was not our service   -> 502
├── StoreError               a cache could not answer: counted, treated as a miss
└── DeliveryError            who is to be told something could not be reached
"""

from typing import Any


class GatewayError(Exception):
    """Any failure that a caller is told about.

    message: names the thing and what to do; never contains prompt text, keys or upstream bodies.
    param: the request field at fault, as `messages[0].content`.
    """

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status

    def to_body(self) -> dict[str, Any]:
        """`{"error": {message, type, param, code}}`, all four keys always there, as OpenAI's SDKs expect."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class RequestRejected(GatewayError):
    """The caller must change the request."""

    status = 400
    type = "invalid_request_error"


class NotAuthenticated(RequestRejected):
    """No key, or not a valid one."""

    status = 401
    code = "invalid_api_key"


class NotFound(RequestRejected):
    """No such path or model."""

    status = 404
    code = "not_found"


class MethodNotAllowed(RequestRejected):
    """The path exists, the method does not; `allow` lists those that do."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class BodyTooLarge(RequestRejected):
    """More bytes than we read."""

    status = 413
    code = "body_too_large"


class NotCached(RequestRejected):
    """Only a stored answer would do (`only-if-cached`), and there is none; RFC 9111 asks for this status."""

    status = 504
    code = "not_cached"


class RateLimited(RequestRejected):
    """The tenant asks too often."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class BudgetExceeded(RequestRejected):
    """The answer might cost more than the tenant may still spend. Not 429, which clients repeat by themselves."""

    status = 402
    type = "insufficient_quota"
    code = "budget_exceeded"


class BudgetUnavailable(GatewayError):
    """What the tenant may still spend can't be known, and without that nothing is spent."""

    status = 503
    code = "budget_unavailable"


class UpstreamError(GatewayError):
    """A model or a region failed; another one may still answer."""

    status = 502
    type = "upstream_error"
    code = "upstream_error"


class UpstreamTimeout(UpstreamError):
    """No first token before the deadline."""

    status = 504
    code = "upstream_timeout"


class UpstreamBusy(UpstreamError):
    """Out of capacity or rate limited; `retry_after_s` when the upstream said so."""

    status = 429
    type = "rate_limit_error"
    code = "upstream_busy"


class EdgeClosed(UpstreamBusy):
    """Workers AI can't be used: its free allocation is used up until midnight (UTC), or there is no AI binding."""

    code = "edge_allowance_used_up"


class FlightLost(UpstreamError):
    """The call shared with others was lost, which says nothing of the upstream: alone it may well go."""

    code = "stream_cut"


class CloudUnavailable(UpstreamError):
    """No cloud region could be reached."""

    code = "cloud_unavailable"


class RegionFailed(UpstreamError):
    """What answered in a cloud region was not our service, or did not accept our call."""


class StoreError(GatewayError):
    """A cache could not answer: counted, treated as a miss, never shown to a caller."""


class DeliveryError(GatewayError):
    """A receiver of notices or traces could not be reached: tried again or counted, never shown to a caller."""

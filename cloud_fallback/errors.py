"""What can go wrong between a caller and the upstream. The wire form is edge_router's GatewayError.

GatewayError
├── RequestRejected            the caller must change the request          -> 400
│   ├── NotSigned              no key holder has signed this call          -> 401
│   ├── BudgetSpent            the model's budget for today is used up     -> 429
│   ├── BodyTooSlow            the body did not arrive in time             -> 408
│   ├── UnknownPath            no such path                                -> 404
│   ├── ModelNotFound          the catalog has no such model               -> 404
│   ├── MethodNotAllowed       the path exists, the method does not        -> 405
│   ├── BodyTooLarge           more bytes than max_body_bytes              -> 413
│   ├── WrongMediaType         the body is not plain JSON                  -> 415
│   └── UpstreamRejected       the upstream says the caller is at fault    -> 400, 404, 413, 422
└── UpstreamError              the upstream failed                         -> 502
    ├── UpstreamAuth           it does not take our key                    -> 502
    ├── UpstreamConfused       it answered with a status that is no answer -> 502
    ├── UpstreamUnavailable    its breaker is open or its bulkhead full    -> 503
    ├── ShuttingDown           this process is about to end                -> 503
    ├── UpstreamUnreachable    no connection                               -> 502
    ├── UpstreamTimeout        connected too slowly, or fell silent        -> 504
    └── UpstreamRateLimited    carries the upstream's Retry-After          -> 429

CallerGone                     the caller hung up: nobody is left to answer
SystemExit
└── ConfigError                a setting or the catalog is wrong: one line, and no start
"""

from edge_router.errors import BodyTooLarge, GatewayError, MethodNotAllowed, RequestRejected, UpstreamError

__all__ = [
    "BodyTooLarge",
    "BodyTooSlow",
    "BudgetSpent",
    "CallerGone",
    "ConfigError",
    "GatewayError",
    "MethodNotAllowed",
    "ModelNotFound",
    "NotSigned",
    "RequestRejected",
    "ShuttingDown",
    "UnknownPath",
    "UpstreamAuth",
    "UpstreamConfused",
    "UpstreamError",
    "UpstreamRateLimited",
    "UpstreamRejected",
    "UpstreamTimeout",
    "UpstreamUnavailable",
    "UpstreamUnreachable",
    "WrongMediaType",
]


class NotSigned(RequestRejected):
    """No holder of a key has signed this call, or it was made before."""

    status = 401
    code = "invalid_signature"


class BudgetSpent(RequestRejected):
    """The model's budget for today is used up."""

    status = 429
    type = "rate_limit_error"
    code = "budget_spent"


class BodyTooSlow(RequestRejected):
    """The body did not arrive in time."""

    status = 408
    code = "request_timeout"


class UnknownPath(RequestRejected):
    """No such path."""

    status = 404
    code = "not_found"


class ModelNotFound(RequestRejected):
    """The catalog has no such model."""

    status = 404
    code = "model_not_found"


class WrongMediaType(RequestRejected):
    """The body is not plain JSON."""

    status = 415
    code = "unsupported_media_type"


class UpstreamRejected(RequestRejected):
    """The upstream says that the caller is at fault; `type`, `param` and `code` are the upstream's."""

    def __init__(self, message: str, *, status: int, type: str, param: str | None, code: str | None) -> None:
        super().__init__(message, status=status, param=param, code=code)
        self.type = type


class UpstreamAuth(UpstreamError):
    """The upstream does not take our key."""

    code = "upstream_auth"


class UpstreamConfused(UpstreamError):
    """It answered with a status that says nothing, as a redirect: the next call would get the same."""


class UpstreamUnavailable(UpstreamError):
    """Its breaker is open or its bulkhead full: it was not asked."""

    status = 503


class ShuttingDown(UpstreamError):
    """This process is about to end."""

    status = 503
    code = "shutting_down"


class UpstreamUnreachable(UpstreamError):
    """No connection to the upstream."""

    code = "upstream_unreachable"


class UpstreamTimeout(UpstreamError):
    """The upstream connected too slowly, or fell silent."""

    status = 504
    code = "upstream_timeout"


class UpstreamRateLimited(UpstreamError):
    """The upstream limits us; `retry_after` is its header, a number of seconds or a date."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limited"

    def __init__(self, message: str, *, retry_after: str | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def may_be_retried(error: BaseException) -> bool:
    """Whether the same upstream may answer the same call, asked again a little later."""
    return isinstance(error, UpstreamError) and not isinstance(
        error, UpstreamAuth | UpstreamConfused | UpstreamUnavailable
    )


class CallerGone(Exception):
    """The caller hung up: nobody is left to answer."""


class ConfigError(SystemExit):
    """A setting or the catalog is wrong. Under any runner this prints one line and stops the start."""

    def __init__(self, message: str) -> None:
        super().__init__(f"cloud_fallback: {message}")

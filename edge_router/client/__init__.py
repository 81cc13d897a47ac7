"""Python client of the gateway, on httpx: docs/client.md. No part of the Worker: scripts/stage leaves it out."""

from .errors import (
    APIError,
    BudgetExceeded,
    ClientError,
    ConnectionFailed,
    NotAllowed,
    RateLimited,
    RequestRejected,
    StreamFailed,
    TimedOut,
    UnreadableAnswer,
    UpstreamFailed,
)
from .exchange import Completion, Timeouts
from .report import CacheReport, EdgeReport
from .retries import Retries
from .sentences import SentenceSplitter
from .shells import AsyncClient, AsyncStream, Client, Stream

__all__ = [
    "APIError",
    "AsyncClient",
    "AsyncStream",
    "BudgetExceeded",
    "CacheReport",
    "Client",
    "ClientError",
    "Completion",
    "ConnectionFailed",
    "EdgeReport",
    "NotAllowed",
    "RateLimited",
    "RequestRejected",
    "Retries",
    "SentenceSplitter",
    "Stream",
    "StreamFailed",
    "TimedOut",
    "Timeouts",
    "UnreadableAnswer",
    "UpstreamFailed",
]

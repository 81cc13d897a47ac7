"""cloud_fallback's API as the edge speaks it: what is sent, and what its answers say. Pure."""

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any

from .errors import GatewayError, RegionFailed, RequestRejected, UpstreamBusy, UpstreamError, UpstreamTimeout
from .ports import UpstreamResponse
from .requests import Controls

CHAT_PATH = "/v1/chat/completions"
REGION_HEADER = "nearside-cloud-region"  # on every answer of the service itself
MODEL_HEADER = "nearside-cloud-model"  # which model answered
# How long the edge will wait for the first byte, from the moment it sends. Not a time: clocks differ.
DEADLINE_HEADER = "nearside-deadline-ms"
FALLBACKS_HEADER = "nearside-fallbacks"  # `off`: only the model that is asked for may answer
WAITED_HEADER = "nearside-waited-ms"  # of an answer that a flight passes on: how long its own call took to answer
# Of an answer, what the edge reads: a flight passes on these.
ANSWER_HEADERS = ("content-type", "server-timing", "retry-after", REGION_HEADER, MODEL_HEADER)
_CONTROLS = frozenset(Controls.model_fields)  # ours: an upstream may refuse what it does not know


def chat_body(
    body: Mapping[str, Any], model_id: str, *, is_stream: bool, limit_tokens: int | None = None
) -> dict[str, Any]:
    """The caller's request for the cloud: our own fields out, the model in, usage asked for in streams.

    limit_tokens: of the output, for a request that sets none itself.
    """
    sent = {name: value for name, value in body.items() if name not in _CONTROLS}
    sent["model"] = model_id
    if limit_tokens is not None:
        sent["max_completion_tokens"] = limit_tokens
    if sent.get("max_completion_tokens") is not None:
        sent.pop("max_tokens", None)  # the newer name wins; who knows only the older one must not take a larger limit
    if is_stream:
        sent["stream_options"] = {**(sent.get("stream_options") or {}), "include_usage": True}
    return sent


async def error_of(response: UpstreamResponse, label: str) -> GatewayError:
    """What an answer with an error status means. The service's own errors are OpenAI-shaped and safe to repeat;
    anything else is not repeated.
    """
    is_own = response.header(REGION_HEADER) is not None
    error = _error_object(await response.text()) if is_own else {}
    status, code, after_s = response.status, error.get("code"), retry_after_s(response)
    if status == 429:
        return UpstreamBusy("The cloud is rate limited.", code="rate_limited", retry_after_s=after_s)
    if status in (401, 403):  # our signature or nothing: callers' keys do not come here
        return RegionFailed(f"{label} does not accept our calls.", code="cloud_refused")
    if 400 <= status < 500 and error.get("message"):
        param = error.get("param")
        return RequestRejected(
            str(error["message"]),
            param=param if isinstance(param, str) else None,
            code=str(code) if code else None,
            status=status,
        )
    if status == 504:
        return UpstreamTimeout(f"No answer from {label} in time.")
    message, code = f"{label} failed (status {status}).", str(code) if code else None
    if not is_own:
        return RegionFailed(message, retry_after_s=after_s)
    # What will pass, as an open breaker, keeps its status.
    return UpstreamError(message, code=code, status=status if status == 503 else None, retry_after_s=after_s)


def retry_after_s(response: UpstreamResponse) -> float | None:
    header = response.header("retry-after") or ""
    return float(header) if header.isdecimal() and len(header) <= 6 else None


def rtt_ms(response: UpstreamResponse, waited_ms: float) -> float | None:
    """Of the way to the region and back: what was waited for the headers, less what the service says it took itself.
    None when it does not say. waited_ms: by our own clock; a flight's answer brings its own.
    """
    took_ms = own_ms(response)
    if took_ms is None:
        return None
    flight_ms = response.header(WAITED_HEADER)
    if flight_ms is not None:
        try:
            waited_ms = float(flight_ms)
        except ValueError:
            return None
    return max(0.0, waited_ms - took_ms) if isfinite(waited_ms) else None


def own_ms(response: UpstreamResponse) -> float | None:
    """Milliseconds that the service and its upstream took, by its own `Server-Timing`; None when it does not say."""
    parts = [entry.partition("dur=") for entry in (response.header("server-timing") or "").split(",")]
    try:
        durations_ms = [float(duration.split(";")[0]) for _, found, duration in parts if found]
    except ValueError:
        return None
    total_ms = sum(durations_ms)
    return total_ms if durations_ms and isfinite(total_ms) else None


def _error_object(text: str) -> dict[str, Any]:
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return error if isinstance(error, dict) else {}

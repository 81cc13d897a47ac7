"""One request as a data point of Workers Analytics Engine: which column is what. docs/telemetry.md

A dataset's columns have no names but their place, so a new one goes to the end. The index is the tenant: sampling is
fair for each value of it.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ..report import Report
from .cells import timed_out, tokens_per_s

MAX_INDEX_BYTES: Final = 96


class Record(NamedTuple):
    """What is known of a request once it has ended."""

    report: Report
    tenant: str
    status: int


BLOBS: Final[tuple[tuple[str, Callable[[Record], str | None]], ...]] = (
    ("colo", lambda record: record.report.location.colo),
    ("served by", lambda record: record.report.served_by),
    ("model", lambda record: record.report.model),
    ("route reason", lambda record: record.report.route_reason),
    ("cloud region", lambda record: record.report.cloud_region),
    ("cache outcome", lambda record: record.report.cache),
    ("status", lambda record: str(record.status)),
    ("cache tier", lambda record: record.report.cache_tier),
    ("error code", lambda record: record.report.error_code),
    ("cascade verdict", lambda record: record.report.cascade.verdict if record.report.cascade else None),
)
DOUBLES: Final[tuple[tuple[str, Callable[[Record], float | None]], ...]] = (
    ("total, ms", lambda record: record.report.timings_ms.get("total")),
    ("TTFT, ms", lambda record: record.report.timings_ms.get("ttft")),
    ("client RTT, ms", lambda record: record.report.location.rtt_ms),
    ("cost, USD", lambda record: record.report.cost_usd),
    ("cost avoided, USD", lambda record: record.report.cost_avoided_usd),
    ("cloud RTT, ms", lambda record: record.report.cloud_rtt_ms),
    ("input tokens", lambda record: record.report.input_tokens),
    ("output tokens", lambda record: record.report.output_tokens),
    ("avoided tokens", lambda record: record.report.avoided_tokens),
    ("output tokens per second", lambda record: tokens_per_s(record.report)),
    ("1 if collapsed", lambda record: record.report.collapsed),
    ("1 if hedged", lambda record: record.report.hedged),
    ("1 if a model or region timed out", lambda record: timed_out(record.report)),
    ("attempts that failed before", lambda record: len(record.report.fallbacks)),
    ("1 if a model was asked for", lambda record: record.report.is_asking),
)


def data_point(record: Record) -> dict[str, Any]:
    """What `writeDataPoint` takes. What is unknown is an empty text, or 0."""
    return {
        "indexes": [record.tenant.encode()[:MAX_INDEX_BYTES].decode("utf-8", "ignore")],
        "blobs": [read(record) or "" for _, read in BLOBS],
        "doubles": [float(read(record) or 0) for _, read in DOUBLES],
    }

"""`Telemetry` on Analytics Engine. Columns: docs/report.md. Index: the tenant, by which sampling is fair."""

from typing import Any

from pyodide.ffi import JsException

from adapters.javascript import to_object
from edge_router.ports import Background
from edge_router.report import Report


class AnalyticsEngine:
    """Points are handed over without waiting; the platform may drop them, and never tells."""

    def __init__(self, dataset: Any | None) -> None:
        """dataset: None when the binding is missing; then nothing is recorded."""
        self._dataset = dataset

    def record(self, report: Report, background: Background, *, tenant: str, status: int) -> None:
        if self._dataset is None:
            return
        timings_ms = report.timings_ms
        point = {
            "indexes": [tenant[:96]],
            "blobs": [
                report.location.colo or "",
                report.served_by or "",
                report.model or "",
                report.route_reason or "",
                report.cloud_region or "",
                report.cache or "",
                str(status),
            ],
            "doubles": [
                timings_ms.get("total", 0.0),
                timings_ms.get("ttft", 0.0),
                report.location.rtt_ms or 0.0,
                report.cost_usd or 0.0,
                report.cost_avoided_usd or 0.0,
            ],
        }
        try:
            self._dataset.writeDataPoint(to_object(point))
        except JsException:
            return  # a lost point must not cost an answer

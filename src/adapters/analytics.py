"""`Telemetry` on Analytics Engine."""

from typing import Any

from pyodide.ffi import JsException

from adapters.javascript import to_object
from edge_router.metrics.points import Record, data_point
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
        try:
            self._dataset.writeDataPoint(to_object(data_point(Record(report, tenant, status))))
        except JsException:
            return  # a lost point must not cost an answer

"""What is counted, for Prometheus. Labels come from closed lists: endpoints, ids of the configuration, error codes.

With several workers, PROMETHEUS_MULTIPROC_DIR (set by `__main__`) makes `/metrics` of any of them tell of all.
"""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


class Metrics:
    """Scope: process, or all workers of one host."""

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        name = "nearside_cloud_{}".format
        self.requests = Counter(name("requests"), "Answers sent", ["endpoint", "status"], registry=own)
        self.app_seconds = Histogram(
            name("app_seconds"), "Our own time until the first byte", ["endpoint"], registry=own, buckets=_SECONDS
        )
        self.total_seconds = Histogram(
            name("total_seconds"), "Until the last byte", ["endpoint"], registry=own, buckets=_SECONDS
        )
        self.open_requests = Gauge(
            name("open_requests"), "Being answered now", registry=own, multiprocess_mode="livesum"
        )
        self.refused = Counter(name("refused"), "Calls that were not signed as they must be", ["reason"], registry=own)
        self.attempts = Counter(name("attempts"), "Calls to upstreams", ["upstream", "model", "outcome"], registry=own)
        self.breaker_opened = Counter(name("breaker_opened"), "Times", ["upstream"], registry=own)
        self.in_flight = Gauge(
            name("upstream_in_flight"), "Calls", ["upstream"], registry=own, multiprocess_mode="livesum"
        )
        self.queued = Gauge(name("upstream_queued"), "Calls", ["upstream"], registry=own, multiprocess_mode="livesum")
        self.broken_streams = Counter(
            name("broken_streams"), "Streams that ended with an error event", ["reason"], registry=own
        )
        self.batch_items = Histogram(
            name("batch_items"), "Inputs of one upstream call", ["model"], registry=own, buckets=_ITEMS
        )
        self.input_tokens = Counter(name("input_tokens"), "As upstreams counted", ["model"], registry=own)
        self.cached_tokens = Counter(
            name("cached_input_tokens"), "Of these, those the upstream had cached", ["model"], registry=own
        )
        self.output_tokens = Counter(name("output_tokens"), "As upstreams counted", ["model"], registry=own)
        self.store_errors = Counter(name("store_errors"), "Redis could not be asked", ["operation"], registry=own)

    def exposition(self) -> bytes:
        """Prometheus' text format."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

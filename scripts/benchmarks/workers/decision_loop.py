"""Many decisions in a row, the same code on CPython and in the Worker."""

import sys

from edge_router.catalog import DEFAULT_MODELS, Catalog
from edge_router.latency import LatencyTable
from edge_router.learned import shipped
from edge_router.routing import Conditions, Needs, choose_route

ROUTER = shipped()
THRESHOLDS = ROUTER.thresholds(edge_share=0.6, quality_floor=None)
CATALOG = Catalog(DEFAULT_MODELS)
LATENCIES = LatencyTable()


def score(text: str) -> None:
    ROUTER.score(text)


def decide(text: str) -> None:
    """With a deadline, so that every model's time is predicted."""
    conditions = Conditions(
        lambda model: LATENCIES.upper_ms(
            "CDG", "ttft", model.id, now_s=1_795_000_000.0, declared_ms=model.declared_ttft_ms
        )
    )
    choose_route(Needs(left_ms=5000.0), ROUTER.score(text), CATALOG, THRESHOLDS, conditions)


def load(text: str) -> None:
    """The weights, read anew."""
    sys.modules.pop("edge_router.router_weights", None)
    shipped()


LOOPS = {"score": score, "decide": decide, "load": load}


def run(what: str, text: str, times: int) -> None:
    call = LOOPS[what]
    for _ in range(times):
        call(text)

"""When an edge model's answer is checked, and when the cloud is asked at the same time."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from ..complexity import Thresholds
from ..routing import Route

Mode = Literal["off", "on", "race"]

_ORDERED = ("pinned", "forced-edge", "forced-cloud")  # the caller chose: nothing is to be overruled
NEAR = 1 / 3  # of the way between the thresholds; above it an answer is likely to be rejected


@dataclass(frozen=True, slots=True)
class CascadeSettings:
    """hold_s: how long a stream's beginning may be held back. thresholds_for: the router's, by tenant."""

    mode: Mode
    hold_s: float
    thresholds_for: Callable[[str], Thresholds]


def choose_mode(asked: Mode | None, default: Mode, route: Route, thresholds: Thresholds) -> Mode:
    """What to do with a request that `route` sends to an edge model.

    asked: by the request itself; it counts whatever the score is. default: of the tenant or the deployment; then only
    scores between the thresholds are checked, and `race` starts the cloud only near the upper one.
    """
    can_escalate = route.first.side == "edge" and any(model.side == "cloud" for model in route.models)
    if not can_escalate or not set(route.reasons).isdisjoint(_ORDERED):
        return "off"
    if asked is not None:
        return asked
    score, low, high = route.complexity, thresholds.edge_large, thresholds.cloud_fast
    if default == "off" or score is None or not low <= score < high:
        return "off"
    return default if score >= high - NEAR * (high - low) else "on"


def split(route: Route) -> tuple[Route, Route]:
    """The route's edge models, and its cloud models."""
    edge = tuple(model for model in route.models if model.side == "edge")
    cloud = tuple(model for model in route.models if model.side == "cloud")
    return replace(route, models=edge), replace(route, models=cloud)

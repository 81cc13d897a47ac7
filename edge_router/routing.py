"""Which model answers, which come next if it fails, and why. One pure function from a request to a Route."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from .catalog import TIERS, Catalog, Model, Side, Tier
from .errors import NotFound, RequestRejected

Reason = Literal[
    "pinned",  # the request names a model of the catalog
    "forced-edge",  # model: "edge"
    "forced-cloud",  # model: "cloud"
    "tools",  # tools that the cheaper tiers can't serve
    "images",  # parts that are not text
    "json",  # a response format that the cheaper tiers can't hold to
    "parameters",  # parameters that the cheaper tiers do not know
    "context-window",  # too long for the cheaper tiers
    "simple",  # complexity below the lower threshold
    "medium",  # between the thresholds
    "complex",  # above the upper threshold
]
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Complexity below `edge_large` goes to edge-small, below `cloud_fast` to edge-large, and so on."""

    edge_large: float = 0.3
    cloud_fast: float = 0.7
    cloud_quality: float = 0.9


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request asks of a model.

    tokens: estimated input plus the output limit, for the context window.
    parameter: name of one that only OpenAI-shaped models know, as `stop` or `n`.
    """

    model: str = AUTO
    tokens: int = 0
    tools: bool = False
    images: bool = False
    json: bool = False
    parameter: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """Models to try, in order, and the reason for the first of them.

    complexity: None when the request left nothing to decide.
    """

    models: tuple[Model, ...]
    reason: Reason
    complexity: float | None = None

    @property
    def first(self) -> Model:
        return self.models[0]


def choose_route(needs: Needs, complexity: float, catalog: Catalog, thresholds: Thresholds) -> Route:
    """Hard rules first, then complexity.

    Fallbacks are of the same tier or a stronger one, never weaker: a question that needs the cloud is not
    quietly answered by a small model. A pinned model has none: whoever names a model wants that one.
    Raises NotFound for an unknown model, RequestRejected when no model can serve the request.
    """
    if needs.model not in (AUTO, "edge", "cloud"):
        return _pinned(needs, catalog)

    by_complexity, tier = _tier_for(complexity, thresholds)
    side: Side | None = None if needs.model == AUTO else needs.model  # type: ignore[assignment]  # checked above
    start = tier if side is None or tier.startswith(side) else _nearest_tier(side)
    first = TIERS.index(start)
    models: list[Model] = []
    refusals: list[Reason] = []
    moved_by: Reason | None = None
    for tiers in (TIERS[first:], TIERS[:first][::-1]):
        for model in _of_side(catalog, tiers, side):
            why_not = _unfit(needs, model)
            if why_not is None:
                models.append(model)
            else:
                refusals.append(why_not)
                if not models:
                    moved_by = moved_by or why_not
        if models:
            break  # a weaker tier is used only where no stronger one can serve the request at all
    if not models:
        raise _no_model("context-window" if "context-window" in refusals else moved_by, needs)

    if side is not None:
        return Route(tuple(models), "forced-edge" if side == "edge" else "forced-cloud", complexity)
    moved = models[0].tier != start
    return Route(tuple(models), moved_by if moved and moved_by else by_complexity, complexity)


def _pinned(needs: Needs, catalog: Catalog) -> Route:
    model = catalog.find(needs.model)
    if model is None:
        raise NotFound(
            f"The model '{_shown(needs.model)}' does not exist. GET /v1/models lists those that do.",
            param="model",
            code="model_not_found",
        )
    why_not = _unfit(needs, model)
    if why_not is not None:
        raise _no_model(why_not, needs)
    return Route((model,), "pinned")


def _tier_for(complexity: float, thresholds: Thresholds) -> tuple[Reason, Tier]:
    if complexity < thresholds.edge_large:
        return "simple", "edge-small"
    if complexity < thresholds.cloud_fast:
        return "medium", "edge-large"
    return "complex", "cloud-fast" if complexity < thresholds.cloud_quality else "cloud-quality"


def _nearest_tier(side: Side) -> Tier:
    """The side's tier next to the other side: its strongest at the edge, its cheapest in the cloud."""
    tiers = [tier for tier in TIERS if tier.startswith(side)]
    return tiers[-1] if side == "edge" else tiers[0]


def _of_side(catalog: Catalog, tiers: Iterable[Tier], side: Side | None) -> Iterator[Model]:
    return (model for tier in tiers for model in catalog.in_tier(tier) if side is None or model.side == side)


def _unfit(needs: Needs, model: Model) -> Reason | None:
    if needs.images and "vision" not in model.features:
        return "images"
    if needs.tools and "tools" not in model.features:
        return "tools"
    if needs.json and "json" not in model.features:
        return "json"
    if needs.parameter is not None and model.shape == "native":
        return "parameters"
    if needs.tokens > model.context_window_tokens:
        return "context-window"
    return None


def _no_model(reason: Reason | None, needs: Needs) -> RequestRejected:
    where = "any model" if needs.model == AUTO else f"'{_shown(needs.model)}'"
    if reason == "context-window":
        return RequestRejected(
            f"About {needs.tokens} tokens do not fit into the context window of {where}.",
            param="messages",
            code="context_length_exceeded",
        )
    if reason == "images":
        message, param = f"Content parts other than text are not served by {where}.", "messages"
    elif reason == "tools":
        message, param = f"Tools are not served by {where}.", "tools"
    elif reason == "parameters":
        message, param = f"The parameter '{needs.parameter}' is not served by {where}.", needs.parameter or ""
    elif reason == "json":
        message, param = f"This response_format is not served by {where}.", "response_format"
    else:
        message, param = f"The catalog has no model for {where}.", "model"
    return RequestRejected(message, param=param, code="unsupported_value")


def _shown(model_id: str) -> str:
    """A caller's model name in our message: short, printable."""
    return "".join(c for c in model_id[:64] if c.isprintable())

"""Which model answers, which come next if it fails, and why. One pure function from a request to a Route.

The rules, in order, and every reason: docs/routing.md.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final, Literal

from .catalog import TIERS, Catalog, Model, Side, Tier
from .complexity import Thresholds
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
    "residency",  # the answer must be made in an area that the cheaper tiers can't promise
    "unhealthy",  # what would have been first fails at present
    "deadline",  # what would have been first would come too late
    "deadline-missed",  # everything would come too late: the fastest was taken
    "simple",  # complexity below the lower threshold
    "medium",  # between the thresholds
    "complex",  # above the upper threshold
    "escalated",  # the edge's answer was rejected, so the cloud was asked
    "raced",  # the cloud was asked at the same time and answered in place of the edge
    "edge-absent",  # there is no AI binding
    "edge-allowance",  # the free allocation of Workers AI is used up
    "cached",  # nothing was routed
]
AUTO: Final = "auto"
CHOSEN: Final = frozenset({AUTO, "edge", "cloud"})  # the names for which a model is chosen
# Of two models of a tier the cheaper goes first, unless it is that much slower. Twice would be too strict: nobody knows
# more of a new model than that it stays below twice its declared time.
MUCH_SLOWER: Final = 3.0


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request asks of a model.

    tokens: estimated input plus the output limit, for the context window.
    parameter: name of one that only OpenAI-shaped models know, as `stop` or `n`.
    residency: the area where the answer must be made. left_ms: what is left of `max_latency_ms`; may be negative.
    """

    model: str = AUTO
    tokens: int = 0
    tools: bool = False
    images: bool = False
    json: bool = False
    parameter: str | None = None
    residency: str | None = None
    left_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """What is known of the world at this moment.

    predicted_ms: what a model will hardly exceed, network included, until its first content in a stream, else until
    its whole answer. residencies: the areas that have a cloud region. down: ids of models that fail at present.
    """

    predicted_ms: Callable[[Model], float] = lambda model: model.declared_ttft_ms
    residencies: Collection[str] = ()
    down: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """Models to try, in order, and the reasons for the first of them, the deciding one last.

    complexity: None when the request left nothing to decide. predicted_ms: by model id; empty without a deadline.
    """

    models: tuple[Model, ...]
    reasons: tuple[Reason, ...]
    complexity: float | None = None
    predicted_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def first(self) -> Model:
        return self.models[0]

    @property
    def reason(self) -> Reason:
        return self.reasons[-1]


def choose_route(
    needs: Needs, complexity: float, catalog: Catalog, thresholds: Thresholds, conditions: Conditions
) -> Route:
    """Hard rules first, then complexity, then health and the deadline among what is left.

    Fallbacks are of the same tier or a stronger one: a question that needs the cloud is not quietly answered by a
    small model. Only a deadline that nothing else can meet allows that. A pinned model has no fallback: whoever names
    a model wants that one.
    Raises NotFound for an unknown model, RequestRejected when no model can serve the request.
    """
    if needs.model not in CHOSEN:
        return _pinned(needs, catalog, conditions)

    by_complexity, tier = tier_for(complexity, thresholds)
    side: Side | None = None if needs.model == AUTO else needs.model  # type: ignore[assignment]  # checked above
    start = tier if side is None or tier.startswith(side) else _nearest_tier(side)
    first = TIERS.index(start)
    reasons: list[Reason] = [by_complexity]
    models, refusals = _fitting(needs, catalog, TIERS[first:], side, conditions)
    weaker: list[Model] = []
    if needs.left_ms is not None or not models:
        weaker, more_refusals = _fitting(needs, catalog, TIERS[:first][::-1], side, conditions)
        refusals += more_refusals
    if not models:  # no stronger tier can serve the request at all
        models, weaker = weaker, []
    if not models:
        raise _no_model("context-window" if "context-window" in refusals else next(iter(refusals), None), needs)

    if refusals and models[0].tier != start:
        reasons.append(refusals[0])
    if side is not None:
        reasons.append("forced-edge" if side == "edge" else "forced-cloud")
    models = _healthy_first(models, conditions.down, reasons)
    predicted_ms: Mapping[str, float] = {}
    if needs.left_ms is not None:
        predicted_ms = {model.id: conditions.predicted_ms(model) for model in (*models, *weaker)}
        models = _in_time_first(models, weaker, predicted_ms, needs.left_ms, reasons)
    return Route(tuple(models), tuple(reasons), complexity, predicted_ms)


def next_in_time(models: Sequence[Model], predicted_ms: Mapping[str, float], left_ms: float) -> int:
    """Place of the model to try now: the first that can still make it, else the fastest."""
    times_ms = [predicted_ms.get(model.id, inf) for model in models]
    return next((place for place, ms in enumerate(times_ms) if ms <= left_ms), times_ms.index(min(times_ms)))


def patience_ms(model: Model, later: Sequence[Model], predicted_ms: Mapping[str, float], left_ms: float) -> float:
    """How long the deadline allows to wait for a model; infinite when waiting is the best.

    A model is left when it took longer than predicted while a later one can still make it, at the last moment for that.
    Once none can, its late answer is still the nearest.
    """
    spare_ms = left_ms - min((predicted_ms.get(each.id, inf) for each in later), default=inf)
    return spare_ms if spare_ms >= predicted_ms.get(model.id, 0.0) else inf


def tier_for(complexity: float, thresholds: Thresholds) -> tuple[Reason, Tier]:
    """The tier that a score asks for, and its name among the reasons."""
    if complexity < thresholds.edge_large:
        return "simple", "edge-small"
    if complexity < thresholds.cloud_fast:
        return "medium", "edge-large"
    return "complex", "cloud-fast" if complexity < thresholds.cloud_quality else "cloud-quality"


def unfit(needs: Needs, model: Model, conditions: Conditions) -> Reason | None:
    """Why a model can't serve a request, or None when it can."""
    if needs.residency is not None and (model.side == "edge" or needs.residency not in conditions.residencies):
        return "residency"  # Workers AI runs wherever there is room
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


def _pinned(needs: Needs, catalog: Catalog, conditions: Conditions) -> Route:
    model = catalog.find(needs.model)
    if model is None:
        raise NotFound(
            f"The model '{_shown(needs.model)}' does not exist. GET /v1/models lists those that do.",
            param="model",
            code="model_not_found",
        )
    why_not = unfit(needs, model, conditions)
    if why_not is not None:
        raise _no_model(why_not, needs)
    if needs.left_ms is None:
        return Route((model,), ("pinned",))
    predicted_ms = {model.id: conditions.predicted_ms(model)}
    is_late = predicted_ms[model.id] > needs.left_ms
    return Route((model,), ("pinned", "deadline-missed") if is_late else ("pinned",), predicted_ms=predicted_ms)


def _nearest_tier(side: Side) -> Tier:
    """The side's tier next to the other side: its strongest at the edge, its cheapest in the cloud."""
    tiers = [tier for tier in TIERS if tier.startswith(side)]
    return tiers[-1] if side == "edge" else tiers[0]


def _fitting(
    needs: Needs, catalog: Catalog, tiers: Iterable[Tier], side: Side | None, conditions: Conditions
) -> tuple[list[Model], list[Reason]]:
    """The models that can serve the request, tier by tier; why those before the first of them can't, else why all."""
    fitting: list[Model] = []
    refusals: list[Reason] = []
    for tier in tiers:
        fit: list[Model] = []
        for model in catalog.in_tier(tier):
            if side is not None and model.side != side:
                continue
            why_not = unfit(needs, model, conditions)
            if why_not is None:
                fit.append(model)
            elif not fitting:
                refusals.append(why_not)
        fitting += _preferred_first(fit, conditions)
    return fitting, refusals


def _preferred_first(models: list[Model], conditions: Conditions) -> list[Model]:
    """Of one tier: those that are not much slower than the fastest, the cheaper first; equals as in the catalog."""
    if len(models) < 2:
        return models
    times_ms = {model.id: conditions.predicted_ms(model) for model in models}
    bearable_ms = MUCH_SLOWER * min(times_ms.values())
    return sorted(models, key=lambda model: (times_ms[model.id] > bearable_ms, model.blended_usd_per_million))


def _healthy_first(models: list[Model], down: Collection[str], reasons: list[Reason]) -> list[Model]:
    """What fails at present is still the last resort."""
    healthy = [model for model in models if model.id not in down]
    if not healthy or len(healthy) == len(models):
        return models
    if healthy[0] is not models[0]:
        reasons.append("unhealthy")
    return [*healthy, *(model for model in models if model.id in down)]


def _in_time_first(
    models: list[Model],
    weaker: list[Model],
    predicted_ms: Mapping[str, float],
    left_ms: float,
    reasons: list[Reason],
) -> list[Model]:
    """A late answer is still better than none, so what would be late comes last, the fastest first."""
    in_time = [model for model in (*models, *weaker) if predicted_ms[model.id] <= left_ms]
    late = sorted((model for model in models if model not in in_time), key=lambda model: predicted_ms[model.id])
    if in_time:
        if in_time[0] is not models[0]:
            reasons.append("deadline")
        return [*in_time, *late]
    reasons.append("deadline-missed")
    return sorted((*models, *weaker), key=lambda model: predicted_ms[model.id])


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
    elif reason == "residency":
        message, param = f"Nothing here answers in the area '{needs.residency}' for {where}.", "residency"
    elif reason == "json":
        message, param = f"This response_format is not served by {where}.", "response_format"
    else:
        message, param = f"The catalog has no model for {where}.", "model"
    return RequestRejected(message, param=param, code="unsupported_value")


def _shown(model_id: str) -> str:
    """A caller's model name in our message: short, printable."""
    return "".join(c for c in model_id[:64] if c.isprintable())

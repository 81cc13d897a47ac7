"""Brings together what a decision needs (score, thresholds, measured times, regions) and decides. No I/O."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from . import workers_ai
from .attempts import Attempt
from .catalog import Catalog, Model
from .chat_call import ChatCall
from .complexity import ComplexityScorer, Thresholds
from .fleet import Fleet
from .latency import NOWHERE, LatencyTable
from .ports import Clock
from .routing import AUTO, CHOSEN, Conditions, Needs, Route, choose_route, unfit
from .settings import Region, Settings
from .tokens import estimate_tokens

USUAL_OUTPUT_TOKENS: Final = 256  # of an answer, before any was measured


class Decider:
    """Scope: isolate; holds no state of a request. latencies: filled in by whoever calls the models.

    offset_of: what a tenant's ratings move the thresholds by.
    """

    def __init__(
        self,
        settings: Settings,
        scorer: ComplexityScorer,
        fleet: Fleet,
        latencies: LatencyTable,
        clock: Clock,
        *,
        offset_of: Callable[[str], float] = lambda tenant: 0.0,
    ) -> None:
        self._catalog = settings.catalog
        self._fleet = fleet
        self._residencies = {region.residency for region in fleet.regions if region.residency}
        self._cloud_ids = {model.id for model in settings.catalog.models if model.side == "cloud"}
        self._smallest_window = min(model.context_window_tokens for model in settings.catalog.models)
        self._scorer = scorer
        self._thresholds = scorer.thresholds(edge_share=settings.edge_share, quality_floor=settings.quality_floor)
        self._offset_of = offset_of
        self._latencies = latencies
        self._clock = clock

    def complexity_of(self, call: ChatCall) -> float:
        """Of the question alone, in [0, 1]."""
        return self._scorer.score(call.request.last_user_text)

    def window_tokens(self, call: ChatCall) -> int:
        """The largest context window that a model for this call may have; 0 when there is no such model."""
        asked, catalog = call.request.model, self._catalog_for(call)
        pinned = catalog.find(asked)
        candidates = [pinned] if pinned else [m for m in catalog.models if asked in (AUTO, m.side)]
        return max((model.context_window_tokens for model in candidates), default=0)

    def thresholds_for(self, tenant: str) -> Thresholds:
        offset = self._offset_of(tenant)
        return self._thresholds.moved(offset) if offset else self._thresholds

    def route(self, call: ChatCall) -> Route:
        """Decides, and notes the decision in the report. Raises NotFound and RequestRejected."""
        report, decided_ms = call.report, self._clock.elapsed_ms()
        route = self._choose(call)
        report.complexity = route.complexity
        report.route_reason = route.reason
        report.max_latency_ms = call.request.max_latency_ms
        report.timings_ms["decide"] = self._clock.elapsed_ms() - decided_ms
        return route

    def explain(self, call: ChatCall) -> dict[str, Any]:
        """The decision with all that went into it: what was a candidate, how fast and how dear, what was refused."""
        route, thresholds = self.route(call), self.thresholds_for(call.tenant.id)
        needs, conditions = self._needs(call), self._conditions(call)
        chosen = {model.id for model in route.models}
        others = [model for model in self._catalog_for(call).models if model.id not in chosen]
        first = route.first
        return {
            "model": first.id,
            "tier": first.tier,
            "side": first.side,
            "reason": route.reason,
            "reasons": list(route.reasons),
            "complexity": route.complexity,
            "scorer": self._scorer.name,
            "thresholds": {
                "edge-large": thresholds.edge_large,
                "cloud-fast": thresholds.cloud_fast,
                "cloud-quality": thresholds.cloud_quality,
            },
            "max_latency_ms": call.request.max_latency_ms,
            "residency": needs.residency,
            "candidates": [self._facts(call, model) for model in route.models],
            "refused": [{"model": model.id, "why": why_not(needs, model, conditions)} for model in others],
        }

    def _choose(self, call: ChatCall) -> Route:
        # Nothing depends on the score where the model is named.
        score = self.complexity_of(call) if call.request.model in CHOSEN else 0.0
        thresholds = self.thresholds_for(call.tenant.id)
        return choose_route(self._needs(call), score, self._catalog_for(call), thresholds, self._conditions(call))

    def _catalog_for(self, call: ChatCall) -> Catalog:
        """Only what the key may use: no fallback, cascade or hedge leaves a route."""
        allowed = call.tenant.models
        return self._catalog if allowed is None else allowed.of(self._catalog)

    def _needs(self, call: ChatCall) -> Needs:
        request, response_format = call.request, call.request.response_format
        return Needs(
            model=request.model,
            tokens=self._tokens_of(call),
            tools=request.uses_tools,
            images=request.has_images,
            json=response_format is not None and response_format.type != "text",
            parameter=next((name for name in workers_ai.NOT_NATIVE if _is_given(call.body, name)), None),
            residency=call.request.residency,
            left_ms=None if request.max_latency_ms is None else call.left_ms(self._clock.elapsed_ms()),
        )

    def _tokens_of(self, call: ChatCall) -> int:
        """Input and output limit, for the context window. A token has at least one byte: mostly all bytes would fit."""
        text, limit = call.message_text, call.request.output_limit_tokens or 0
        most = len(text.encode("utf-8", "surrogatepass")) + limit
        return most if most <= self._smallest_window else estimate_tokens(text) + limit

    def _conditions(self, call: ChatCall) -> Conditions:
        allowed = self._allowed(call)
        down = () if not allowed or self._fleet.admits_any(allowed) else self._cloud_ids
        return Conditions(self._forecast(call), self._residencies, down)

    def _forecast(self, call: ChatCall) -> Callable[[Model], float]:
        """What a model's answer to this call will hardly exceed, in ms: docs/routing.md, "Deadlines"."""
        now_s = self._clock.now_s()
        colo = call.report.location.colo or NOWHERE
        output_tokens = min(call.limit_tokens, USUAL_OUTPUT_TOKENS)
        region: Region | None = None

        def predicted_ms(model: Model) -> float:
            nonlocal region
            declared_ms = model.declared_ttft_ms if call.kind == "ttft" else model.declared_total_ms(output_tokens)
            label = model.id
            if model.side == "cloud":
                region = region or self._nearest(call)
                if region is not None:
                    label = Attempt(model, region).label
                    declared_ms += self._fleet.expected_rtt_ms(call.report.location, region)
            return self._latencies.upper_ms(colo, call.kind, label, now_s=now_s, declared_ms=declared_ms)

        return predicted_ms

    def _allowed(self, call: ChatCall) -> list[Region]:
        residency = call.request.residency
        return [region for region in self._fleet.regions if residency in (None, region.residency)]

    def _nearest(self, call: ChatCall) -> Region | None:
        """Where a cloud call would go, as `Upstreams` chooses it."""
        report = call.report
        return self._fleet.choose(self._allowed(call), report.location, report.request_id, at_any_cost=True)

    def _facts(self, call: ChatCall, model: Model) -> dict[str, Any]:
        kind = call.kind
        region = self._nearest(call) if model.side == "cloud" else None
        label = Attempt(model, region).label
        known = self._latencies.summary(call.report.location.colo or NOWHERE, kind, label, now_s=self._clock.now_s())
        return {
            "model": model.id,
            "tier": model.tier,
            "side": model.side,
            "region": region.id if region else None,
            f"predicted_{kind}_ms": round(self._forecast(call)(model), 1),
            "measured": {"count": known.count, "ewma_ms": round(known.ewma_ms, 1), "p95_ms": known.p95_ms},
            "input_usd_per_million": model.input_usd_per_million,
            "output_usd_per_million": model.output_usd_per_million,
        }


def why_not(needs: Needs, model: Model, conditions: Conditions) -> str:
    """Why a model of the catalog is not among a route's."""
    if model.id.endswith("*"):
        return "wildcard"  # stands for ids that it does not list: only ever pinned
    if needs.model not in (AUTO, model.side):
        return "forced-edge" if needs.model == "edge" else "forced-cloud" if needs.model == "cloud" else "pinned"
    return unfit(needs, model, conditions) or "weaker"


def _is_given(body: Mapping[str, Any], name: str) -> bool:
    """Whether a parameter asks for something; one choice and no log-probabilities are what everyone gives."""
    value = body.get(name)
    return bool(value) and not (name == "n" and value == 1)

"""The models that a key may use: ids, prefixes as `@cf/*`, and the words `edge`, `cloud` and `auto`."""

from dataclasses import dataclass

from .catalog import Catalog, Model, Side
from .errors import RequestRejected

EVERY_MODEL = "auto"
SIDES: tuple[Side, ...] = ("edge", "cloud")


@dataclass(frozen=True, slots=True)
class AllowedModels:
    """patterns: an id, a prefix with `*` behind it, a side for all its models, or `auto` for every model."""

    patterns: tuple[str, ...]

    def allows(self, model_id: str, side: Side) -> bool:
        return any(
            pattern in (EVERY_MODEL, side, model_id) or (pattern.endswith("*") and model_id.startswith(pattern[:-1]))
            for pattern in self.patterns
        )

    def of(self, catalog: Catalog) -> Catalog:
        """What is left of a catalog. A wildcard entry stays as long as some of its ids may be allowed."""
        return Catalog([model for model in catalog.models if self._may_allow(model)])

    def may_ask(self, model: str, catalog: Catalog) -> bool:
        """Whether a request's `model` leaves something that may answer. One that does not exist is for others to
        refuse.
        """
        if model in (EVERY_MODEL, *SIDES):
            named = (each for each in catalog.models if not each.id.endswith("*"))
            return any(model in (EVERY_MODEL, each.side) and self.allows(each.id, each.side) for each in named)
        found = catalog.find(model)
        return found is None or self.allows(found.id, found.side)

    def _may_allow(self, model: Model) -> bool:
        if self.allows(model.id, model.side):
            return True
        prefix = model.id[:-1]
        return model.id.endswith("*") and any(pattern.startswith(prefix) for pattern in self.patterns)


def not_allowed() -> RequestRejected:
    message = "This key may not use that model. GET /v1/models lists those that it may."
    return RequestRejected(message, param="model", code="model_not_allowed", status=403)

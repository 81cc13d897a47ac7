"""The most that a chat may cost, before anybody has answered it: docs/budgets.md, "The worst case"."""

from collections.abc import Iterable
from sys import maxsize
from typing import Final

from .. import completions
from ..cascade.policy import Mode, split
from ..catalog import Catalog, Model
from ..chat_call import ChatCall
from ..edge_allowance import in_place_of
from ..routing import Route
from .money import Cost, nano_usd

TEMPLATE_TOKENS: Final = 256  # what models' own chat templates add around messages and tools


def worst_case(call: ChatCall, route: Route, mode: Mode, catalog: Catalog) -> Cost:
    """Of the dearest model that may come to answer; where the cascade may ask twice, of both."""
    edge, cloud = split(route)
    may_answer_first = [*edge.models, *in_place_of(edge.models, catalog)]
    if mode == "off":
        return _dearest([*may_answer_first, *cloud.models], call)
    return _dearest(may_answer_first, call) + _dearest(cloud.models, call)


def _dearest(models: Iterable[Model], call: ChatCall) -> Cost:
    input_tokens, output_tokens = _most_input_tokens(call), call.limit_tokens * (call.request.n or 1)
    costs = [_cost(model, min(input_tokens, model.context_window_tokens), output_tokens) for model in models]
    return Cost(
        max((cost.nano_usd for cost in costs), default=0),
        max((cost.tokens for cost in costs), default=0),
    )


def _cost(model: Model, input_tokens: int, output_tokens: int) -> Cost:
    return Cost(nano_usd(model.cost_usd(input_tokens, output_tokens)), input_tokens + output_tokens)


def _most_input_tokens(call: ChatCall) -> int:
    """No tokenizer makes more tokens than there are bytes. What an image counts as only its model knows, so it is taken
    to fill the context window.
    """
    return maxsize if call.request.has_images else len(completions.dump(call.body).encode()) + TEMPLATE_TOKENS

"""What each model may cost a day: a guard for the upstream's bill, counted after the fact and mirrored every second.

It is late by the calls under way and by that second; what no upstream counted is estimated. Tenants' budgets are kept
at the edge, which knows tenants.
"""

from cloud_fallback.errors import BudgetSpent
from cloud_fallback.models import Model
from cloud_fallback.shared import SharedState

CHARS_PER_TOKEN = 4  # of English, roughly


class Budgets:
    """Scope: process; what the others spent arrives with `mirror`."""

    def __init__(self, state: SharedState) -> None:
        self._state = state
        self._unsent: dict[str, float] = {}
        self._today: dict[str, float] = {}

    def is_spent(self, model: Model) -> bool:
        limit = model.entry.usd_per_day
        return limit is not None and self._spent(model.entry.id) >= limit

    def check(self, model: Model) -> None:
        """Raises BudgetSpent."""
        if self.is_spent(model):
            raise BudgetSpent(f"The budget of the model {model.id} for today is used up.", param="model")

    def add(self, model: Model, input_tokens: int, output_tokens: int) -> None:
        entry = model.entry.id
        self._unsent[entry] = self._unsent.get(entry, 0.0) + model.cost_usd(input_tokens, output_tokens)

    def add_estimate(self, model: Model, input_chars: int, output_chars: int) -> None:
        """For an answer whose tokens nobody counted, as of a stream that was cut."""
        self.add(model, input_chars // CHARS_PER_TOKEN, output_chars // CHARS_PER_TOKEN)

    async def mirror(self) -> None:
        """Tells the others, and hears from them."""
        sent, self._unsent = self._unsent, {}
        for entry, usd in sent.items():  # until the answer is there
            self._today[entry] = self._today.get(entry, 0.0) + usd
        self._today = await self._state.add_spent(sent)

    def _spent(self, entry: str) -> float:
        return self._today.get(entry, 0.0) + self._unsent.get(entry, 0.0)

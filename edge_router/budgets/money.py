"""What something costs, in whole numbers: sums of them are exact, those of floats are not."""

from dataclasses import dataclass

NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Cost:
    """A price in billionths of a US dollar, and the tokens it is for."""

    nano_usd: int
    tokens: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.nano_usd + other.nano_usd, self.tokens + other.tokens)

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.nano_usd - other.nano_usd, self.tokens - other.tokens)

    def at_most(self, other: "Cost") -> "Cost":
        return Cost(min(self.nano_usd, other.nano_usd), min(self.tokens, other.tokens))


NOTHING = Cost(0, 0)


def nano_usd(usd: float) -> int:
    return round(usd * NANO)


def usd(nano: int) -> float:
    return nano / NANO

"""How far a tenant's own ratings move the router's thresholds: bounded, and recounted from the ratings each time."""

MOST = 0.1  # of the score's scale, in either direction
TOLERATED = 0.2  # of the edge's rated answers may be bad
TRUST_AFTER = 50  # ratings that count half
WINDOW = 500  # the latest ratings; older ones are of older models
GAIN = 0.5  # of the scale, for each unit of the share of bad answers


def offset_of(bad: int, rated: int) -> float:
    """What to add to the thresholds, in [-MOST, MOST]: above 0 more stays at the edge, below 0 more leaves it.

    bad, rated: of the tenant's latest answers by the edge, `bad` of `rated` were rated bad or escalated. 0 without any.
    """
    if rated <= 0:
        return 0.0
    excess = min(max(bad, 0), rated) / rated - TOLERATED
    doubt = rated / (rated + TRUST_AFTER)
    return max(-MOST, min(MOST, -GAIN * excess * doubt))

"""Where a request entered Cloudflare's network, read from `request.cf`.

Every field may be missing and is then None, never invented. Source: Cloudflare's
`IncomingRequestCfProperties` (docs/cloudflare-facts in the design notes, section 2).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Location:
    """One caller's way in. `rtt_ms` is the smoothed client-to-edge round trip, over TCP or QUIC."""

    colo: str | None = None
    rtt_ms: float | None = None
    country: str | None = None
    continent: str | None = None
    is_eu: bool = False
    latitude: float | None = None
    longitude: float | None = None

    @property
    def coordinates(self) -> tuple[float, float] | None:
        """(latitude, longitude) in degrees, or None when either is unknown."""
        if self.latitude is None or self.longitude is None:
            return None
        return self.latitude, self.longitude


UNKNOWN = Location()

# What is read of `request.cf`, which holds many more.
CF_FIELDS = (
    "colo",
    "clientTcpRtt",
    "clientQuicRtt",
    "country",
    "continent",
    "isEUCountry",
    "latitude",
    "longitude",
)


def read_location(cf: Mapping[str, Any] | None) -> Location:
    """`cf` as plain data. Wrong types count as missing; an RTT of 0 is a measured 0 only over TCP or QUIC."""
    if not cf:
        return UNKNOWN
    rtt_ms = _number(cf.get("clientTcpRtt"))
    if rtt_ms is None:
        rtt_ms = _number(cf.get("clientQuicRtt"))
    return Location(
        colo=_word(cf.get("colo")),
        rtt_ms=rtt_ms,
        country=_word(cf.get("country")),
        continent=_word(cf.get("continent")),
        is_eu=cf.get("isEUCountry") == "1",
        latitude=_degrees(cf.get("latitude"), 90),
        longitude=_degrees(cf.get("longitude"), 180),
    )


def _word(value: object) -> str | None:
    """A short code that is safe in a header: ASCII letters, digits and dashes."""
    if isinstance(value, str) and 0 < len(value) <= 16 and value.isascii() and value.replace("-", "").isalnum():
        return value
    return None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
        return None
    return value


def _degrees(value: object, limit: float) -> float | None:
    """Cloudflare sends coordinates as strings."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        degrees = float(value)
    except (ValueError, OverflowError):
        return None
    return degrees if abs(degrees) <= limit else None

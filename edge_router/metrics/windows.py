"""The times that can be looked at, and by what requests can be grouped."""

from dataclasses import dataclass
from typing import Final, Literal, get_args
from urllib.parse import parse_qsl

from ..errors import RequestRejected

Grouping = Literal["none", "colo", "model", "served_by", "region", "route_reason"]
GROUPINGS: Final[tuple[Grouping, ...]] = get_args(Grouping)
STEPS_S: Final = (5, 60, 900)  # of what is kept, finest first; each is a whole number of those before


@dataclass(frozen=True, slots=True)
class Window:
    """step_s: of the kept slices it is made from. point_s: of its series, a whole number of steps."""

    name: str
    length_s: int
    step_s: int
    point_s: int

    def from_s(self, now_s: float) -> int:
        """Where it begins: so that its last point is the one that now lies in."""
        return int(now_s // self.point_s + 1) * self.point_s - self.length_s


WINDOWS: Final = {
    window.name: window
    for window in (
        Window("1m", 60, 5, 5),
        Window("5m", 300, 5, 15),
        Window("1h", 3600, 60, 60),
        Window("24h", 86_400, 900, 900),
    )
}
DEFAULT_WINDOW: Final = "5m"


def read_query(query: str) -> tuple[Window, Grouping]:
    """Raises RequestRejected, which lists what is valid."""
    asked = dict(parse_qsl(query, keep_blank_values=True))
    for name in asked:
        if name not in ("window", "by"):
            raise _rejected(_shown(name), "Unknown parameter. Valid ones: window, by.")
    window = WINDOWS.get(asked.get("window", DEFAULT_WINDOW))
    if window is None:
        raise _rejected("window", f"Unknown window. Valid ones: {', '.join(WINDOWS)}.")
    by = next((known for known in GROUPINGS if known == asked.get("by", "none")), None)
    if by is None:
        raise _rejected("by", f"Unknown grouping. Valid ones: {', '.join(GROUPINGS)}.")
    return window, by


def check_no_parameters(query: str) -> None:
    """Raises RequestRejected."""
    for name, _ in parse_qsl(query, keep_blank_values=True):
        raise _rejected(_shown(name), "Unknown parameter. There are none here.")


def _shown(name: str) -> str:
    return name[:64]


def _rejected(param: str, message: str) -> RequestRejected:
    return RequestRejected(message, param=param, code="invalid_parameter")

"""What one request says about caching: our own fields, its sampling parameters, `Cache-Control` (RFC 9111, 5.2.1)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

_PROBABILITIES = ("logprobs", "top_logprobs")
_FIELDS = frozenset({"use_cache", "temperature", "tools", "functions", "cache_ttl_s", "cache_tags", *_PROBABILITIES})
_FRESH_ONLY = frozenset({"no-cache", "no-store"})


@dataclass(frozen=True, slots=True)
class Directives:
    """`max_age_s`: the oldest answer it accepts. `min_fresh_s`: how long an answer must stay fresh. `max_stale_s`: how
    long it may have been stale, None for the default. `only_if_cached`: no model may be asked.

    ttl_s, tags: for the answer that is stored. tool_calls: whether one that calls tools is stored.
    """

    look_up: bool = True
    store: bool = True
    only_if_cached: bool = False
    max_age_s: float | None = None
    min_fresh_s: float = 0.0
    max_stale_s: float | None = None
    ttl_s: float | None = None
    tags: tuple[str, ...] = ()
    tool_calls: bool = False

    @property
    def may_share(self) -> bool:
        """Whether the answer may be that of a call which others began before, or that ended seconds ago."""
        return self.look_up and self.store and self.max_age_s is None and not self.min_fresh_s

    @property
    def allowed_stale_s(self) -> float | None:
        """How long an answer may have been stale to be served at once; None: as long as it says itself."""
        if self.max_stale_s is not None:
            return self.max_stale_s
        return None if self.max_age_s is None and not self.min_fresh_s else 0.0


DEFAULT = Directives()


def read_directives(body: Mapping[str, Any], cache_control: str | None) -> Directives:
    """`use_cache`, the sampling parameters and `Cache-Control`, in that order of strength.

    body: validated. An explicit temperature above 0 asks for variety, so it is not cached unless `use_cache` says so.
    Tools: their calls have effects, so they are not cached by default either. What a stored answer lacks, the
    probabilities of its tokens, is asked of a model, whatever `use_cache` says.
    """
    if not cache_control and body.keys().isdisjoint(_FIELDS):  # most requests
        return DEFAULT
    wanted = body.get("use_cache")
    by_default = not ((body.get("temperature") or 0) > 0 or body.get("tools") or body.get("functions"))
    allowed = (by_default if wanted is None else bool(wanted)) and not any(map(body.get, _PROBABILITIES))
    said = _parse_cache_control(cache_control) if cache_control else {}
    max_age_s = _seconds(said, "max-age")
    max_stale_s = inf if said.get("max-stale") == "" else _seconds(said, "max-stale")
    return Directives(
        look_up=allowed and said.keys().isdisjoint(_FRESH_ONLY) and (max_age_s != 0 or max_stale_s is not None),
        store=allowed and "no-store" not in said,
        only_if_cached="only-if-cached" in said,
        max_age_s=max_age_s,
        min_fresh_s=_seconds(said, "min-fresh") or 0.0,
        max_stale_s=max_stale_s,
        ttl_s=body.get("cache_ttl_s"),
        tags=tuple(body.get("cache_tags") or ()),
        tool_calls=wanted is True,
    )


def _parse_cache_control(header: str) -> dict[str, str]:
    """Directive name -> value, empty for those without one. Of a directive that is there twice the first one counts."""
    directives: dict[str, str] = {}
    for part in header.lower().split(","):
        name, _, value = part.partition("=")
        name = name.strip()
        if name:
            directives.setdefault(name, value.strip().strip('"'))
    return directives


def _seconds(directives: Mapping[str, str], name: str) -> float | None:
    """None for what is absent or no number: such a directive is ignored."""
    value = directives.get(name, "")
    return float(value[:12]) if value.isascii() and value.isdigit() else None

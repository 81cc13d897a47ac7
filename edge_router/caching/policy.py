"""How long answers are kept and which requests count as the same: as the request, tenant, model or default says."""

from dataclasses import dataclass
from math import inf
from typing import Literal

Normalisation = Literal["strict", "relaxed"]

MAX_TTL_S = 31_536_000  # a year


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """An answer is fresh for ttl_s. After that it is served stale for swr_s while one caller refreshes it, and for
    stale_if_error_s when every model fails.
    """

    ttl_s: float
    swr_s: float
    stale_if_error_s: float

    @property
    def kept_s(self) -> float:
        """How long it can be of any use."""
        return self.ttl_s + max(self.swr_s, self.stale_if_error_s)


@dataclass(frozen=True, slots=True)
class TenantPolicy:
    """What a tenant's key record says about caching; None: as everyone."""

    ttl_s: float | None = None
    swr_s: float | None = None
    stale_if_error_s: float | None = None
    normalisation: Normalisation | None = None


DEFAULT_POLICY = TenantPolicy()


def lifetimes(
    *, asked_ttl_s: float | None, tenant: TenantPolicy, model_ttl_s: float | None, default: Lifetimes
) -> Lifetimes:
    """The request's own ttl wins, then the tenant's, then the model's, then the default.

    Who asks for a short lifetime wants no answer that is much older: what the request asks for bounds swr_s as well.
    """
    ttl_s = next(ttl for ttl in (asked_ttl_s, tenant.ttl_s, model_ttl_s, default.ttl_s) if ttl is not None)
    swr_s = default.swr_s if tenant.swr_s is None else tenant.swr_s
    stale_if_error_s = default.stale_if_error_s if tenant.stale_if_error_s is None else tenant.stale_if_error_s
    return Lifetimes(ttl_s, min(swr_s, inf if asked_ttl_s is None else asked_ttl_s), stale_if_error_s)

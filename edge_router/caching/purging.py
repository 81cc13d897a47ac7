"""`DELETE /v1/cache`: which entries are to go, and who may say so."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field

from ..auth import Tenant, check_scope
from ..errors import GatewayError, RequestRejected, StoreError
from ..requests import CacheTag, validated
from .answers import AnswerCache
from .purges import VISIBLE_AFTER_S
from .statistics import CacheStatistics

_FLAGS = ("tenant", "all")


class PurgeRequest(BaseModel):
    """Exactly one of them. key: as `nearside.cache.key` tells it."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)

    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    tag: CacheTag | None = None
    tenant: Literal[True] | None = None
    all: Literal[True] | None = None


def read_purge(body: Mapping[str, Any], query: str) -> PurgeRequest:
    """From the JSON body or the query. Raises RequestRejected."""
    asked: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    for name in _FLAGS:
        if asked.get(name) in ("true", "1"):
            asked[name] = True
    request = validated(PurgeRequest, {**asked, **body})
    if len(request.model_dump(exclude_none=True)) != 1:
        message = "Say what to purge, with exactly one of 'key', 'tag', 'tenant' and 'all'."
        raise RequestRejected(message, param="key", code="missing_required_parameter")
    return request


async def purge(
    request: PurgeRequest, tenant: Tenant, cache: AnswerCache, statistics: CacheStatistics
) -> dict[str, Any]:
    """What was purged, told. Raises RequestRejected (403) and GatewayError (503), after which purging again is safe."""
    if request.all:
        check_scope(tenant, "admin")
    try:
        if request.all:
            await cache.purge_everything()
        elif request.key is not None:
            await cache.remove(tenant.id, request.key)
        else:
            await cache.purge(tenant.id, request.tag or "")
    except StoreError as exc:
        message = "The purge can't be written right now; try again."
        raise GatewayError(message, code="purge_failed", status=503, retry_after_s=1) from exc
    if request.all or request.tenant:
        await statistics.forget_entries(tenant.id)
    purged = request.model_dump(exclude_none=True)
    return {"object": "cache.purge", "purged": purged, "visible_everywhere_after_s": VISIBLE_AFTER_S}

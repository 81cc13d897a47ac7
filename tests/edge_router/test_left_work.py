"""Work that was left for later (lines of a batch, hot questions) is done with the rights that its key has by then."""

import json
from dataclasses import replace
from typing import Any

import pytest

from edge_router.auth import hash_secret
from edge_router.gateway import Gateway
from tests.edge_router.harness import FRANKFURT, SECRET, World, chat_body, key_records
from tests.fakes import START_S

ENDS_SOON = {"sha256": hash_secret(SECRET), "expires_at_s": START_S + 5}


async def outcome(world: World, gateway: Gateway, key_id: str | None = "k001") -> tuple[int, str | None]:
    """Status and error code of a question that the tenant `acme` left."""
    reply, _ = await gateway.answer_later(key_id, "acme", "/v1/chat/completions", chat_body(), world.background)
    assert isinstance(reply.body, str)
    return reply.status, json.loads(reply.body).get("error", {}).get("code")


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        pytest.param({}, (200, None), id="as it was"),
        pytest.param({"scopes": ["admin"]}, (200, None), id="may do everything"),
        pytest.param({"scopes": ["metrics", "cache"]}, (403, "insufficient_scope"), id="may not infer"),
        pytest.param({"disabled": True}, (401, "invalid_api_key"), id="disabled"),
        pytest.param({"expires_at_s": START_S}, (401, "invalid_api_key"), id="expired"),
        pytest.param({"hashes": [{**ENDS_SOON, "expires_at_s": START_S}]}, (401, "invalid_api_key"), id="no secret"),
        pytest.param({"residency": "eu"}, (403, "residency_not_available"), id="bound to an area"),
        pytest.param({"tenant": "other"}, (401, "invalid_api_key"), id="another tenant's"),
    ],
)
async def test_rights_of_now(record: dict[str, Any], expected: tuple[int, str | None]) -> None:
    """The key's record is read anew, and no model is asked for a key that may not ask itself."""
    regions = (replace(FRANKFURT, residency="eu"),)
    world = World(auth="keys", keys=key_records(k001={"tenant": "acme", **record}), regions=regions)

    assert await outcome(world, world.gateway()) == expected
    assert world.calls == (expected[0] == 200)


async def test_gateway_that_was_closed() -> None:
    """What was left without a key is not done once keys are asked for."""
    world = World(auth="keys", keys=key_records())

    assert await outcome(world, world.gateway(), None) == (401, "missing_api_key")
    assert world.calls == 0


@pytest.mark.parametrize(
    ("record", "is_over"),
    [
        pytest.param({"expires_at_s": START_S + 5}, True, id="the key"),
        pytest.param({"hashes": [ENDS_SOON]}, True, id="its secret"),
        pytest.param({"hashes": [ENDS_SOON, hash_secret("another")]}, False, id="one of two secrets"),
    ],
)
async def test_end_that_comes_meanwhile(record: dict[str, Any], is_over: bool) -> None:
    """An end counts to the second, also for a key that is remembered."""
    world = World(auth="keys", keys=key_records(k001={"tenant": "acme", **record}))
    gateway = world.gateway()

    before = await outcome(world, gateway)
    world.clock.advance(5)
    after = await outcome(world, gateway)

    assert (before[0], after[0]) == (200, 401 if is_over else 200)

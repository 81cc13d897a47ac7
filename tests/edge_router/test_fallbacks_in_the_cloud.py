"""Models that cloud_fallback asks instead of the one that it should: for whom it may, and what their answers cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from edge_router.budgets.money import Cost, nano_usd
from edge_router.catalog import Model
from edge_router.cloud_api import FALLBACKS_HEADER, MODEL_HEADER, REGION_HEADER
from edge_router.replies import Reply
from tests.edge_router.harness import (
    CLOUD_FAST,
    CLOUD_QUALITY,
    USAGE,
    World,
    bearer,
    chat_body,
    cloud,
    completion,
    key_records,
    openai_events,
    read_json,
    read_stream,
)
from tests.fakes import CloudCall, FakeFlights, FakeLedger, FakeUpstreamResponse

Flying = Literal["off", "cloud"]
LISTED = {"models": [CLOUD_FAST.id]}
BUDGET = {"budget": {"usd_day": 10}}
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
FLIGHTS = pytest.mark.parametrize("single_flight", ["off", "cloud"])


@dataclass(slots=True)
class Regions:
    """They work, and those in `deaf` ask `model` whatever they are told. given: their answers so far."""

    model: str = CLOUD_QUALITY.id
    deaf: tuple[str, ...] = ("fra", "iad")
    given: list[FakeUpstreamResponse] = field(default_factory=list)

    def __call__(self, call: CloudCall) -> FakeUpstreamResponse:
        model = self.model if call.region_id in self.deaf else call.body["model"]
        own = {REGION_HEADER: call.region_id, MODEL_HEADER: model}
        if call.body.get("stream"):
            self.given.append(FakeUpstreamResponse.stream(*openai_events("Hi", usage=USAGE), headers=own))
        else:
            self.given.append(FakeUpstreamResponse.plain(completion("Hi"), headers=own))
        return self.given[-1]


def world(regions: Regions, single_flight: Flying = "off", **keys: Mapping[str, Any]) -> World:
    """A tenant's keys. A flight is one's own, and passes on the headers that flights do."""
    records = {key: {"tenant": "acme", **facts} for key, facts in keys.items()}
    around = World(auth="keys", keys=key_records(**records), cloud=cloud(regions), single_flight=single_flight)
    around.flights = FakeFlights(around.cloud)
    around.ledger = FakeLedger(around.clock)
    return around


async def asked(around: World, *, stream: bool = False, key: str = "k001") -> tuple[Reply, dict[str, Any]]:
    """The reply with its whole report."""
    reply = await around.ask(chat_body(model=CLOUD_FAST.id, max_tokens=50, stream=stream), headers=bearer(key))
    body = (await read_stream(reply))[-1] if stream else read_json(reply)
    return reply, body.get("nearside", {})


@FLIGHTS
@pytest.mark.parametrize(
    ("facts", "sent"),
    [
        pytest.param({}, None, id="anyone"),
        pytest.param(LISTED, "off", id="a list of models"),
        pytest.param({"models": ["auto"]}, "off", id="a list of all"),
        pytest.param(BUDGET, "off", id="a budget"),
    ],
)
async def test_who_lets_the_cloud_choose(facts: dict[str, Any], sent: str | None, single_flight: Flying) -> None:
    """Not whose key lists the models that may answer, nor whose money was reserved at one model's price."""
    around = world(Regions(deaf=()), single_flight, k001=facts)
    await asked(around)

    assert around.cloud.calls[0].headers.get(FALLBACKS_HEADER) == sent


async def test_keys_of_a_tenant_that_share() -> None:
    """Those for which the same may answer: where the cloud may choose, the call is none for those where it may not."""
    around = world(Regions(deaf=()), "cloud", any1={}, any2={}, listed=LISTED, budget=BUDGET)
    for key in ("any1", "any2", "listed", "budget"):
        await asked(around, key=key)
    assert around.flights is not None
    one, other, listed, budget = around.flights.keys

    assert (one, listed) == (other, budget)
    assert one != listed


@STREAMS
@FLIGHTS
async def test_region_that_heeds_nothing(stream: bool, single_flight: Flying) -> None:
    """Its answer by a model that is not listed is refused, and the next region is asked."""
    regions = Regions(deaf=("fra",))
    reply, report = await asked(world(regions, single_flight, k001=LISTED), stream=stream)

    assert (reply.status, report["model"], report["cloud_region"]) == (200, CLOUD_FAST.id, "iad")
    assert report["fallbacks"] == [f"{CLOUD_FAST.id}@fra: wrong_model"]
    assert [answer.is_cancelled for answer in regions.given] == [True, False]


async def test_regions_that_all_heed_nothing() -> None:
    """Nothing unlisted is answered."""
    reply, _ = await asked(world(Regions(), k001=LISTED))

    assert (reply.status, read_json(reply)["error"]["code"]) == (502, "wrong_model")


@STREAMS
@FLIGHTS
@pytest.mark.parametrize(
    ("model", "priced"),
    [
        pytest.param(CLOUD_QUALITY.id, CLOUD_QUALITY, id="of the catalog"),
        pytest.param("unheard-of-1", CLOUD_FAST, id="not of the catalog"),
        pytest.param("two\nlines", CLOUD_FAST, id="no name"),
        pytest.param(CLOUD_FAST.id, CLOUD_FAST, id="the same"),
    ],
)
async def test_answer_of_a_fallback(model: str, priced: Model, stream: bool, single_flight: Flying) -> None:
    """Has the fallback's name and price where the catalog has them, and is not kept for who asks the model later."""
    around = world(Regions(model), single_flight, k001={})
    _, report = await asked(around, stream=stream)

    assert (report["model"], report["tier"]) == (priced.id, priced.tier)
    assert report["cost_usd"] == pytest.approx(priced.cost_usd(10, 5))
    assert bool(await around.kept()) is (model == CLOUD_FAST.id)


@STREAMS
async def test_budget_and_a_region_that_heeds_nothing(stream: bool) -> None:
    """What was spent is what the model that answered costs, in its name."""
    around = world(Regions(), k001=BUDGET)
    await asked(around, stream=stream)
    while len(around.background):
        await around.background.finish()
    assert around.ledger is not None

    cost = Cost(nano_usd(CLOUD_QUALITY.cost_usd(10, 5)), 15)
    assert (await around.ledger.sums("acme")).models == {CLOUD_QUALITY.id: (cost, 1)}

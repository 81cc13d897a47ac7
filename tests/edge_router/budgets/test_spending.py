"""A tenant with a budget, from the caller's side: what is let through, what it costs, and what happens when not."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from edge_router.auth import Tenant
from edge_router.budgets.charging import Budgets
from edge_router.budgets.ledger import Left, Refusal, Sums
from edge_router.budgets.money import NOTHING, Cost, nano_usd
from edge_router.budgets.policy import SpendingLimits, parse_budget
from edge_router.caching.policy import Lifetimes
from edge_router.cloud_api import REGION_HEADER
from edge_router.embeddings import TEXTS_PER_CALL
from edge_router.endpoints import CONCURRENT_CALLS
from edge_router.errors import UpstreamError, UpstreamTimeout
from edge_router.metrics.cells import Cell
from edge_router.ports import Clock
from edge_router.replies import Reply
from edge_router.report import Report
from edge_router.tokens import estimate_tokens
from tests.edge_router.harness import (
    CLOUD_FAST,
    COMPLEX_PROMPT,
    DONE,
    EDGE_SMALL,
    FRANKFURT,
    SIMPLE_PROMPT,
    USAGE,
    FixedScore,
    World,
    answer_edge,
    bearer,
    chat_body,
    chunk,
    cloud,
    completion,
    edge,
    error_of,
    event,
    key_records,
    openai_events,
    read_json,
    read_stream,
)
from tests.fakes import STALL, Caller, CloudCall, EdgeCall, FakeClock, FakeFlights, FakeLedger, FakeUpstreamResponse

RICH = {"usd_day": 10, "tokens_month": 1_000_000}
KEY = bearer("acme")
TO_CLOUD: dict[str, Any] = {"model": CLOUD_FAST.id, "max_tokens": 50}
# By the harness's usage of 10 and 5 tokens, and its prices.
EDGE_COST = Cost(nano_usd((10 * 1.0 + 5 * 2.0) / 1e6), 15)
CLOUD_COST = Cost(nano_usd((10 * 10.0 + 5 * 20.0) / 1e6), 15)
PROMPT_TOKENS = estimate_tokens(SIMPLE_PROMPT)
TEXT = "Paris is a very large city. " * 20
FIRST = event(chunk({"content": "Paris, "}))


def world(budget: Any = RICH, **fields: Any) -> World:
    """A gateway for one tenant with such a budget."""
    made = World(auth="keys", keys=key_records(acme={"tenant": "acme", "budget": budget}), **fields)
    made.ledger = made.ledger or FakeLedger(made.clock)
    return made


@dataclass
class SlowLedger(FakeLedger):
    """Its grants never come back."""

    granted: asyncio.Event = field(default_factory=asyncio.Event)

    async def reserve(self, tenant: str, reservation_id: str, most: Cost, limits: SpendingLimits) -> Left | Refusal:
        await super().reserve(tenant, reservation_id, most, limits)
        self.granted.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


async def ask(world: World, body: object = None, **fields: Any) -> Reply:
    return await world.ask(body, headers=KEY, **fields)


async def sums(world: World) -> Sums:
    """Of the tenant, once the work behind the responses is done."""
    while len(world.background):
        await world.background.finish()
    assert world.ledger is not None
    return await world.ledger.sums("acme")


async def spent(world: World) -> Cost:
    """When nothing is reserved any more."""
    day = (await sums(world)).day
    assert day.reserved == NOTHING
    return day.spent


async def test_tenant_without_a_budget() -> None:
    """No ledger is asked, and the cloud is told no limit that the caller did not set."""
    around = world(budget=None)
    reply = await ask(around, chat_body(COMPLEX_PROMPT))

    assert reply.status == 200
    assert "budget" not in read_json(reply)["nearside"]
    assert "budget" not in reply.headers["server-timing"]
    assert "max_completion_tokens" not in around.cloud.calls[0].body
    assert await sums(around)
    assert around.ledger is not None
    assert around.ledger.calls == 1  # this test's own


async def test_plain_answer() -> None:
    """Costs what its report says. The report also tells what is left."""
    around = world()
    reply = await ask(around)
    report = read_json(reply)["nearside"]

    assert nano_usd(report["cost_usd"]) == EDGE_COST.nano_usd
    assert await spent(around) == EDGE_COST
    assert (await sums(around)).models == {EDGE_SMALL.id: (EDGE_COST, 1)}
    assert report["budget"] == {"remaining_usd": 10 - report["cost_usd"], "remaining_tokens": 1_000_000 - 15}
    assert "budget;dur=" in reply.headers["server-timing"]


async def test_stream() -> None:
    """The last chunk tells what is left; the first one, while it is reserved, what would be if it cost the most."""
    around = world()
    chunks = await read_stream(await ask(around, chat_body(stream=True)))
    first, last = (each["nearside"]["budget"]["remaining_tokens"] for each in (chunks[0], chunks[-1]))

    assert await spent(around) == EDGE_COST
    assert last == 1_000_000 - 15
    assert first < last


async def test_token_headers() -> None:
    """OpenAI's, of the budget of tokens that leaves least: after the answer, and with a refusal."""
    around = world({"usd_day": 10, "tokens_day": 5_000, "tokens_month": 1_000_000})
    told = (await ask(around)).headers
    until_midnight_s = 86_400 - around.clock.now_s() % 86_400
    assert (await spent(around)).tokens == 15
    refused = await ask(around, chat_body(max_tokens=5_001))

    assert (told["x-ratelimit-limit-tokens"], told["x-ratelimit-remaining-tokens"]) == ("5000", "4985")
    assert told["x-ratelimit-reset-tokens"] == limit_duration(until_midnight_s)
    assert (refused.status, refused.headers["x-ratelimit-remaining-tokens"]) == (402, "4985")
    assert error_of(refused)["code"] == "budget_exceeded"


async def test_no_token_headers_without_a_limit_of_tokens() -> None:
    replies = [await ask(world({"usd_day": dollars})) for dollars in (10, 0)]

    assert [reply.status for reply in replies] == [200, 402]
    assert not any(name.startswith("x-ratelimit") for reply in replies for name in reply.headers)


def limit_duration(seconds: float) -> str:
    """In OpenAI's form, of whole seconds."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{f'{hours}h' if hours else ''}{rest // 60}m{rest % 60}s"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_stored_answer(stream: bool) -> None:
    """Costs nothing, and is served when nothing is left."""
    around = world({"usd_day": 1})
    await ask(around, chat_body(max_tokens=50))
    await around.kept()
    around.keys = key_records(acme={"tenant": "acme", "budget": {"usd_day": 0}})
    assert around.ledger is not None
    asked = around.ledger.calls
    reply = await ask(around, chat_body(max_tokens=50, stream=stream))

    assert (reply.status, reply.headers["nearside-served-by"]) == (200, "exact-cache")
    assert around.ledger.calls == asked
    assert (await ask(around, chat_body(max_tokens=51))).status == 402


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", {"prompt": SIMPLE_PROMPT}),
        ("/v1/chat/completions", chat_body()),
        ("/v1/chat/completions", chat_body(stream=True)),
        ("/v1/completions", {"prompt": SIMPLE_PROMPT}),
        ("/v1/completions", {"prompt": ["one", "two"], "stream": True}),
        ("/v1/completions/stream", {"prompt": SIMPLE_PROMPT}),
        ("/v1/responses", {"input": SIMPLE_PROMPT}),
        ("/v1/responses", {"input": SIMPLE_PROMPT, "stream": True}),
        ("/v1/embeddings", {"input": "Paris"}),
    ],
)
async def test_nothing_left(path: str, body: dict[str, Any]) -> None:
    """402 wherever a model would be asked, as a proper status also for streams; none is asked."""
    around = world({"usd_day": 0, "tokens_day": 0})
    reply = await ask(around, body, path=path)

    assert reply.status == 402
    assert error_of(reply)["code"] == "budget_exceeded"
    assert error_of(reply)["type"] == "insufficient_quota"
    assert around.calls == 0
    assert await spent(around) == NOTHING
    assert around.log.names() == ["refused"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/usage"])
async def test_what_costs_nothing(path: str) -> None:
    """Is served without a budget, too."""
    assert (await ask(world({"usd_day": 0}), path=path, method="GET")).status == 200


async def test_decision_costs_nothing() -> None:
    """`POST /v1/route` asks no model."""
    assert (await ask(world({"usd_day": 0}), chat_body(), path="/v1/route")).status == 200


async def test_budget_that_cannot_be_read() -> None:
    """Lets nobody in: the record says that there is a limit, but not which."""
    assert (await ask(world({"usd_day": "ten"}))).status == 503


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_nobody_could_answer(stream: bool) -> None:
    """Costs nothing: what was reserved is given back."""

    def fail(call: object) -> FakeUpstreamResponse:
        raise UpstreamError("down")

    around = world(edge=edge(fail), cloud=cloud(fail))
    reply = await ask(around, chat_body(stream=stream))

    assert reply.status == 502
    assert await spent(around) == NOTHING


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    "step", [STALL, UpstreamError("gone"), b"{", b"data: {\n\n"], ids=["time-out", "broken", "garbage", "garbled event"]
)
async def test_model_that_was_asked_in_vain(step: Any, stream: bool) -> None:
    """Has read the input, which is paid for at its price; models that refuse cost nothing."""
    cut = edge(lambda call: FakeUpstreamResponse(step, headers={"content-type": "text/event-stream" if stream else ""}))
    down = cloud(lambda call: FakeUpstreamResponse.plain("", status=500))
    around = world(models=(EDGE_SMALL, CLOUD_FAST), edge=cut, cloud=down, timeout_s=0.02)
    reply = await ask(around, chat_body(stream=stream))
    report = read_json(reply)["nearside"]

    assert (around.edge.calls != [], around.cloud.calls != []) == (True, True)
    assert await spent(around) == Cost(nano_usd(PROMPT_TOKENS * 1.0 / 1e6), PROMPT_TOKENS)
    assert nano_usd(report["cost_usd"]) == (await spent(around)).nano_usd
    assert report["usage_estimated"] is True


async def test_models_that_were_asked_in_vain() -> None:
    """Are paid for one by one: also where it was the region that ran out of time. Never more than was reserved."""
    late = FakeUpstreamResponse.plain("", status=504, headers={REGION_HEADER: "fra"})
    image = [{"type": "image_url", "image_url": {"url": "https://a.test/b.png"}}]
    spendings = []
    for content in (SIMPLE_PROMPT, image):
        around = world(models=(CLOUD_FAST,), cloud=cloud(lambda call: late))
        reply = await ask(around, {"messages": [{"role": "user", "content": content}], **TO_CLOUD})
        assert (reply.status, len(around.cloud.calls)) == (504, 2)
        spendings.append(await spent(around))

    window_tokens = CLOUD_FAST.context_window_tokens
    assert spendings == [
        Cost(nano_usd(2 * PROMPT_TOKENS * 10.0 / 1e6), 2 * PROMPT_TOKENS),
        Cost(nano_usd((window_tokens * 10.0 + 50 * 20.0) / 1e6), window_tokens + 50),
    ]


async def test_models_that_were_asked_before_another_answered() -> None:
    """Are not counted."""
    late = edge(lambda call: FakeUpstreamResponse(STALL))
    around = world(models=(EDGE_SMALL, CLOUD_FAST), edge=late, timeout_s=0.02)

    assert (await ask(around)).status == 200
    assert await spent(around) == CLOUD_COST


@pytest.mark.parametrize(
    ("landed", "status"),
    [
        pytest.param(FakeUpstreamResponse(UpstreamError("gone")), 502, id="while it is read"),
        pytest.param(UpstreamTimeout("late"), 504, id="before it answers"),
        pytest.param(STALL, 504, id="when its reader has no more time"),
    ],
)
async def test_shared_call_that_broke(landed: Any, status: int) -> None:
    """Is paid for by who made it."""
    around = world(single_flight="cloud", regions=(FRANKFURT,), timeout_s=0.02)
    around.flights = FakeFlights(around.cloud, landed=landed)
    reply = await ask(around, chat_body(**TO_CLOUD))

    assert reply.status == status
    assert await spent(around) == NOTHING


async def test_stale_answer_after_models_that_were_asked_in_vain() -> None:
    """Tells what they cost."""
    around = world(models=(EDGE_SMALL,), lifetimes=Lifetimes(ttl_s=60, swr_s=0, stale_if_error_s=600))
    await ask(around)
    await around.kept()
    around.clock.advance(120)
    around.edge.handler = lambda call: FakeUpstreamResponse(UpstreamError("gone"))
    report = read_json(await ask(around))["nearside"]

    assert report["served_by"] == "exact-cache"
    assert nano_usd(report["cost_usd"]) == nano_usd(PROMPT_TOKENS * 1.0 / 1e6)
    assert await spent(around) == EDGE_COST + Cost(nano_usd(report["cost_usd"]), PROMPT_TOKENS)


async def test_stream_that_nobody_answers_after_its_headers() -> None:
    """Given back as well."""
    around = world(edge=edge(lambda call: FakeUpstreamResponse(0.2, status=500)), heartbeat_s=0.01)
    around.models = (EDGE_SMALL,)
    chunks = await read_stream(await ask(around, chat_body(stream=True)))

    assert "error" in chunks[-1]
    assert await spent(around) == NOTHING


async def test_stream_that_breaks_off() -> None:
    """Costs what was sent until then, by our estimate."""
    broken = FakeUpstreamResponse.stream(event(chunk({"content": "Paris is a very large city"})), 0.02, b"")
    around = world(cloud=cloud(lambda call: broken))
    chunks = await read_stream(await ask(around, chat_body(stream=True, **TO_CLOUD)))
    report = chunks[-1]["nearside"]

    assert "error" in chunks[-1]
    assert report["usage_estimated"] is True
    assert await spent(around) == Cost(nano_usd(report["cost_usd"]), report["usage"]["total_tokens"])


FUNCTION = {"name": "f", "arguments": TEXT}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": FUNCTION}]}, id="tool"),
        pytest.param(
            {"tool_calls": [{"index": 0, "id": "c", "type": "custom", "custom": {"name": "f", "input": TEXT}}]},
            id="tool of one's own",
        ),
        pytest.param({"function_call": FUNCTION}, id="function"),
        pytest.param({"refusal": TEXT}, id="refusal"),
        pytest.param({"content": "f", "reasoning_content": TEXT}, id="thoughts"),
        pytest.param({"reasoning": TEXT, "reasoning_content": TEXT}, id="thoughts under two names"),
    ],
)
async def test_output_that_is_no_content(said: dict[str, Any], stream: bool) -> None:
    """Is estimated like content where the model sent no counts: of a stream that breaks off, of a plain answer."""
    answer = FakeUpstreamResponse.plain(completion(choices=[{"message": {"content": None, **said}}], usage=None))
    if stream:
        answer = FakeUpstreamResponse.stream(event(chunk(said)), 0.02, b"")
    around = world(cloud=cloud(lambda call: answer))
    reply = await ask(around, chat_body(stream=stream, **TO_CLOUD))
    if stream:
        await read_stream(reply)

    output_tokens = (await spent(around)).tokens - PROMPT_TOKENS
    assert output_tokens == pytest.approx(estimate_tokens(TEXT), abs=1)


@pytest.mark.parametrize(
    "beside",
    [
        pytest.param({"tools": [{"type": "function", "function": {"name": "f", "description": TEXT}}]}, id="tools"),
        pytest.param({"functions": [{"name": "f", "description": TEXT}]}, id="functions"),
        pytest.param(
            {"response_format": {"type": "json_schema", "json_schema": {"name": "f", "description": TEXT}}},
            id="schema of the answer",
        ),
        pytest.param(
            {"tool_calls": [{"id": "c", "type": "function", "function": FUNCTION}], "content": ""}, id="earlier call"
        ),
        pytest.param({"content": [{"type": "refusal", "refusal": TEXT}]}, id="earlier refusal"),
    ],
)
async def test_input_that_is_no_content(beside: dict[str, Any]) -> None:
    """Is estimated, too: schemas, and what was said in earlier turns."""
    around = world(cloud=cloud(lambda call: FakeUpstreamResponse.plain(completion("", usage=None))))
    body = chat_body(**TO_CLOUD)
    if "content" in beside:
        body["messages"].append({"role": "assistant", **beside})
    else:
        body |= beside
    assert (await ask(around, body)).status == 200

    assert (await spent(around)).tokens - PROMPT_TOKENS == pytest.approx(estimate_tokens(TEXT), abs=25)


async def test_image_that_its_model_does_not_count() -> None:
    """Fills the context window, as in the worst case."""
    around = world(cloud=cloud(lambda call: FakeUpstreamResponse.plain(completion("", usage=None))))
    image = {"type": "image_url", "image_url": {"url": "https://a.test/b.png"}}
    await ask(around, {"messages": [{"role": "user", "content": [image]}], **TO_CLOUD})

    assert (await spent(around)).tokens == CLOUD_FAST.context_window_tokens


async def test_caller_who_leaves_in_the_middle() -> None:
    """Pays for what was sent until then; the rest of the reservation is given back."""
    around = world(cloud=cloud(lambda call: FakeUpstreamResponse.stream(FIRST, STALL)))
    reply = await ask(around, chat_body(stream=True, **TO_CLOUD))
    assert not isinstance(reply.body, str)
    caller = Caller(reply.body)
    await caller.hear(1)
    await caller.leave()

    assert await spent(around) == Cost(nano_usd((7 * 10.0 + 2 * 20.0) / 1e6), 9)
    [(_, _, told)] = around.telemetry.records
    assert nano_usd(told["cost_usd"]) == (await spent(around)).nano_usd


@pytest.mark.parametrize("heartbeat_s", [5, 0.01], ids=["before the headers", "after the headers"])
async def test_caller_who_leaves_before_the_first_content(heartbeat_s: float) -> None:
    """Pays for the input: the model was asked. Otherwise long prompts could be asked again and again for nothing."""
    asked = asyncio.Event()

    def think(call: CloudCall) -> FakeUpstreamResponse:
        asked.set()
        return FakeUpstreamResponse.stream(STALL)

    around = world(cloud=cloud(think), heartbeat_s=heartbeat_s)
    asking = asyncio.ensure_future(ask(around, chat_body(stream=True, **TO_CLOUD)))
    await asked.wait()
    if heartbeat_s < 1:
        reply = await asking
        assert not isinstance(reply.body, str)
        await Caller(reply.body).leave()
    else:
        asking.cancel()
        await asyncio.wait({asking})

    assert await spent(around) == Cost(nano_usd(7 * 10.0 / 1e6), 7)


async def test_caller_who_leaves_as_the_first_content_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pays for what was sent until then, and the model is told to stop."""
    answer = FakeUpstreamResponse.stream(FIRST, STALL)

    async def leave(clock: Clock, task: asyncio.Future[Any], delay_s: float) -> bool:
        await asyncio.wait({task})
        raise asyncio.CancelledError

    around = world(cloud=cloud(lambda call: answer))
    monkeypatch.setattr("edge_router.runs.done_within", leave)
    with pytest.raises(asyncio.CancelledError):
        await ask(around, chat_body(stream=True, **TO_CLOUD))

    assert answer.is_cancelled
    assert (await spent(around)).tokens == 7 + estimate_tokens("Paris, ")


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_shared_answer(stream: bool) -> None:
    """Costs its readers nothing; when the keeping of it falls to one of them, with it comes the bill."""

    class Passed(FakeFlights):
        keeps = False

        async def post(self, *args: Any, on_join: Callable[[], None]) -> FakeUpstreamResponse:
            response = await super().post(*args, on_join=on_join)
            response.keeps = self.keeps
            return response

    costs = []
    for keeps in (False, True):
        shared = FakeUpstreamResponse.plain(completion("Shared."))
        if stream:
            whole = event(chunk({"content": "Shared."}, finish="stop")) + event(chunk({}, usage=USAGE))
            shared = FakeUpstreamResponse.stream(whole, DONE)
        around = world(single_flight="cloud")
        around.flights = Passed(around.cloud, landed=shared)
        around.flights.keeps = keeps
        reply = await ask(around, chat_body(COMPLEX_PROMPT, stream=stream, **TO_CLOUD))
        if stream:
            await read_stream(reply)
        costs.append(await spent(around))

    assert costs == [NOTHING, CLOUD_COST]


async def test_request_id_that_is_used_again() -> None:
    """Callers choose their request ids; each answer is paid for all the same."""
    around = world()
    for number in range(3):
        await around.ask(chat_body(f"{number}?"), headers={**KEY, "x-request-id": "same"})

    assert await spent(around) == Cost(3 * EDGE_COST.nano_usd, 45)


async def test_requests_in_flight() -> None:
    """Hold what they may cost at most; when that is all there is, the others are told to try again in a moment."""
    around = world({"usd_day": 0.006}, cloud=cloud(lambda call: FakeUpstreamResponse.stream(FIRST, STALL)))
    first = await ask(around, chat_body(stream=True, **TO_CLOUD))
    second = await ask(around, chat_body("Another?", stream=True, **TO_CLOUD))

    assert first.status == 200
    assert second.status == 402
    assert second.headers["retry-after"] == "5"
    assert "in flight" in error_of(second)["message"]
    assert not isinstance(first.body, str)
    await Caller(first.body).leave()


async def test_cascade() -> None:
    """Both answers are paid for: the edge model's, which was not good enough, and the cloud's."""
    refuses = edge(lambda call: FakeUpstreamResponse.plain(completion("I'm sorry, but I can't assist with that.")))
    around = world(cascade="on", edge=refuses, scorer=FixedScore(0.5))
    reply = await ask(around, chat_body(max_tokens=50))
    report = read_json(reply)["nearside"]

    assert report["cascade"]["verdict"] == "escalated"
    assert report["cascade"]["other_cost_usd"] > 0
    assert await spent(around) == Cost(nano_usd(report["cost_usd"]), 30)


REFUSAL = "I'm sorry, but I can't assist with that."
# The edge's answer by USAGE, or the input of its call; the input of the cloud's.
EDGE_ANSWER = Cost(nano_usd((10 * 2.0 + 5 * 4.0) / 1e6), 15)
EDGE_INPUT = Cost(nano_usd(PROMPT_TOKENS * 2.0 / 1e6), PROMPT_TOKENS)
CLOUD_INPUT = Cost(nano_usd(PROMPT_TOKENS * 10.0 / 1e6), PROMPT_TOKENS)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    ("mode", "refuses", "cost"),
    [
        pytest.param("on", True, EDGE_ANSWER + CLOUD_INPUT, id="escalated"),
        pytest.param("race", True, EDGE_ANSWER + CLOUD_INPUT, id="escalated in a race"),
        pytest.param("race", False, EDGE_INPUT + CLOUD_INPUT, id="race"),
    ],
)
async def test_caller_who_leaves_a_cascade(mode: Any, refuses: bool, cost: Cost, stream: bool) -> None:
    """Pays for the edge's answer, when there was one, and for the input of every call that was under way."""
    asked = asyncio.Event()

    def refuse(call: EdgeCall) -> FakeUpstreamResponse:
        if not refuses:
            return FakeUpstreamResponse(STALL)
        if stream:
            return FakeUpstreamResponse.stream(b"".join(openai_events(REFUSAL, usage=USAGE)))
        return FakeUpstreamResponse.plain(completion(REFUSAL))

    def think(call: CloudCall) -> FakeUpstreamResponse:
        asyncio.get_running_loop().call_later(0.02, asked.set)  # the edge's answer is judged by then
        return FakeUpstreamResponse(STALL)

    around = world(cascade=mode, edge=edge(refuse), cloud=cloud(think), scorer=FixedScore(0.65))
    asking = asyncio.ensure_future(ask(around, chat_body(stream=stream, max_tokens=50)))
    await asked.wait()
    asking.cancel()
    await asyncio.wait({asking})

    assert await spent(around) == cost


async def test_caller_who_leaves_while_the_edge_is_judged() -> None:
    """Pays for what had come of the answer."""
    begun = FakeUpstreamResponse.stream(FIRST, STALL)
    around = world(cascade="on", cascade_hold_s=5, edge=edge(lambda call: begun), scorer=FixedScore(0.5))
    asking = asyncio.ensure_future(ask(around, chat_body(stream=True, max_tokens=50)))
    await begun.is_read.wait()
    await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait({asking})

    output_tokens = estimate_tokens("Paris, ")
    assert await spent(around) == EDGE_INPUT + Cost(nano_usd(output_tokens * 4.0 / 1e6), output_tokens)


async def test_list_of_prompts() -> None:
    """A batch is answered as far as the money goes; what it does not reach is refused in its place."""
    around = world({"tokens_day": 1_000}, models=(EDGE_SMALL,))
    prompts = [f"{number}?" for number in range(40)]
    body = read_json(await ask(around, {"prompts": prompts, "max_tokens": 100}, path="/v1/completions/batch"))
    answered = sum(text is not None for text in body["responses"])

    assert 0 < answered < 40
    assert {each["error"]["code"] for each in body["errors"]} == {"budget_exceeded"}
    assert await spent(around) == Cost(answered * EDGE_COST.nano_usd, answered * 15)
    assert nano_usd(body["nearside"]["cost_usd"]) == answered * EDGE_COST.nano_usd


async def test_embeddings() -> None:
    """Reserved and settled like answers; given back when the embedder fails."""
    around = world()
    report = read_json(await ask(around, {"input": ["Paris", "London"]}, path="/v1/embeddings"))["nearside"]
    first = await spent(around)
    around.edge.handler = lambda call: FakeUpstreamResponse.plain("{")
    failed = await ask(around, {"input": "Paris"}, path="/v1/embeddings")

    tokens = estimate_tokens("Paris") + estimate_tokens("London")
    assert first == Cost(nano_usd(report["cost_usd"]), tokens)
    assert failed.status == 502
    assert await spent(around) == first


TEXTS = ["Paris"] * TEXTS_PER_CALL + ["London"] * TEXTS_PER_CALL


@pytest.mark.parametrize("step", [STALL, b"{"], ids=["time-out", "garbage"])
async def test_embeddings_of_which_a_part_fails(step: Any) -> None:
    """What came back is paid for, and so is what ran out of time."""

    def answer(call: EdgeCall) -> FakeUpstreamResponse:
        return answer_edge(call) if call.inputs["text"][0] == "Paris" else FakeUpstreamResponse(step)

    around = world(edge=edge(answer), timeout_s=0.02)
    reply = await ask(around, {"input": TEXTS}, path="/v1/embeddings")

    taken = TEXTS if step == STALL else TEXTS[:TEXTS_PER_CALL]
    assert reply.status == (504 if step == STALL else 502)
    assert (await spent(around)).tokens == sum(map(estimate_tokens, taken))
    assert nano_usd(read_json(reply)["nearside"]["cost_usd"]) == (await spent(around)).nano_usd


async def test_caller_who_leaves_before_the_embeddings() -> None:
    """Pays for all that was under way, not for what still waited for its turn."""
    asked = asyncio.Event()

    def think(call: EdgeCall) -> FakeUpstreamResponse:
        if len(around.edge.calls) == CONCURRENT_CALLS:
            asked.set()
        return FakeUpstreamResponse(STALL)

    around = world(edge=edge(think))
    texts = ["Paris"] * TEXTS_PER_CALL * (CONCURRENT_CALLS + 1)
    asking = asyncio.ensure_future(ask(around, {"input": texts}, path="/v1/embeddings"))
    await asked.wait()
    asking.cancel()
    await asyncio.wait({asking})

    assert (await spent(around)).tokens == CONCURRENT_CALLS * TEXTS_PER_CALL * estimate_tokens("Paris")


async def test_refreshed_answer() -> None:
    """What a stale answer's refresh costs is in no response, but in the ledger. When nothing is left it stays stale."""
    for budget, cost in ((RICH, Cost(2 * EDGE_COST.nano_usd, 30)), ({"usd_day": 0}, EDGE_COST)):
        around = world(lifetimes=Lifetimes(ttl_s=60, swr_s=600, stale_if_error_s=0))
        await ask(around)
        await around.kept()
        around.clock.advance(120)
        around.keys = key_records(acme={"tenant": "acme", "budget": budget})
        stale = await ask(around)

        assert read_json(stale)["nearside"]["cost_usd"] == 0
        assert await spent(around) == cost


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, 2048, id="none"),
        pytest.param({"max_tokens": 7}, None, id="older name"),
        pytest.param({"max_completion_tokens": 7}, 7, id="newer name"),
    ],
)
async def test_limit_of_the_output(fields: dict[str, int], expected: int | None) -> None:
    """A budget needs an end to what an answer may cost, so the cloud is told one where the caller sets none."""
    around = world()
    await ask(around, chat_body(COMPLEX_PROMPT, **fields))

    assert around.cloud.calls[0].body.get("max_completion_tokens") == expected


async def test_two_limits_of_the_output() -> None:
    """The newer name is what was reserved for, so a model that knows only the older one is not told more."""
    around = world()
    await ask(around, chat_body(COMPLEX_PROMPT, max_completion_tokens=7, max_tokens=100_000))

    sent = around.cloud.calls[0].body
    assert (sent["max_completion_tokens"], sent.get("max_tokens")) == (7, None)


# The ledger can't be reached


async def test_ledger_that_cannot_be_reached() -> None:
    """Nothing is spent that nobody counts: 503, and when to try again."""
    around = world()
    around.ledger = FakeLedger(around.clock, failures=None)
    reply = await ask(around)

    assert (reply.status, error_of(reply)["code"]) == (503, "budget_unavailable")
    assert reply.headers["retry-after"] == "5"
    assert read_json(reply)["nearside"]["budget"] == {"failed": True}
    assert around.calls == 0
    assert around.log.names() == ["budget_unavailable", "refused"]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_tenant_who_is_served_all_the_same(stream: bool) -> None:
    """With `fail_open`: the report says that nothing was reserved; what it cost is counted once that is possible."""
    around = world({**RICH, "on_failure": "fail_open"})
    around.ledger = FakeLedger(around.clock, failures=2)
    reply = await ask(around, chat_body(stream=stream))
    report = (await read_stream(reply))[-1]["nearside"] if stream else read_json(reply)["nearside"]

    assert reply.status == 200
    assert report["budget"] == {"failed": True}
    assert await spent(around) == EDGE_COST


async def test_grant_that_was_lost_on_its_way() -> None:
    """Asked again, it is the same reservation. When that fails too, it is given back."""
    for failures, status, cost in ((1, 200, EDGE_COST), (2, 503, NOTHING)):
        around = world()
        around.ledger = FakeLedger(around.clock, failures=failures, is_deaf=True)
        reply = await ask(around)

        assert reply.status == status
        assert await spent(around) == cost


async def test_caller_who_leaves_while_the_ledger_answers() -> None:
    """What was granted to nobody is given back at once."""
    around = world()
    around.ledger = SlowLedger(around.clock)
    asking = asyncio.ensure_future(ask(around))
    await around.ledger.granted.wait()

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert await spent(around) == NOTHING
    assert around.calls == 0


async def test_settlement_that_fails() -> None:
    """Tried again after the response. What never gets through stays reserved, and is logged."""
    for failures, is_settled in ((2, True), (3, False)):
        around = world()
        reply = await ask(around)
        assert around.ledger is not None
        around.ledger.failures = failures
        day = (await sums(around)).day

        assert reply.status == 200
        assert (day.spent == EDGE_COST and day.reserved == NOTHING) is is_settled
        assert ("budget_not_settled" in around.log.names()) is not is_settled
        assert day.spent + day.reserved != NOTHING


async def test_failures_are_counted() -> None:
    """In the metrics, whether the request was served or not."""
    cell = Cell()
    for facts in (None, {"remaining_usd": 1.0}, {"failed": True}):
        cell.note(Report("r", budget=facts), 200)

    assert cell.counts["budget_failures"] == 1


# GET /v1/usage


async def test_usage() -> None:
    """What was spent, what is reserved, what is left, until when; by model."""
    around = world({"usd_day": 1, "tokens_month": 100_000, "on_failure": "fail_open"})
    await ask(around)
    await around.background.finish()
    body = read_json(await ask(around, path="/v1/usage", method="GET"))
    del body["nearside"]

    assert body == {
        "object": "usage",
        "is_counted": True,
        "on_failure": "fail_open",
        "day": {
            "starts_at": 1789948800,
            "resets_at": 1790035200,
            "spent_usd": 2e-05,
            "reserved_usd": 0,
            "limit_usd": 1,
            "remaining_usd": 0.99998,
            "spent_tokens": 15,
            "reserved_tokens": 0,
            "limit_tokens": None,
            "remaining_tokens": None,
        },
        "month": {
            "starts_at": 1788220800,
            "resets_at": 1790812800,
            "spent_usd": 2e-05,
            "reserved_usd": 0,
            "limit_usd": None,
            "remaining_usd": None,
            "spent_tokens": 15,
            "reserved_tokens": 0,
            "limit_tokens": 100_000,
            "remaining_tokens": 99_985,
        },
        "models": [{"model": EDGE_SMALL.id, "spent_usd": 2e-05, "spent_tokens": 15, "answers": 1}],
    }


async def test_usage_without_a_budget() -> None:
    """Nothing is counted, and that is said: every amount is null."""
    around = world(budget=None)
    body = read_json(await ask(around, path="/v1/usage", method="GET"))

    assert body["is_counted"] is False
    assert {value for period in ("day", "month") for value in body[period].values()} == {None}
    assert body["models"] == []
    assert around.ledger is not None
    assert around.ledger.calls == 0


async def test_usage_that_cannot_be_read() -> None:
    """503, and when to try again."""
    around = world()
    around.ledger = FakeLedger(around.clock, failures=None)
    reply = await ask(around, path="/v1/usage", method="GET")

    assert (reply.status, error_of(reply)["code"]) == (503, "budget_unavailable")


async def test_reservation_ends_once() -> None:
    """What is said of it after its end changes nothing: an answer costs what it cost."""
    around, ledger = World(), FakeLedger(FakeClock())
    budgets = Budgets(ledger, around.clock, around.log, around.new_id)
    tenant = Tenant("acme", budget=parse_budget(RICH))
    charge = await budgets.reserve(tenant, Cost(100, 10), Report("r"), around.background)
    assert charge is not None

    charge.settle(Cost(40, 4), "m")
    charge.release()
    charge.settle(Cost(90, 9), "m")
    await around.background.finish()

    day = (await ledger.sums("acme")).day
    assert (day.spent, day.reserved) == (Cost(40, 4), NOTHING)

"""Budgets on the real runtime: a race for the last cent, callers who leave, a ledger that is killed or out of reach."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from edge_router import completions
from edge_router.budgets.money import nano_usd
from edge_router.budgets.worst_case import TEMPLATE_TOKENS
from edge_router.catalog import DEFAULT_MODELS, Catalog
from scripts.local.stack import Address, Stack, running_stack
from tests.edge.control import Control, chat, cleared_control, easy
from tests.edge_router.harness import bearer, key_records

pytestmark = pytest.mark.workerd

PATH = "/v1/chat/completions"
MODEL = "@cf/meta/llama-3.2-3b-instruct"
CALLERS, AFFORDABLE = 500, 100
INPUT_TOKENS, OUTPUT_TOKENS = 30, 40  # of every answer to `question`
NANO = 1_000_000_000


def question(**fields: Any) -> dict[str, Any]:
    """Each is another one, and all cost the same."""
    return chat(easy()[-20:].rjust(40, "."), model=MODEL, max_tokens=OUTPUT_TOKENS, use_cache=False, **fields)


def nano_of(tokens_in: int, tokens_out: int) -> int:
    model = Catalog(DEFAULT_MODELS).find(MODEL)
    assert model is not None
    return nano_usd(model.cost_usd(tokens_in, tokens_out))


ANSWER = nano_of(INPUT_TOKENS, OUTPUT_TOKENS)
MOST = nano_of(len(completions.dump(question())) + TEMPLATE_TOKENS, OUTPUT_TOKENS)
RACE = (AFFORDABLE - 1) * ANSWER + MOST  # after so many answers less one there is just room for one more


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Stack, Address]]:
    """A tenant for each test. Their ledgers have time, because a busy machine is no fault."""
    rich = {"usd_day": 10, "tokens_month": 10_000_000}
    budgets: dict[str, dict[str, Any]] = {
        "racer": {"usd_day": RACE / NANO},
        "leaver": rich,
        "lasting": rich,
        "closed": rich,
        "lenient": {**rich, "on_failure": "fail_open"},
        "poor": {"usd_day": 0},
    }
    records = key_records(**{name: {"tenant": name, "budget": budget} for name, budget in budgets.items()})
    variables = {"LEDGER_TIMEOUT_S": 20, "MEMORY_CACHE_MIB": 0}
    with running_stack(auth="keys", records=records.texts, variables=variables) as stack:
        yield stack


@pytest.fixture
def control(running: tuple[Stack, Address]) -> Iterator[Control]:
    with cleared_control(running[1]) as control:
        yield control


def client_of(running: tuple[Stack, Address], key_id: str) -> httpx.Client:
    return httpx.Client(base_url=running[1].url, headers=bearer(key_id), timeout=60)


def spent(client: httpx.Client, *, answers: int) -> dict[str, Any]:
    """The day's sums, once so many answers were settled: that happens after their responses."""
    deadline_s = time.monotonic() + 20
    while True:
        told = client.get("/v1/usage").json()
        settled = sum(model["answers"] for model in told["models"])
        if settled >= answers and told["day"]["reserved_tokens"] == 0:
            day: dict[str, Any] = told["day"]
            assert settled == answers
            return day
        assert time.monotonic() < deadline_s, told
        time.sleep(0.05)


def test_race_for_the_last_cent(running: tuple[Stack, Address], control: Control) -> None:
    """500 at once, money for 100: never more are answered, the others are told why, and every billionth is accounted
    for. What the race left is there for who asks later.
    """

    async def ask(callers: int) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=callers)
        async with httpx.AsyncClient(
            base_url=running[1].url, headers=bearer("racer"), timeout=120, limits=limits
        ) as client:
            return await asyncio.gather(*(client.post(PATH, json=question()) for _ in range(callers)))

    responses = asyncio.run(ask(CALLERS))
    answered = [response for response in responses if response.status_code == 200]
    with client_of(running, "racer") as client:
        raced = spent(client, answers=len(answered))
        for callers in (20, 5, 1):  # alone, one may take what is left to the last cent
            while more := [each for each in asyncio.run(ask(callers)) if each.status_code == 200]:
                answered += more
                spent(client, answers=len(answered))
        day = spent(client, answers=len(answered))
        later = client.post(PATH, json=question())

    assert {response.status_code for response in responses} == {200, 402}
    refusals = [response.json()["error"] for response in (*responses, later) if response.status_code == 402]
    assert {refusal["code"] for refusal in refusals} == {"budget_exceeded"}
    assert nano_usd(raced["spent_usd"]) % ANSWER == 0
    assert len(answered) == AFFORDABLE == control.counters()["ai"]
    costs = [nano_usd(response.json()["nearside"]["cost_usd"]) for response in answered]
    assert set(costs) == {ANSWER}
    assert nano_usd(day["spent_usd"]) == sum(costs) <= nano_usd(day["limit_usd"])
    assert 0 < int(later.headers["retry-after"]) <= 86_400


def test_streams_that_their_callers_leave(running: tuple[Stack, Address], control: Control) -> None:
    """Are settled for what was sent, soon after, and not for what they might have cost."""
    control.slow("ai", itl_ms=200)
    with client_of(running, "leaver") as client:
        for _ in range(3):
            with client.stream("POST", PATH, json=question(stream=True)) as response:
                next(response.iter_lines())
        day = spent(client, answers=3)

    assert control.cancelled("ai", within_s=5)
    assert 0 < nano_usd(day["spent_usd"]) < 3 * ANSWER


def test_caller_who_leaves_a_plain_answer(running: tuple[Stack, Address], control: Control) -> None:
    """The Worker goes on and settles it: nothing stays reserved."""
    control.slow("ai", ttft_ms=5000)
    with client_of(running, "leaver") as client:
        before = nano_usd(client.get("/v1/usage").json()["day"]["spent_usd"])
        with pytest.raises(httpx.ReadTimeout):
            client.post(PATH, json=question(), timeout=3)
        day = spent(client, answers=4)

    assert nano_usd(day["spent_usd"]) - before == ANSWER


@pytest.mark.parametrize("kind", ["error", "malformed"])
def test_ledger_that_fails(running: tuple[Stack, Address], control: Control, kind: str) -> None:
    """Nothing is spent without it, unless the record says so; that is told, and counted once the ledger is back."""
    with client_of(running, "closed") as closed, client_of(running, "lenient") as lenient:
        before = sum(each["answers"] for each in lenient.get("/v1/usage").json()["models"])
        control.fault("ledger", kind)
        refused = closed.post(PATH, json=question())
        asked = control.counters()["ai"]
        served = lenient.post(PATH, json=question())
        unread = closed.get("/v1/usage")
        control.clear()
        counted = spent(lenient, answers=before + 1)

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "budget_unavailable")
    assert int(refused.headers["retry-after"]) > 0
    assert asked == 0
    assert served.status_code == 200
    assert served.json()["nearside"]["budget"] == {"failed": True}
    assert unread.status_code == 503
    assert nano_usd(counted["spent_usd"]) == (before + 1) * ANSWER


def test_official_client(running: tuple[Stack, Address]) -> None:
    """OpenAI's SDK asks once: it does not repeat what can't help."""
    key = bearer("poor")["authorization"].removeprefix("Bearer ")
    sent: list[object] = []
    listening = openai.DefaultHttpxClient(event_hooks={"request": [sent.append]})
    with (
        openai.OpenAI(base_url=f"{running[1].url}/v1", api_key=key, max_retries=2, http_client=listening) as client,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": easy()}])

    assert (caught.value.status_code, caught.value.code) == (402, "budget_exceeded")
    assert len(sent) == 1


def test_workerd_that_is_killed(running: tuple[Stack, Address]) -> None:
    """What was spent is still spent."""
    stack, _ = running
    with client_of(running, "lasting") as client:
        assert client.post(PATH, json=question()).status_code == 200
        before = spent(client, answers=1)
        stack.restart_worker()
        after = spent(client, answers=1)
        assert client.post(PATH, json=question()).status_code == 200
        last = spent(client, answers=2)

    assert after == before
    assert nano_usd(last["spent_usd"]) == 2 * ANSWER

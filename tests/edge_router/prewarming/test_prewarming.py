"""Hot entries are refreshed before they are stale, by the cron, in their tenant's name."""

import json
from typing import Any

import pytest

from edge_router.caching.answers import AnswerCache
from edge_router.caching.sealing import Sealer
from edge_router.gateway import Gateway
from edge_router.prewarming import notes
from edge_router.prewarming.notes import MAX_BODY_BYTES, HotNotes
from edge_router.prewarming.run import MAX_REFRESHES, RUN_S, Prewarming
from edge_router.signing import parse_keys
from tests.edge_router.harness import SIMPLE_PROMPT, World, bearer, chat_body, key_records
from tests.fakes import EdgeCall, FakeCipher, FakeHot, FakeUpstreamResponse


class Prewarmed:
    """A gateway that notes what is hot, and its cron."""

    def __init__(self, *, sealer: Sealer | None = None, **parts: Any) -> None:
        self.world = World(**parts)
        self.hot = FakeHot(self.world.clock)
        self.notes = HotNotes(self.hot, self.world.clock, self.world.log, flush_after_s=0, sealer=sealer)
        self.world.hot = self.notes
        self.gateway: Gateway = self.world.gateway()
        cache = AnswerCache(self.world.store, memory_bytes=0, timeout_s=5, clock=self.world.clock, log=self.world.log)
        self.cron = Prewarming(
            self.hot, cache, self.gateway.answer_later, self.world.clock, self.world.log, sealer=sealer
        )

    async def ask(self, prompt: str = SIMPLE_PROMPT, **fields: Any) -> None:
        await self.world.ask(chat_body(prompt, **fields), of=self.gateway, headers=bearer())
        await self.world.background.finish()

    async def run(self) -> None:
        await self.cron.run(self.world.background)
        await self.world.background.finish()

    @property
    def logged(self) -> dict[str, Any]:
        return next(facts for name, facts in reversed(self.world.log.lines) if name == "prewarmed")


async def test_hot_entry_is_refreshed_before_it_is_stale() -> None:
    """Nobody asks in the meantime; who asks next gets a fresh answer at once."""
    warm = Prewarmed()
    await warm.ask()
    await warm.ask()
    calls = len(warm.world.edge.calls)
    warm.world.clock.advance(3600)

    await warm.run()

    assert len(warm.world.edge.calls) == calls + 1
    assert warm.logged["refreshed"] == 1
    await warm.ask()
    assert len(warm.world.edge.calls) == calls + 1


async def test_hits_of_one_question_are_one_note() -> None:
    warm = Prewarmed()
    await warm.ask()
    for _ in range(3):
        await warm.world.ask(chat_body(), of=warm.gateway, headers=bearer())
    await warm.world.background.finish()

    (asked,) = await warm.hot.take(warm.world.clock.now_s() + 10**6, 10)
    assert asked.hits == 3


async def test_fresh_entry_is_left_alone() -> None:
    """Nothing is due that stays fresh until the next run."""
    warm = Prewarmed()
    await warm.ask()
    await warm.ask()

    await warm.run()

    assert len(warm.world.edge.calls) == 1


async def test_entry_that_somebody_else_refreshed_costs_nothing() -> None:
    """It is only read."""
    warm = Prewarmed()
    await warm.ask()
    await warm.ask()
    warm.world.clock.advance(4000)
    await warm.ask()  # its time is over, so a model answers, and that is stored
    calls = len(warm.world.edge.calls)

    await warm.run()

    assert len(warm.world.edge.calls) == calls == 2
    assert warm.logged["fresh"] == 1


async def test_purged_entry_is_not_refreshed() -> None:
    """Whoever removed it does not want it back."""
    warm = Prewarmed()
    await warm.ask()
    await warm.ask()
    warm.world.clock.advance(3000)
    await warm.world.ask({"tenant": True}, path="/v1/cache", method="DELETE", of=warm.gateway)
    warm.world.clock.advance(600)

    await warm.run()

    assert len(warm.world.edge.calls) == 1
    assert warm.logged["gone"] == 1


@pytest.mark.parametrize(
    "records",
    [{}, {"k001": {"tenant": "acme", "scopes": ["metrics"]}}, {"k001": {"tenant": "other"}}],
    ids=["gone", "may not infer", "another tenant's"],
)
async def test_key_that_refreshes_nothing(records: dict[str, dict[str, Any]]) -> None:
    """The key's record is read anew: its tenant, scopes, models, budget and end hold as they are now."""
    keys = key_records(k001={"tenant": "acme"})
    warm = Prewarmed(auth="keys", keys=keys)
    await warm.ask()
    await warm.ask()
    keys.texts = key_records(**records).texts
    warm.world.clock.advance(3600)

    await warm.run()

    assert len(warm.world.edge.calls) == 1
    assert warm.logged["failed"] == 1


async def test_what_is_kept_of_a_question() -> None:
    """The request without `stream`, the ids of tenant and key; nothing of requests with a residency or of long ones."""
    warm = Prewarmed(auth="keys", keys=key_records(k001={"tenant": "acme"}))
    await warm.ask()
    await warm.ask(stream=True)
    await warm.ask("x" * MAX_BODY_BYTES)
    await warm.ask("x" * MAX_BODY_BYTES)
    await warm.ask("And here?", residency="eu")
    await warm.ask("And here?", residency="eu")

    (kept,) = warm.hot.table.take(1e12, 10)

    assert (kept.tenant, kept.key_id) == ("acme", "k001")
    assert json.loads(kept.body) == chat_body()


async def test_runs_are_bounded() -> None:
    """What is left waits for the next run."""
    warm = Prewarmed()
    for number in range(MAX_REFRESHES + 3):
        await warm.ask(f"What is item {number}?")
        await warm.ask(f"What is item {number}?")
    calls = len(warm.world.edge.calls)
    warm.world.clock.advance(4000)

    await warm.run()

    assert len(warm.world.edge.calls) == calls + MAX_REFRESHES


async def test_run_that_takes_long() -> None:
    """Nothing is begun after RUN_S: the next run may not overlap."""
    warm = Prewarmed()
    for number in range(3):
        await warm.ask(f"What is item {number}?")
        await warm.ask(f"What is item {number}?")
    warm.world.clock.advance(3600)
    calls = len(warm.world.edge.calls)
    answer = warm.world.edge.handler

    def slow(call: EdgeCall) -> FakeUpstreamResponse:
        warm.world.clock.advance(RUN_S / 2 + 1)
        return answer(call)

    warm.world.edge.handler = slow
    await warm.run()

    assert len(warm.world.edge.calls) - calls == warm.logged["refreshed"] == 2


async def test_too_many_questions_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes beyond the bound is not counted; those that are known are."""
    monkeypatch.setattr(notes, "MAX_WAITING", 1)
    warm = Prewarmed()
    await warm.ask("One?")
    await warm.ask("Two?")
    for question in ("One?", "Two?", "One?"):
        await warm.world.ask(chat_body(question), of=warm.gateway, headers=bearer())
    await warm.world.background.finish()

    (asked,) = await warm.hot.take(warm.world.clock.now_s() + 10**6, 10)
    assert (json.loads(asked.body), asked.hits) == (chat_body("One?"), 2)


async def test_store_that_fails_fails_no_request() -> None:
    """It is only about what is worth a refresh."""
    warm = Prewarmed()
    warm.hot.is_down = True

    await warm.ask()
    await warm.ask()
    await warm.run()

    assert {"hot_entries_lost", "not_prewarmed"} <= set(warm.world.log.names())
    assert SIMPLE_PROMPT not in warm.world.log.text()


async def test_questions_are_kept_encrypted() -> None:
    """Where answers are: nothing that was asked can be read in the store, and the cron still refreshes it."""
    sealer = Sealer(parse_keys("k1:" + "ab" * 32), FakeCipher(), lambda length: b"n" * length)
    warm = Prewarmed(sealer=sealer)
    await warm.ask()
    await warm.ask()
    [kept] = warm.hot.table.take(1e12, 10)
    warm.hot.table.note([kept], warm.world.clock.now_s())
    warm.world.clock.advance(3600)

    await warm.run()

    assert "capital" not in kept.body
    assert warm.logged["refreshed"] == 1


async def test_question_that_no_key_opens() -> None:
    """Is left alone: its key was taken away."""
    sealer = Sealer(parse_keys("k1:" + "ab" * 32), FakeCipher(), lambda length: b"n" * length)
    warm = Prewarmed(sealer=sealer)
    await warm.ask()
    await warm.ask()
    warm.cron._sealer = Sealer(parse_keys("k2:" + "cd" * 32), FakeCipher(), lambda length: b"n" * length)
    warm.world.clock.advance(3600)

    await warm.run()

    assert warm.logged["gone"] == 1

"""Stored answers that are encrypted: what opens, and what is a miss."""

import json
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.caching.answers import AnswerCache
from edge_router.caching.entries import Entry
from edge_router.caching.sealing import Sealer, derived_key
from edge_router.signing import parse_keys
from tests.fakes import CollectingLog, FakeCipher, FakeClock, MemoryStore

OLD, NEW = f"old:{'cd' * 32}", f"new:{'ab' * 32}"
KEY = "0f" * 32
ENTRY = Entry('{"choices": ["The secret answer."]}', "m", stored_at_s=1000.0, ttl_s=3600, question="The question?")


class Shelf:
    """Caches over one store: each is an isolate with its own keys."""

    def __init__(self) -> None:
        self.store, self.log, self.clock = MemoryStore(), CollectingLog(), FakeClock(1000.0)
        self._numbers = count()

    def cache(self, keys: str | None) -> AnswerCache:
        sealer = None if keys is None else Sealer(parse_keys(keys), FakeCipher(), self._random)
        return AnswerCache(self.store, memory_bytes=0, timeout_s=5, clock=self.clock, log=self.log, sealer=sealer)

    def _random(self, length: int) -> bytes:
        return next(self._numbers).to_bytes(length, "big")

    @property
    def name(self) -> str:
        return next(name for name in self.store.texts if name.endswith(KEY))


async def shelf(keys: str | None = NEW) -> Shelf:
    """With one entry."""
    made = Shelf()
    assert await made.cache(keys).put("acme", KEY, ENTRY, "req_1")
    return made


async def test_what_was_put_is_found() -> None:
    """Whole, and its text is nowhere in the store."""
    around = await shelf()

    assert await around.cache(NEW).read("acme", KEY) == ENTRY
    assert all(word not in json.dumps(around.store.texts) for word in ("secret", "question", "choices", "acme"))


async def test_same_answer_twice_looks_different() -> None:
    """Each time a nonce of its own."""
    around = await shelf()
    before = around.store.texts[around.name]
    await around.cache(NEW).put("acme", KEY, ENTRY, "req_2")

    assert around.store.texts[around.name] != before


@pytest.mark.parametrize(
    ("written", "read", "is_found"),
    [
        pytest.param(OLD, f"{NEW},{OLD}", True, id="rotated, the old key still there"),
        pytest.param(f"{NEW},{OLD}", NEW, True, id="rotated, the old key gone"),
        pytest.param(OLD, NEW, False, id="the old key gone too early"),
        pytest.param(OLD, f"old:{'ef' * 32}", False, id="another key of the same name"),
        pytest.param(None, NEW, False, id="written before there were keys"),
        pytest.param(NEW, None, False, id="encryption turned off"),
    ],
)
async def test_rotation(written: str | None, read: str | None, is_found: bool) -> None:
    """The first key seals, all of them open; whatever does not open is a miss, which the log counts."""
    around = await shelf(written)

    found = await around.cache(read).read("acme", KEY)

    missed = "entry_not_opened" if read else "entry_not_read"
    assert found == (ENTRY if is_found else None)
    assert around.log.names() == ([] if is_found else [missed])


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda text: text[:-8] + "AAAAAAA=", id="end"),
        pytest.param(lambda text: text.replace("sealed1:new:", "sealed1:new:AAAA"), id="beginning"),
        pytest.param(lambda text: text[:20], id="cut"),
        pytest.param(lambda text: text + "!", id="no base64"),
        pytest.param(lambda _: "sealed1:new:", id="empty"),
        pytest.param(lambda text: text.replace("sealed1", "sealed2"), id="another form"),
    ],
)
async def test_altered_entry_is_a_miss(alter: Callable[[str], str]) -> None:
    """Never an error, never another text."""
    around = await shelf()
    around.store.texts[around.name] = alter(around.store.texts[around.name])

    assert await around.cache(NEW).read("acme", KEY) is None
    assert around.log.names() == ["entry_not_opened"]


async def test_moved_entry_is_a_miss() -> None:
    """Under another name of the same tenant, and under the same name of another one."""
    around, other_key = await shelf(), "1e" * 32
    sealed = around.store.texts[around.name]
    for tenant, key in (("acme", other_key), ("evil", KEY)):
        await around.cache(NEW).put(tenant, key, ENTRY, "req_2")
    for name in around.store.texts:
        around.store.texts[name] = sealed

    assert await around.cache(NEW).read("acme", KEY) == ENTRY
    assert await around.cache(NEW).read("acme", other_key) is None
    assert await around.cache(NEW).read("evil", KEY) is None


def test_derived_key_is_hkdf() -> None:
    """RFC 5869, appendix A.3; and each tenant has its own."""
    secret = b"\x0b" * 22

    assert derived_key(secret, b"", "").hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    assert derived_key(secret, b"", "acme") != derived_key(secret, b"", "evil")


@given(text=st.text(), altered=st.text())
async def test_any_text(text: str, altered: str) -> None:
    """Is itself again, and garbage never opens."""
    sealer: Any = Sealer(parse_keys(NEW), FakeCipher(), lambda length: b"n" * length)

    sealed = await sealer.seal(text, tenant="t", name=KEY)

    assert await sealer.open(sealed, tenant="t", name=KEY) == text
    assert await sealer.open(altered, tenant="t", name=KEY) is None

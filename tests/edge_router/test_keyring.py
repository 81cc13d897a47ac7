"""Who is let in, for how long that is remembered, and that refusals tell nothing."""

import json
from typing import Any

import pytest

from edge_router import keyring
from edge_router.auth import Tenant, hash_secret
from edge_router.errors import GatewayError, NotAuthenticated
from edge_router.keyring import KNOWN_FOR_S, MAX_KNOWN, MAX_REFUSED, REFUSED_FOR_S, KeyRing
from tests.fakes import START_S, CollectingLog, FailingStore, FakeClock, MemoryStore

OLD, NEW = "oldSecretOldSecret", "newSecretNewSecret"
WRONG = "wrongwrongwrongwrong"


def bearer(secret: str = NEW, key_id: str = "k001") -> str:
    return f"Bearer nsk_{key_id}_{secret}"


class Records(MemoryStore):
    """Counts its readers."""

    reads = 0

    async def get(self, key: str) -> str | None:
        self.reads += 1
        return await super().get(key)


class Ring:
    """A key ring over one record."""

    def __init__(self, **fields: Any) -> None:
        record = {"tenant": "acme", "hashes": [hash_secret(NEW)], **fields}
        self.records = Records({"key:k001": json.dumps(record)})
        self.clock, self.log = FakeClock(), CollectingLog()
        self.ring = KeyRing(self.records, self.clock, self.log)

    async def code(self, authorization: str | None = None) -> str | None:
        """None for a key that is good."""
        authorization = authorization or bearer()
        try:
            tenant = self.ring.known(authorization) or await self.ring.check(authorization)
        except GatewayError as exc:
            return exc.code
        assert tenant.id == "acme"
        return None


async def test_right_secret() -> None:
    """The key tells the tenant."""
    assert await Ring(scopes=["metrics"]).ring.check(bearer()) == Tenant("acme", scopes=frozenset({"metrics"}))


async def test_key_that_is_being_rotated() -> None:
    """Both secrets are right until the old one's time is over, to the second, also for who was known before."""
    ring = Ring(hashes=[{"sha256": hash_secret(OLD), "expires_at_s": START_S + 10}, hash_secret(NEW)])

    before = [await ring.code(bearer(OLD)), await ring.code(bearer(NEW))]
    ring.clock.advance(9.9)
    within = await ring.code(bearer(OLD))
    ring.clock.advance(0.1)
    after = [await ring.code(bearer(OLD)), await ring.code(bearer(NEW))]

    assert (before, within, after) == ([None, None], None, ["api_key_expired", None])


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        pytest.param({"expires_at_s": START_S}, "api_key_expired", id="expired"),
        pytest.param({"expires_at_s": START_S + 1}, None, id="expires soon"),
        pytest.param({"disabled": True}, "api_key_disabled", id="disabled"),
    ],
)
async def test_key_that_is_over(fields: dict[str, Any], code: str | None) -> None:
    """Who has the secret is told why; who has not learns nothing."""
    ring = Ring(**fields)

    assert [await ring.code(), await ring.code(bearer(WRONG))] == [code, "invalid_api_key"]


async def test_key_that_is_known() -> None:
    """The store is not asked again for half a minute, and the record is not read again; then a change counts."""
    ring = Ring()
    assert await ring.code() is None
    ring.records.texts.clear()

    ring.clock.advance(KNOWN_FOR_S - 0.1)
    assert (await ring.code(), ring.records.reads) == (None, 1)
    ring.clock.advance(0.1)
    assert (await ring.code(), ring.records.reads) == ("invalid_api_key", 2)


async def test_key_that_was_refused() -> None:
    """The store is not asked again for some seconds; then a key that was made meanwhile counts."""
    ring = Ring()
    stored = dict(ring.records.texts)
    ring.records.texts.clear()
    assert [await ring.code() for _ in range(3)] == ["invalid_api_key"] * 3
    assert ring.records.reads == 1
    ring.records.texts.update(stored)

    ring.clock.advance(REFUSED_FOR_S)
    assert await ring.code() is None


async def test_known_secret_opens_for_no_other() -> None:
    """What is remembered is the whole header."""
    ring = Ring()
    await ring.code()

    assert await ring.code(bearer(NEW + "x")) == "invalid_api_key"
    assert await ring.code(bearer(NEW, "k002")) == "invalid_api_key"


async def test_many_wrong_keys() -> None:
    """What is remembered of them is bounded, and nobody who is known is forgotten for them."""
    ring = Ring()
    await ring.code()
    for number in range(MAX_REFUSED + 100):
        await ring.code(bearer(f"{WRONG}{number}"))
    reads = ring.records.reads

    assert await ring.code() is None
    assert await ring.code(bearer(f"{WRONG}{MAX_REFUSED + 99}")) == "invalid_api_key"
    assert ring.records.reads == reads
    await ring.code(bearer(f"{WRONG}0"))
    assert ring.records.reads == reads + 1


async def test_many_keys() -> None:
    """The keys that are remembered are bounded too."""
    ring = Ring()
    record = ring.records.texts["key:k001"]
    ring.records.texts.update({f"key:n{number:04}": record for number in range(MAX_KNOWN + 1)})
    for number in range(MAX_KNOWN + 1):
        await ring.code(bearer(key_id=f"n{number:04}"))

    assert ring.ring.known(bearer(key_id="n0000")) is None
    assert ring.ring.known(bearer(key_id=f"n{MAX_KNOWN:04}")) is not None


class Steps:
    """Counts what checking a key costs: reads of the store, records read, secrets compared."""

    def __init__(self, patch: pytest.MonkeyPatch, ring: Ring) -> None:
        self._ring = ring
        self._counts = {"read_record": 0, "_is_same": 0}
        for name in self._counts:
            patch.setattr(keyring, name, self._counting(name, getattr(keyring, name)))

    def _counting(self, name: str, real: Any) -> Any:
        def counted(*arguments: Any) -> Any:
            self._counts[name] += 1
            return real(*arguments)

        return counted

    async def of(self, authorization: str) -> tuple[str, dict[str, int]]:
        """What is answered and what it took."""
        self._counts.update(dict.fromkeys(self._counts, 0))
        reads = self._ring.records.reads
        with pytest.raises(NotAuthenticated) as caught:
            await self._ring.ring.check(authorization)
        return str(vars(caught.value)), {**self._counts, "reads": self._ring.records.reads - reads}


@pytest.mark.parametrize("hashes", [[hash_secret(NEW)], [hash_secret(OLD), hash_secret(NEW)]])
async def test_unknown_id_and_wrong_secret(monkeypatch: pytest.MonkeyPatch, hashes: list[str]) -> None:
    """The same answer for the same work, also when the id's right secret was seen just before, and when a wrong key
    comes again.
    """
    ring = Ring(hashes=hashes)
    await ring.code()
    steps = Steps(monkeypatch, ring)

    wrong, unknown = bearer(WRONG), bearer(WRONG, "k999")
    first = await steps.of(wrong)
    assert first[1] == {"read_record": 1, "_is_same": 2, "reads": 1}
    assert first == await steps.of(unknown)
    assert await steps.of(wrong) == await steps.of(unknown)


async def test_broken_record() -> None:
    """Lets nobody in and says that it is us, because the key may be good; the log has the reason once a minute, without
    any secret.
    """
    ring = Ring(limits={"requests_per_minute": "many"})

    codes = []
    for _ in range(3):
        codes.append(await ring.code())
        ring.clock.advance(REFUSED_FOR_S)
    assert codes == ["auth_unavailable"] * 3
    assert [facts["key_id"] for _, facts in ring.log.lines] == ["k001"]
    assert ring.log.warnings == ["key_record_broken"]
    assert "limits.requests_per_minute" in ring.log.text()
    assert hash_secret(NEW) not in ring.log.text()

    ring.clock.advance(60)
    await ring.code()
    assert len(ring.log.lines) == 2


async def test_store_that_fails() -> None:
    """Lets nobody in who is not known, says that it is us, and is asked again at once."""
    ring = KeyRing(FailingStore(), FakeClock(), CollectingLog())

    for _ in range(2):
        with pytest.raises(GatewayError) as caught:
            await ring.check(bearer())
        assert (caught.value.status, caught.value.code) == (503, "auth_unavailable")

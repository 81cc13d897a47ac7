"""From an `Authorization` header to the tenant. A key is checked once in KNOWN_FOR_S; what came of it is remembered."""

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from .auth import PresentedKey, Tenant, hash_secret, read_key, wrong_key
from .errors import GatewayError, NotAuthenticated, StoreError
from .key_records import BrokenRecord, KeyRecord, StoredSecret, read_record
from .memory_cache import MemoryCache
from .ports import Clock, Log, Store

# With the 30 s that a location may keep its copy of a record (src/entry.py), a change counts everywhere after a minute.
KNOWN_FOR_S = 30.0
REFUSED_FOR_S = 5.0
MAX_KNOWN = 2000
MAX_REFUSED = 500
LOGGED_EVERY_S = 60.0

# In place of a record that is missing.
_NOBODY = json.dumps({"tenant": "nobody", "hashes": [hash_secret("no such key")]})


@dataclass(frozen=True, slots=True)
class _Admission:
    tenant: Tenant
    until_s: float


class KeyRing:
    """Scope: isolate.

    Known by the SHA-256 of the whole header: nothing can be learned from how long such a look-up takes, and no secret
    stays in memory. Only keys are remembered, not records, so that a wrong secret for an id that exists costs exactly
    what an id that does not exist costs.
    """

    def __init__(self, records: Store, clock: Clock, log: Log) -> None:
        self._records = records
        self._clock = clock
        self._log = log
        self._known: MemoryCache[_Admission] = MemoryCache(max_bytes=MAX_KNOWN, max_age_s=KNOWN_FOR_S)
        self._holders: MemoryCache[_Admission] = MemoryCache(max_bytes=MAX_KNOWN, max_age_s=KNOWN_FOR_S)
        self._refused: MemoryCache[tuple[str, str | None]] = MemoryCache(max_bytes=MAX_REFUSED, max_age_s=REFUSED_FOR_S)
        self._logged: MemoryCache[bool] = MemoryCache(max_bytes=MAX_REFUSED, max_age_s=LOGGED_EVERY_S)

    def known(self, authorization: str | None) -> Tenant | None:
        """The tenant of a header that was accepted a moment ago."""
        if authorization is None:
            return None
        now_s = self._clock.now_s()
        admission = self._known.get(_mark(authorization), now_s)
        return admission.tenant if admission is not None and now_s < admission.until_s else None

    async def check(self, authorization: str | None) -> Tenant:
        """Raises NotAuthenticated, and GatewayError (503) when keys can't be checked."""
        key = read_key(authorization)
        assert authorization is not None  # else it had no key
        mark, now_s = _mark(authorization), self._clock.now_s()
        refused = self._refused.get(mark, now_s)
        if refused is not None:
            raise NotAuthenticated(refused[0], code=refused[1])
        record = self._read(await self._fetch(key), key)
        now_s = self._clock.now_s()
        try:
            until_s = _admit(record, key, now_s)
        except NotAuthenticated as exc:
            self._refused.put(mark, (exc.message, exc.code), 1, now_s)
            raise
        tenant = record.to_tenant()
        self._known.put(mark, _Admission(tenant, until_s), 1, now_s)
        return tenant

    async def holder_of(self, key_id: str) -> Tenant:
        """The tenant of a key that was checked before, when its holder left work with us. Raises as `check` does."""
        now_s = self._clock.now_s()
        admission = self._holders.get(key_id, now_s)
        if admission is None:
            key = PresentedKey(key_id, "")
            record = self._read(await self._fetch(key), key)
            if record == read_record(_NOBODY) or record.disabled:
                raise _withdrawn()
            admission = _Admission(record.to_tenant(), _end_with(record, record.hashes))
            self._holders.put(key_id, admission, 1, now_s)
        if self._clock.now_s() >= admission.until_s:
            raise _withdrawn()
        return admission.tenant

    async def _fetch(self, key: PresentedKey) -> str | None:
        """A store that fails lets nobody in, and the error says that it is us."""
        try:
            return await self._records.get(f"key:{key.id}")
        except StoreError as exc:
            raise _unavailable() from exc

    def _read(self, text: str | None, key: PresentedKey) -> KeyRecord:
        """A missing record is read as one whose secret nobody has: that takes as long. A broken one is our failure, not
        the caller's, who may have a good key.
        """
        try:
            return read_record(_NOBODY if text is None else text)
        except BrokenRecord as exc:
            now_s = self._clock.now_s()
            if not self._logged.get(key.id, now_s):
                self._logged.put(key.id, True, 1, now_s)
                self._log.warning("key_record_broken", key_id=key.id, reason=str(exc))
            raise _unavailable() from exc


def _unavailable() -> GatewayError:
    return GatewayError(
        "Keys can't be checked right now; try again.", code="auth_unavailable", status=503, retry_after_s=1
    )


def _withdrawn() -> NotAuthenticated:
    return NotAuthenticated("The API key that left this request is no longer valid.")


def _mark(authorization: str) -> str:
    return hashlib.sha256(authorization.encode()).hexdigest()


def _admit(record: KeyRecord, key: PresentedKey, now_s: float) -> float:
    """Unix time until which the key is good. Raises NotAuthenticated: only who has the secret learns why."""
    secrets = [*record.hashes, *record.hashes][:2]  # as many comparisons for a record with one
    matching = [secret for secret in secrets if _is_same(secret, key)]
    if not matching:
        raise wrong_key()
    until_s = _end_with(record, matching)
    if record.disabled:
        raise NotAuthenticated("This API key is disabled.", code="api_key_disabled")
    if now_s >= until_s:
        raise NotAuthenticated("This API key has expired.", code="api_key_expired")
    return until_s


def _is_same(secret: StoredSecret, key: PresentedKey) -> bool:
    return hmac.compare_digest(secret.sha256, key.secret_hash)


def _end_with(record: KeyRecord, secrets: Sequence[StoredSecret]) -> float:
    """Unix time until which one of these secrets is good."""
    return min(_end_of(record), max(map(_end_of, secrets)))


def _end_of(expiring: KeyRecord | StoredSecret) -> float:
    return inf if expiring.expires_at_s is None else expiring.expires_at_s

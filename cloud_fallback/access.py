"""Who may call: holders of a signing key (edge_router/signing.py), each call once."""

import time

from starlette.datastructures import Headers

from cloud_fallback.errors import NotSigned
from cloud_fallback.metrics import Metrics
from cloud_fallback.shared import SharedState
from edge_router.signing import Key, SignatureError, Signed, verify

PROTECTED_PREFIX = "/v1/"


class Access:
    """Scope: process. No keys: everyone may call."""

    def __init__(self, keys: tuple[Key, ...], state: SharedState, metrics: Metrics) -> None:
        self._keys = keys
        self._state = state
        self._metrics = metrics

    def check_headers(self, method: str, path: str, headers: Headers) -> Signed | None:
        """Before the body is read, so that nobody unknown can make us read one. Raises NotSigned."""
        if not self._keys:
            return None
        try:
            return verify(self._keys, method=method, path=path, headers=headers, now_s=time.time())
        except SignatureError as exc:
            raise self._refused(exc.reason) from None

    async def check_body(self, signed: Signed | None, body: bytes) -> None:
        """The digest, and that this call was not made before. Raises NotSigned.

        Nonces are forgotten with their signature's time, so a body that came later is refused too.
        """
        if signed is None:
            return
        if not signed.covers(body):
            raise self._refused("digest")
        left_s = signed.expires_at_s - time.time()
        if left_s <= 0:
            raise self._refused("time")
        if not await self._state.is_new(signed.nonce, left_s):
            raise self._refused("replay")

    def _refused(self, reason: str) -> NotSigned:
        self._metrics.refused.labels(reason).inc()
        return NotSigned("This service takes signed calls only; this one was not, or was made before.")

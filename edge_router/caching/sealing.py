"""Stored answers, encrypted: AES-256-GCM under a key of the tenant's own, derived by HKDF (RFC 5869). docs/caches.md

A sealed text is `sealed1:<key id>:<base64 of nonce and ciphertext>`. Tenant and cache key are bound to it as additional
data, so an entry that was moved under another name does not open.
"""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence

from ..ports import Cipher
from ..signing import Key

_FORM = "sealed1"
_SALT = b"nearside cache entry 1"
_NONCE_BYTES = 12  # random: safe for 2^32 entries of one tenant under one key (NIST SP 800-38D, 8.3)


class Sealer:
    """Scope: isolate. keys: the first one seals, all of them open."""

    def __init__(self, keys: Sequence[Key], cipher: Cipher, random_bytes: Callable[[int], bytes]) -> None:
        self._sealing = keys[0]
        self._keys = {key.id: key for key in keys}
        self._cipher = cipher
        self._random_bytes = random_bytes

    async def seal(self, text: str, *, tenant: str, name: str) -> str:
        """name: of the entry, the tenant's own. Raises StoreError."""
        key, nonce = self._sealing, self._random_bytes(_NONCE_BYTES)
        data = text.encode("utf-8", "surrogatepass")
        sealed = await self._cipher.encrypt(derived_key(key.secret, _SALT, tenant), nonce, data, _bound(tenant, name))
        return f"{_FORM}:{key.id}:{b64encode(nonce + sealed).decode()}"

    async def open(self, sealed: str, *, tenant: str, name: str) -> str | None:
        """None for what no key here sealed for this tenant and name, or what was altered. Raises StoreError."""
        form, _, rest = sealed.partition(":")
        key_id, _, encoded = rest.partition(":")
        key = self._keys.get(key_id)
        if form != _FORM or key is None:
            return None
        try:
            data = b64decode(encoded, validate=True)
        except ValueError:
            return None
        secret, nonce = derived_key(key.secret, _SALT, tenant), data[:_NONCE_BYTES]
        opened = await self._cipher.decrypt(secret, nonce, data[_NONCE_BYTES:], _bound(tenant, name))
        return None if opened is None else opened.decode("utf-8", "surrogatepass")


def derived_key(secret: bytes, salt: bytes, info: str) -> bytes:
    """The first 32 bytes of HKDF-SHA-256."""
    extracted = hmac.digest(salt, secret, "sha256")
    return hmac.digest(extracted, info.encode() + b"\x01", "sha256")


def _bound(tenant: str, name: str) -> bytes:
    """name: has no line break, so no other pair gives the same."""
    return f"{tenant}\n{name}".encode()

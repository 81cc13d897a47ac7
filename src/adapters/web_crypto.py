"""`Cipher` on the runtime's Web Crypto: AES-GCM."""

from typing import Any

from js import crypto
from pyodide.ffi import JsException, to_js

from adapters.javascript import to_object
from edge_router.errors import StoreError


class AesGcm:
    """Keys are imported for one use each: that takes microseconds, and nothing is left to be found."""

    async def encrypt(self, key: bytes, nonce: bytes, data: bytes, bound: bytes) -> bytes:
        try:
            return await _run("encrypt", key, nonce, data, bound)
        except JsException as exc:
            raise StoreError(f"An entry can't be encrypted: {exc.name}") from exc

    async def decrypt(self, key: bytes, nonce: bytes, data: bytes, bound: bytes) -> bytes | None:
        try:
            return await _run("decrypt", key, nonce, data, bound)
        except JsException as exc:
            if exc.name == "OperationError":  # all that Web Crypto says of a tag that does not fit
                return None
            raise StoreError(f"An entry can't be decrypted: {exc.name}") from exc


async def _run(use: str, key: bytes, nonce: bytes, data: bytes, bound: bytes) -> bytes:
    subtle = crypto.subtle
    algorithm = to_object({"name": "AES-GCM"})
    imported = await subtle.importKey("raw", to_js(key), algorithm, False, to_object([use]))
    algorithm.iv, algorithm.additionalData = to_js(nonce), to_js(bound)
    result: Any = await getattr(subtle, use)(algorithm, imported, to_js(data))
    return bytes(result.to_bytes())

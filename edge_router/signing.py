"""Signatures on calls from the edge to the cloud: one profile of RFC 9421 (HMAC-SHA-256) with RFC 9530 digests.

Both sides read the keys from `FALLBACK_KEYS="id:hex,id:hex"`: the first signs, all of them verify. To rotate, add the
new key behind the old one in the cloud, put it first at the edge, then drop the old one on both sides.

Covered: method, path, the digest of the body, `x-request-id`, the time and a nonce. The nonce is what a receiver
remembers against replays. It is new for every attempt, because a request id is not: a caller may choose it, and a retry
or a hedge sends it again.
"""

import hashlib
import hmac
import re
from binascii import b2a_base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

WINDOW_S = 60
"""How far the clocks of both sides, and the time under way, may differ."""
MIN_SECRET_BYTES = 32

_COVERED = '("@method" "@path" "content-digest" "x-request-id")'
_INPUT = re.compile(
    r'edge=(?P<params>\("@method" "@path" "content-digest" "x-request-id"\)'
    r';created=(?P<created>\d{1,15});nonce="(?P<nonce>[A-Za-z0-9_-]{16,64})";keyid="(?P<key_id>[A-Za-z0-9_-]{1,32})"'
    r';alg="hmac-sha256")'
)
_SIGNATURE = re.compile(r"edge=:([A-Za-z0-9+/]{43}=):")
_KEY = re.compile(r"(?P<id>[A-Za-z0-9_-]{1,32}):(?P<secret>(?:[0-9a-fA-F]{2})+)")


class SignatureError(Exception):
    """The call was not signed by a holder of a key; `reason` is a short word for logs and metrics."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Key:
    id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Key({self.id!r})"


@dataclass(frozen=True, slots=True)
class Signed:
    """What a valid signature says. The body is not checked yet: `covers` does that once it is read."""

    nonce: str
    expires_at_s: float
    content_digest: str

    def covers(self, body: bytes) -> bool:
        return self.content_digest == content_digest(body)


def parse_keys(text: str) -> tuple[Key, ...]:
    """The keys of `FALLBACK_KEYS`, the one that signs first. Raises ValueError; its message has no secret in it."""
    found = [_KEY.fullmatch(part.strip()) for part in text.split(",")]
    keys = [Key(each["id"], bytes.fromhex(each["secret"])) for each in found if each]
    if len(keys) != len(found):
        raise ValueError("must be id:hex,id:hex; ids are 1 to 32 of A-Za-z0-9_-")
    if any(len(key.secret) < MIN_SECRET_BYTES for key in keys):
        raise ValueError(f"each secret must have at least {MIN_SECRET_BYTES} bytes ({2 * MIN_SECRET_BYTES} hex digits)")
    if len({key.id for key in keys}) < len(keys):
        raise ValueError("two keys have the same id")
    return tuple(keys)


def sign(key: Key, *, method: str, path: str, request_id: str, body: bytes, nonce: str, now_s: float) -> dict[str, str]:
    """The headers to send with this very request, `x-request-id` included.

    path: as sent, without the query. request_id: visible ASCII. nonce: 16 to 64 of A-Za-z0-9_-, random, new for every
    attempt. now_s: Unix time.
    """
    digest = content_digest(body)
    params = f'{_COVERED};created={int(now_s)};nonce="{nonce}";keyid="{key.id}";alg="hmac-sha256"'
    mac = _mac(key.secret, _covered(method, path, digest, request_id), params)
    return {
        "x-request-id": request_id,
        "content-digest": digest,
        "signature-input": f"edge={params}",
        "signature": f"edge=:{_base64(mac)}:",
    }


def verify(keys: Iterable[Key], *, method: str, path: str, headers: Mapping[str, str], now_s: float) -> Signed:
    """Checks all but the body and that the nonce is new.

    headers: names in lower case. Raises SignatureError: missing, malformed, key, signature, time.
    """
    if "signature" not in headers or "signature-input" not in headers:
        raise SignatureError("missing")
    given = _INPUT.fullmatch(headers["signature-input"])
    signature = _SIGNATURE.fullmatch(headers["signature"])
    if given is None or signature is None or "content-digest" not in headers or "x-request-id" not in headers:
        raise SignatureError("malformed")
    key = next((key for key in keys if key.id == given["key_id"]), None)
    if key is None:
        raise SignatureError("key")
    digest = headers["content-digest"]
    expected = _mac(key.secret, _covered(method, path, digest, headers["x-request-id"]), given["params"])
    if not hmac.compare_digest(_base64(expected), signature[1]):
        raise SignatureError("signature")
    created_s = int(given["created"])
    if abs(now_s - created_s) > WINDOW_S:
        raise SignatureError("time")
    return Signed(given["nonce"], created_s + WINDOW_S, digest)


def content_digest(body: bytes) -> str:
    """The `Content-Digest` field of RFC 9530."""
    return f"sha-256=:{_base64(hashlib.sha256(body).digest())}:"


def signature_base(components: Sequence[tuple[str, str]], params: str) -> str:
    """What is signed: RFC 9421, section 2.5."""
    lines = [f'"{name}": {value}' for name, value in components]
    return "\n".join([*lines, f'"@signature-params": {params}'])


def _covered(method: str, path: str, digest: str, request_id: str) -> list[tuple[str, str]]:
    return [("@method", method), ("@path", path), ("content-digest", digest), ("x-request-id", request_id)]


def _mac(secret: bytes, components: Sequence[tuple[str, str]], params: str) -> bytes:
    return hmac.digest(secret, signature_base(components, params).encode(), "sha256")


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()

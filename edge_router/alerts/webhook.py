"""Notices as a receiver gets them: signed as standardwebhooks.com says, so that its libraries verify them.

Signed is `<webhook-id>.<webhook-timestamp>.<body>`, with HMAC-SHA-256 under the secret's bytes. The id is the notice's
own and the same in every attempt: who has seen it may leave it.
"""

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final

_PREFIX: Final = "whsec_"
SECRET_BYTES: Final = range(24, 65)


def parse_secret(text: str) -> bytes:
    """Of `whsec_<base64>`. Raises ValueError; its message has no secret in it."""
    try:
        secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        secret = b""
    if not text.startswith(_PREFIX) or len(secret) not in SECRET_BYTES:
        raise ValueError("must be whsec_ and 24 to 64 bytes in base64")
    return secret


def signed_notice(notice: Mapping[str, Any], secret: bytes, now_s: float) -> tuple[str, dict[str, str]]:
    """(body, headers) of one attempt."""
    alert = notice["alert"]
    event = {"type": f"alert.{alert['state']}", "id": notice["id"], "at_s": notice["at_s"], "alert": alert}
    body = json.dumps(event, separators=(",", ":"))
    signed = f"{notice['id']}.{int(now_s)}.{body}".encode()
    signature = base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
    return body, {
        "content-type": "application/json",
        "webhook-id": notice["id"],
        "webhook-timestamp": str(int(now_s)),
        "webhook-signature": f"v1,{signature}",
    }

"""New keys and changes of their records. Pure, but for the randomness of secrets."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_router.auth import hash_secret
from edge_router.key_records import BrokenRecord, read_record

Record = dict[str, Any]


class Refused(Exception):
    """What was asked for can't be done; the message says why."""


@dataclass(frozen=True, slots=True)
class Secret:
    """The only place where a secret is; it is shown once."""

    value: str

    @property
    def hash(self) -> str:
        return hash_secret(self.value)

    def key(self, key_id: str) -> str:
        return f"nsk_{key_id}_{self.value}"


def new_secret() -> Secret:
    return Secret(secrets.token_hex(24))


def new_id() -> str:
    return secrets.token_hex(4)


def new_record(secret: Secret, fields: Mapping[str, Any], now_s: float) -> Record:
    """fields: of the record; those that are None or empty are left out. Raises Refused."""
    given = {name: value for name, value in fields.items() if value not in (None, {}, [])}
    return checked({"hashes": [secret.hash], "created_at_s": int(now_s), **given})


def checked(record: Record) -> Record:
    """As it is, when the gateway takes it. Raises Refused."""
    try:
        read_record(json.dumps(record))
    except BrokenRecord as exc:
        raise Refused(f"The gateway would not take this record: {exc}") from exc
    return record


def rotated(record: Record, secret: Secret, *, old_until_s: float, now_s: float) -> Record:
    """With a second secret; the old one is good until then. Raises Refused."""
    alive = [each for each in map(_whole, record["hashes"]) if each.get("expires_at_s", now_s + 1) > now_s]
    if len(alive) > 1:
        raise Refused("Two secrets are valid already: --finish removes the older one.")
    old = [{**each, "expires_at_s": min(int(old_until_s), each.get("expires_at_s", old_until_s))} for each in alive]
    return checked({**record, "hashes": [*old, secret.hash]})


def finished(record: Record) -> Record:
    """With the newest secret only."""
    return checked({**record, "hashes": record["hashes"][-1:]})


def _whole(stored: Any) -> dict[str, Any]:
    return {"sha256": stored} if isinstance(stored, str) else dict(stored)


def state_of(record: Record, now_s: float) -> str:
    """In a word: `active`, `rotating`, `disabled`, `expired`, or `broken`, which lets nobody in."""
    try:
        read = read_record(json.dumps(record))
    except BrokenRecord:
        return "broken"
    if read.disabled:
        return "disabled"
    if read.expires_at_s is not None and read.expires_at_s <= now_s:
        return "expired"
    alive = [each for each in read.hashes if each.expires_at_s is None or each.expires_at_s > now_s]
    return "rotating" if len(alive) > 1 else "active" if alive else "expired"

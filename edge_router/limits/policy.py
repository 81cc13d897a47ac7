"""How often, and how much at a time, a tenant may ask."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key record says under `limits`; None: no such limit. docs/keys.md, "Limits"

    strict: counted by one object for the whole world; else by each isolate for itself.
    on_failure: what happens to a request when that object can't be asked.
    """

    requests_per_minute: int | None = None
    concurrency: int | None = None
    strict: bool = False
    on_failure: Literal["fail_open", "fail_closed"] = "fail_open"

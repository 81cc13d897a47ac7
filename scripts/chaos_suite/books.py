"""The ledger of the tenant with a budget, against what its callers were told."""

import asyncio
import time
from typing import Any

from edge_router.budgets.money import nano_usd
from scripts.chaos_suite.judge import ledger_breaches
from scripts.chaos_suite.load import Load
from scripts.chaos_suite.questions import dearest_usd

COUNTED = "amber"
RECOVERY_S = 60.0


async def check_ledger(load: Load) -> tuple[dict[str, Any], list[str]]:
    """(what the ledger says, what is wrong with it). Settlements come after the responses, so it gets some time."""
    told, unknown = load.record.told_nano[COUNTED], load.record.unknown[COUNTED]
    facts: dict[str, Any] = {}
    async with load.client() as client:
        deadline_s, found = time.monotonic() + RECOVERY_S, ["the ledger does not answer"]
        while found and time.monotonic() < deadline_s:
            response = await client.get("/v1/usage", headers=load.keys[COUNTED])
            if response.status_code == 200:
                usage = response.json()
                facts = {"month": usage["month"], "told_nano_usd": told, "unknown": unknown}
                found = ledger_breaches(usage, told_nano=told, unknown=unknown, dearest_usd=dearest_usd())
            await asyncio.sleep(0.5)
    return facts, found


async def start_anew(load: Load) -> None:
    """Counts from what the ledger has now. For a clock that comes back from another month: what was spent there is not
    in this one, and the ledger forgets months that are long past.
    """
    async with load.client() as client:
        deadline_s, month = time.monotonic() + RECOVERY_S, None
        while month is None or (month["reserved_usd"] and time.monotonic() < deadline_s):
            await asyncio.sleep(0.5)
            response = await client.get("/v1/usage", headers=load.keys[COUNTED])
            if response.status_code == 200:
                month = response.json()["month"]
            elif time.monotonic() > deadline_s:
                return
    load.record.told_nano[COUNTED] = nano_usd(month["spent_usd"])

"""Makes, lists, rotates and revokes API keys, of scripts/dev or of a deployment (docs/keys.md).

    scripts/keys create --tenant acme                               of a scripts/dev that runs on port 8787
    scripts/keys create --tenant acme --scopes infer,cache --models edge,gpt-4o-mini --expires 30d --remote
    scripts/keys create --tenant acme --requests-per-minute 60 --concurrency 4 --strict --budget-usd-day 5
    scripts/keys list --remote
    scripts/keys rotate 1f2e3d4c --old-valid-for 24h                then hand out the new one, and: rotate ID --finish
    scripts/keys revoke 1f2e3d4c --remote

A secret is shown once and stored nowhere: records have its hash. A change counts after a minute at the latest.
Exit codes: 0 done, 1 refused or not reached, 2 wrong arguments.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from scripts.keying.records import (
    Record,
    Refused,
    checked,
    finished,
    new_id,
    new_record,
    new_secret,
    rotated,
    state_of,
)
from scripts.keying.stores import LocalStore, RecordStore, StoreError, WranglerStore

UNITS_S = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
PLAIN_WIDTH = 160  # where no terminal says how wide it is
MINUTE_NOTE = "It counts everywhere after a minute at the latest."


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    store: RecordStore = WranglerStore(dry_run=options.dry_run) if options.remote else LocalStore(options.url)
    if options.dry_run and not options.remote:
        print("scripts/keys: --dry-run shows wrangler calls: it goes with --remote", file=sys.stderr)
        return 2
    try:
        options.run(options, store)
    except (StoreError, Refused) as exc:
        print(f"scripts/keys: {exc}", file=sys.stderr)
        return 1
    return 0


def _create(options: argparse.Namespace, store: RecordStore) -> None:
    now_s, secret, key_id = time.time(), new_secret(), new_id()
    limits = {
        "requests_per_minute": options.requests_per_minute,
        "concurrency": options.concurrency,
        "strict": options.strict or None,
        "on_failure": options.limits_on_failure,
    }
    budget = {
        "usd_day": options.budget_usd_day,
        "usd_month": options.budget_usd_month,
        "tokens_day": options.budget_tokens_day,
        "tokens_month": options.budget_tokens_month,
        "on_failure": options.budget_on_failure,
    }
    fields = {
        "tenant": options.tenant,
        "name": options.name,
        "scopes": options.scopes,
        "models": options.models,
        "residency": options.residency,
        "expires_at_s": None if options.expires is None else int(now_s + options.expires),
        "limits": _given(limits),
        "budget": _given(budget),
    }
    record = new_record(secret, fields, now_s)
    store.put(key_id, json.dumps(record))
    _tell_secret(options, key_id, secret.key(key_id), record)


def _list(options: argparse.Namespace, store: RecordStore) -> None:
    now_s = time.time()
    rows = [(key_id, _parsed(store.get(key_id))) for key_id in sorted(store.ids())]
    rows = [(key_id, record) for key_id, record in rows if options.tenant in (None, record.get("tenant"))]
    if options.json:
        print(json.dumps([{"id": key_id, "state": state_of(record, now_s), **record} for key_id, record in rows]))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("id", "tenant", "name", "state", "scopes", "models", "limits", "budget", "expires"):
        table.add_column(heading, no_wrap=heading == "id")
    for key_id, record in rows:
        table.add_row(key_id, *_cells(record, now_s))
    Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(table)


def _show(options: argparse.Namespace, store: RecordStore) -> None:
    record = _stored(options.id, store)
    print(
        json.dumps(
            {"id": options.id, "state": state_of(record, time.time()), **record}, indent=None if options.json else 2
        )
    )


def _rotate(options: argparse.Namespace, store: RecordStore) -> None:
    record, now_s = _stored(options.id, store), time.time()
    if options.finish:
        store.put(options.id, json.dumps(finished(record)))
        _tell(
            options,
            {"id": options.id, "finished": True},
            f"Only the newest secret of {options.id} is left. {MINUTE_NOTE}",
        )
        return
    secret, until_s = new_secret(), now_s + options.old_valid_for
    changed = rotated(record, secret, old_until_s=until_s, now_s=now_s)
    store.put(options.id, json.dumps(changed))
    _tell_secret(options, options.id, secret.key(options.id), changed)
    if not options.json:
        print(f"The old secret is good until {_moment(until_s)}, or until: scripts/keys rotate {options.id} --finish")


def _revoke(options: argparse.Namespace, store: RecordStore) -> None:
    if options.delete:
        store.delete(options.id)
    else:
        store.put(options.id, json.dumps(checked({**_stored(options.id, store), "disabled": True})))
    what = "deleted" if options.delete else "disabled"
    _tell(options, {"id": options.id, what: True}, f"{options.id} is {what}. {MINUTE_NOTE}")


def _tell_secret(options: argparse.Namespace, key_id: str, key: str, record: Record) -> None:
    if options.dry_run:
        return  # nobody has it
    if options.json:
        print(json.dumps({"id": key_id, "key": key, "record": record}))
    else:
        print(f"{key}\nShown this once. Its id is {key_id}, its tenant {record['tenant']}.")


def _tell(options: argparse.Namespace, facts: dict[str, Any], text: str) -> None:
    if not options.dry_run:
        print(json.dumps(facts) if options.json else text)


def _stored(key_id: str, store: RecordStore) -> Record:
    text = store.get(key_id)
    if text is None:
        raise Refused(f"There is no key {key_id}.")
    record = _parsed(text)
    if not isinstance(record.get("hashes"), list):
        raise Refused(f"The record of {key_id} is broken: revoke --delete it and create another key.")
    return record


def _parsed(text: str | None) -> Record:
    """What can't be read is an empty record, which lets nobody in."""
    try:
        parsed = json.loads(text or "{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _cells(record: Record, now_s: float) -> list[str]:
    limits, expires_s = record.get("limits") or {}, record.get("expires_at_s")
    said = [
        f"{limits[name]}{unit}"
        for name, unit in (("requests_per_minute", "/min"), ("concurrency", " at a time"))
        if name in limits
    ]
    budget = [
        f"{name} {_amount(value)}" for name, value in (record.get("budget") or {}).items() if name != "on_failure"
    ]
    return [
        str(record.get("tenant", "")),
        str(record.get("name", "")),
        state_of(record, now_s),
        ", ".join(map(str, record.get("scopes", ["infer"]))),
        ", ".join(map(str, record.get("models", ["all"]))),
        ", ".join([*said, *(["strict"] if limits.get("strict") else [])]),
        ", ".join(budget),
        _moment(expires_s) if isinstance(expires_s, int | float) else "",
    ]


def _amount(value: object) -> str:
    """Without an exponent, which nobody reads as money."""
    return f"{Decimal(str(value)):f}" if isinstance(value, int | float) else str(value)


def _moment(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/keys", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add("--url", default="http://127.0.0.1:8787", help="of scripts/dev (default: %(default)s)")
    add("--remote", action="store_true", help="the deployment of wrangler.toml, through wrangler")
    add("--dry-run", action="store_true", help="with --remote: show the calls that would write")
    add("--json", action="store_true", help="for programs")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, says: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=says, description=says, parents=[common])
        made.set_defaults(run=run)
        return made

    _add_record_options(command("create", _create, "make a key and show it once"))
    command("list", _list, "all keys").add_argument("--tenant", help="only of this one")
    command("show", _show, "one key's record").add_argument("id", type=_key_id)
    rotate = command("rotate", _rotate, "add a second secret and show it once; or --finish")
    rotate.add_argument("id", type=_key_id)
    rotate.add_argument(
        "--old-valid-for", type=_duration_s, default=86_400.0, metavar="24h", help="default: %(default).0f s"
    )
    rotate.add_argument("--finish", action="store_true", help="remove the older secret")
    revoke = command("revoke", _revoke, f"disable a key. {MINUTE_NOTE}")
    revoke.add_argument("id", type=_key_id)
    revoke.add_argument("--delete", action="store_true", help="remove the record instead")
    return parser


def _add_record_options(create: argparse.ArgumentParser) -> None:
    add = create.add_argument
    add("--tenant", required=True, help="whose key it is")
    add("--name", help="for listings")
    add("--scopes", type=_list_of, help="of infer,metrics,cache,admin (default: infer)")
    add("--models", type=_list_of, help="ids, prefixes as @cf/*, edge, cloud (default: every model)")
    add("--residency", help="area where its answers must be made, as eu")
    add("--expires", type=_duration_s, metavar="30d", help="from now on (default: never)")
    add("--requests-per-minute", "--rate", type=int, metavar="N")
    add("--concurrency", type=int, metavar="N", help="requests at a time")
    add("--strict", action="store_true", help="these two for the whole world, by a Durable Object")
    add(
        "--limits-on-failure",
        choices=["fail_open", "fail_closed"],
        help="when that can't be reached (default: fail_open)",
    )
    for name in ("usd-day", "usd-month"):
        add(f"--budget-{name}", type=float, metavar="USD")
    for name in ("tokens-day", "tokens-month"):
        add(f"--budget-{name}", type=int, metavar="N")
    add("--budget-on-failure", choices=["fail_open", "fail_closed"], help="(default: fail_closed)")


def _list_of(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _duration_s(text: str) -> float:
    match = re.fullmatch(r"(\d+)([mhdw])", text)
    if match is None or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 30d, 24h or 90m")
    return float(int(match[1]) * UNITS_S[match[2]])


def _key_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]{4,32}", text):
        raise argparse.ArgumentTypeError("only the id is wanted, the part between the two _ of nsk_<id>_<secret>")
    return text


if __name__ == "__main__":
    sys.exit(main())

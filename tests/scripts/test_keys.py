"""`scripts/keys`: the records that it writes, the wrangler calls that it makes, and that a secret is shown once."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from edge_router.auth import hash_secret
from edge_router.key_records import read_record
from scripts.keying.__main__ import main
from scripts.keying.records import Refused, new_secret, rotated, state_of

FAKE = Path(__file__).with_name("fake_wrangler.py")
DAY_S = 86_400


class Deployment:
    """A KV namespace that only the fake wrangler knows, and the tool's answers."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self._state = folder / "state.json"
        self._capture = capture
        self.set(calls=[], stdin=[], made=[], fails=[], kv={})

    def set(self, **facts: Any) -> None:
        before = json.loads(self._state.read_text()) if self._state.exists() else {}
        self._state.write_text(json.dumps({**before, **facts}))

    def __getitem__(self, name: str) -> Any:
        return json.loads(self._state.read_text())[name]

    def keys(self, *arguments: str, expect: int = 0) -> str:
        """What it prints."""
        code = main([*arguments, "--remote"])
        said = self._capture.readouterr()
        assert code == expect, said.err
        return said.err if code else said.out

    def create(self, *arguments: str) -> dict[str, Any]:
        made: dict[str, Any] = json.loads(self.keys("create", "--tenant", "acme", "--json", *arguments))
        return made

    def record(self, key_id: str) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self["kv"][f"key:{key_id}"])
        return record


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Deployment:
    program = tmp_path / "bin" / "wrangler"
    program.parent.mkdir()
    shutil.copy(FAKE, program)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_WRANGLER_STATE", str(tmp_path / "state.json"))
    return Deployment(tmp_path, capsys)


def test_least(deployment: Deployment) -> None:
    """A tenant is enough. The secret is in what is printed, its hash in what is stored, and it in no call."""
    made = deployment.create()
    secret = made["key"].split("_")[2]

    stored = deployment.record(made["id"])
    assert {name: stored[name] for name in ("tenant", "hashes")} == {"tenant": "acme", "hashes": [hash_secret(secret)]}
    assert set(stored) == {"tenant", "hashes", "created_at_s"}
    assert deployment["calls"] == [
        ["kv", "key", "put", f"key:{made['id']}", json.dumps(stored), "--binding", "KEYS", "--remote"]
    ]
    assert secret not in json.dumps([deployment["calls"], deployment["stdin"]])


def test_everything(deployment: Deployment) -> None:
    """Each option is the field of its name, and the gateway takes the record."""
    made = deployment.create(
        "--name", "reports", "--scopes", "infer,cache", "--models", "edge, gpt-4o*", "--residency", "eu",
        "--expires", "30d", "--requests-per-minute", "60", "--concurrency", "4", "--strict",
        "--limits-on-failure", "fail_closed", "--budget-usd-day", "5.5", "--budget-usd-month", "50",
        "--budget-tokens-day", "1000", "--budget-tokens-month", "9000", "--budget-on-failure", "fail_open",
    )  # fmt: skip
    stored = deployment.record(made["id"])

    read_record(json.dumps(stored))
    assert stored["limits"] == {
        "requests_per_minute": 60, "concurrency": 4, "strict": True, "on_failure": "fail_closed"
    }  # fmt: skip
    assert stored["budget"] == {
        "usd_day": 5.5, "usd_month": 50.0, "tokens_day": 1000, "tokens_month": 9000, "on_failure": "fail_open"
    }  # fmt: skip
    assert (stored["name"], stored["residency"]) == ("reports", "eu")
    assert (stored["scopes"], stored["models"]) == (["infer", "cache"], ["edge", "gpt-4o*"])
    assert abs(stored["expires_at_s"] - time.time() - 30 * DAY_S) < 60


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--scopes", "root"], "scopes", id="unknown scope"),
        pytest.param(["--residency", "Europe!"], "residency", id="no area"),
        pytest.param(["--strict"], "limits", id="strict without a limit"),
        pytest.param(["--requests-per-minute", "0"], "requests_per_minute", id="nothing may be asked"),
        pytest.param(["--budget-usd-day", "-1"], "budget", id="less than nothing"),
    ],
)
def test_record_that_the_gateway_would_not_take(deployment: Deployment, arguments: list[str], says: str) -> None:
    """Is not written; the reason names the field."""
    assert says in deployment.keys("create", "--tenant", "acme", *arguments, expect=1)
    assert deployment["calls"] == []


@pytest.mark.parametrize("text", ["30", "0d", "1y", "-1d", "soon"])
def test_time_that_is_none(deployment: Deployment, text: str) -> None:
    """A wrong argument, exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main(["create", "--tenant", "acme", "--expires", text])

    assert ended.value.code == 2


def test_list_and_show(deployment: Deployment) -> None:
    """Ids, tenants and states; never a secret."""
    made = deployment.create("--models", "edge", "--budget-usd-day", "0.00002")
    other = json.loads(deployment.keys("create", "--tenant", "other", "--json"))
    deployment.set(kv={**deployment["kv"], "key:broken": "{"})

    listed = json.loads(deployment.keys("list", "--json"))
    assert {each["id"]: each["state"] for each in listed} == {
        made["id"]: "active", other["id"]: "active", "broken": "broken"
    }  # fmt: skip
    assert [each["id"] for each in json.loads(deployment.keys("list", "--json", "--tenant", "other"))] == [other["id"]]
    assert json.loads(deployment.keys("show", made["id"]))["models"] == ["edge"]
    table = deployment.keys("list")
    assert made["id"] in table
    assert "0.00002" in table
    assert made["key"].split("_")[2] not in table


def test_rotation(deployment: Deployment) -> None:
    """Two secrets for a day, then the new one only."""
    made = deployment.create()
    again = json.loads(deployment.keys("rotate", made["id"], "--json"))
    old, new = (hash_secret(each["key"].split("_")[2]) for each in (made, again))

    stored = deployment.record(made["id"])
    assert [stored["hashes"][0]["sha256"], stored["hashes"][1]] == [old, new]
    assert abs(stored["hashes"][0]["expires_at_s"] - time.time() - DAY_S) < 60
    assert json.loads(deployment.keys("show", made["id"]))["state"] == "rotating"
    assert "--finish" in deployment.keys("rotate", made["id"], expect=1)

    deployment.keys("rotate", made["id"], "--finish")
    assert deployment.record(made["id"])["hashes"] == [new]


def test_rotation_whose_time_is_over() -> None:
    """The old secret makes room for the next; one that ends soon is not made to last."""
    record: dict[str, Any] = {
        "tenant": "acme",
        "hashes": [{"sha256": "0f" * 32, "expires_at_s": 50}, {"sha256": "1f" * 32, "expires_at_s": 150}],
    }
    secret = new_secret()

    assert rotated(record, secret, old_until_s=1000, now_s=100)["hashes"] == [
        {"sha256": "1f" * 32, "expires_at_s": 150}, secret.hash
    ]  # fmt: skip
    with pytest.raises(Refused):
        rotated(record, secret, old_until_s=1000, now_s=49)
    assert [state_of(record, now_s) for now_s in (0, 60, 200)] == ["rotating", "active", "expired"]


def test_revocation(deployment: Deployment) -> None:
    """Disables, or removes; and says how long it may take."""
    made = deployment.create()

    assert "after a minute" in deployment.keys("revoke", made["id"])
    assert deployment.record(made["id"])["disabled"] is True
    deployment.keys("revoke", made["id"], "--delete")
    assert deployment["kv"] == {}
    assert "There is no key" in deployment.keys("revoke", made["id"], expect=1)


def test_dry_run(deployment: Deployment) -> None:
    """Shows the exact call and makes none; no secret, because nothing would take it."""
    shown = deployment.keys("create", "--tenant", "acme", "--dry-run")

    assert shown.startswith("wrangler kv key put key:")
    assert shown.rstrip().endswith("--binding KEYS --remote")
    assert "nsk_" not in shown
    assert deployment["calls"] == []
    assert main(["list", "--dry-run"]) == 2


def test_account_that_can_not_be_reached(deployment: Deployment) -> None:
    """What wrangler said is told, and no secret is shown that nobody stored."""
    deployment.set(fails=["kv"])

    said = deployment.keys("create", "--tenant", "acme", expect=1)
    assert "Authentication error" in said
    assert "nsk_" not in said
    assert "Authentication error" in deployment.keys("show", "abcd", expect=1)


def test_no_local_stack(capsys: pytest.CaptureFixture[str]) -> None:
    """Says what is missing."""
    assert main(["list", "--url", "http://127.0.0.1:9"]) == 1
    assert "is scripts/dev running?" in capsys.readouterr().err

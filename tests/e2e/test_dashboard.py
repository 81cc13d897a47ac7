"""The dashboard in a real browser, after traffic from several emulated locations."""

import gzip
import json
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from scripts.local.stack import Address
from scripts.local.worker_spec import ROOT
from tests.e2e.conftest import PHONE, Screenshot

COLOS = ("CDG", "SIN", "GRU")
ASSETS = ROOT / "src" / "assets"
FIRST_LOAD_BYTES = 200_000


@pytest.fixture(scope="module")
def traffic(address: Address) -> None:
    """Two answers for each location, one of the edge and one of the cloud."""
    with httpx.Client(base_url=address.url, headers={"authorization": f"Bearer {address.key}"}, timeout=30) as client:
        for colo in COLOS:
            emulated = {
                "nearside-emulate-cf": json.dumps({"colo": colo, "clientTcpRtt": 20, "clientAcceptEncoding": ""})
            }
            for model in ("edge", "cloud"):
                body = {"model": model, "messages": [{"role": "user", "content": f"Hi from {colo}"}]}
                client.post("/v1/chat/completions", json=body, headers=emulated).raise_for_status()
        deadline_s = time.monotonic() + 15  # records are written after the answers
        while not set(COLOS) <= {group["key"] for group in client.get("/v1/metrics?by=colo").json()["groups"]}:
            assert time.monotonic() < deadline_s, "the metrics do not know the requests"
            time.sleep(0.1)


@pytest.mark.workerd
@pytest.mark.usefixtures("traffic")
@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_dashboard_after_traffic(page: Page, address: Address, screenshot: Screenshot, look: str) -> None:
    """A dot and a row for each location, lines to regions, shares by route; nothing is wider than the screen."""
    page.emulate_media(color_scheme="dark" if look == "dark" else "light")
    if look == "phone":
        page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    page.goto("/dashboard")

    page.get_by_label("Key with the scope").fill(address.key or "")
    page.get_by_role("button", name="Use", exact=True).click()

    for colo in COLOS:
        expect(page.locator("#colos tbody th", has_text=colo)).to_be_visible()
        expect(page.locator("#map circle title", has_text=colo)).to_have_count(1)
    expect(page.locator("#routes li", has_text="edge-model")).to_be_visible()
    expect(page.locator("#regions tbody tr")).not_to_have_count(0)
    expect(page.locator("#traffic canvas")).to_be_visible()
    width = page.evaluate("document.documentElement.scrollWidth")
    screenshot(page, f"dashboard-{look}")
    assert width <= (page.viewport_size or {"width": 0})["width"]


@pytest.mark.workerd
def test_dashboard_without_a_key(page: Page) -> None:
    """Says what is missing, and shows its frame all the same."""
    page.goto("/dashboard")

    expect(page.locator("#state")).to_contain_text("Put a key of this gateway into the field")
    expect(page.locator("#tiles > div")).to_have_count(8)


def test_first_load_is_small() -> None:
    """All that the dashboard may load, gzipped file by file, even where it shares files with the playground."""
    files = [ASSETS / "dashboard.html", *(path for path in (ASSETS / "ui").rglob("*") if path.suffix != ".txt")]

    assert sum(len(gzip.compress(path.read_bytes())) for path in files if path.is_file()) < FIRST_LOAD_BYTES


def test_vendored_files_are_those_of_the_locked_packages(tmp_path: Path) -> None:
    """`scripts/vendor` makes the committed files again, byte for byte."""
    subprocess.run([ROOT / "scripts" / "vendor", tmp_path], check=True)

    committed = ASSETS / "ui" / "vendor"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in committed.iterdir()
    }

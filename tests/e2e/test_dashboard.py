"""The dashboard in a real browser, after traffic from several emulated locations."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from playwright.sync_api import Page, expect

from scripts.local.stack import Address
from scripts.local.worker_spec import ROOT
from tests.e2e.checks import MOST_SHIFT, accessibility_violations, layout_shift
from tests.e2e.conftest import PHONE, Screenshot, emulated
from tests.edge.control import becomes_true

COLOS = ("CDG", "SIN", "GRU")
ASSETS = ROOT / "src" / "assets"
FIRST_LOAD_BYTES = 200_000


@pytest.fixture(scope="module")
def traffic(address: Address) -> None:
    """Two answers for each location, one of the edge and one of the cloud."""
    with httpx.Client(base_url=address.url, headers={"authorization": f"Bearer {address.key}"}, timeout=30) as client:
        for colo in COLOS:
            for model in ("edge", "cloud"):
                body = {"model": model, "messages": [{"role": "user", "content": f"Hi from {colo}"}]}
                client.post("/v1/chat/completions", json=body, headers=emulated(colo)).raise_for_status()

        def are_known() -> bool:
            return set(COLOS) <= {group["key"] for group in client.get("/v1/metrics?by=colo").json()["groups"]}

        assert becomes_true(are_known, within_s=15), "records are written after the answers, but soon"


def open_dashboard(page: Page, address: Address) -> None:
    page.goto("/dashboard")
    page.get_by_label("Key with the scope").fill(address.key or "")
    page.get_by_role("button", name="Use", exact=True).click()


def documented_alerts() -> Any:
    """The example in docs/alerts.md: one that is active, one that is resolved."""
    example = re.search(
        r"```json\n(\{\s*\"object\": \"alerts\".*?)```", (ROOT / "docs" / "alerts.md").read_text(), re.DOTALL
    )
    assert example is not None
    return json.loads(example.group(1))


@pytest.mark.workerd
@pytest.mark.usefixtures("traffic")
@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_dashboard_after_traffic(page: Page, address: Address, screenshot: Screenshot, look: str) -> None:
    """A dot and a row for each location, lines to regions, shares by route; nothing is wider than the screen."""
    page.emulate_media(color_scheme="dark" if look == "dark" else "light")
    if look == "phone":
        page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    open_dashboard(page, address)

    for colo in COLOS:
        expect(page.locator("#colos tbody th", has_text=colo)).to_be_visible()
        expect(page.locator("#map circle title", has_text=colo)).to_have_count(1)
    expect(page.locator("#routes li", has_text="edge-model")).to_be_visible()
    expect(page.locator("#regions tbody tr")).not_to_have_count(0)
    expect(page.locator("#traffic canvas")).to_be_visible()
    width, shift = page.evaluate("document.documentElement.scrollWidth"), layout_shift(page)
    screenshot(page, f"dashboard-{look}")
    assert width <= (page.viewport_size or {"width": 0})["width"]
    assert shift < MOST_SHIFT


@pytest.mark.workerd
def test_dashboard_without_a_key(page: Page) -> None:
    """Says what is missing, and shows its frame all the same."""
    page.goto("/dashboard")

    expect(page.locator("#state")).to_contain_text("Put a key of this gateway into the field")
    expect(page.locator("#tiles > div")).to_have_count(8)


@pytest.mark.workerd
def test_alerts(page: Page, address: Address, screenshot: Screenshot) -> None:
    """What is active first, then what lately was, each by its summary; the documented form."""
    alerts = documented_alerts()
    page.route("**/v1/alerts", lambda route: route.fulfill(json=alerts))
    open_dashboard(page, address)

    entries = page.locator("#alerts li")
    expect(entries).to_have_count(len(alerts["active"]) + len(alerts["resolved"]))
    expect(entries.first).to_have_class(alerts["active"][0]["severity"])
    expect(entries.first).to_contain_text(alerts["active"][0]["summary"])
    expect(entries.last).to_have_class("resolved")
    screenshot(page, "dashboard-alerts")


@pytest.mark.workerd
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param({"status": 404, "json": {}}, "does not serve this yet", id="not served"),
        pytest.param({"status": 503, "json": {"error": {"message": "Later."}}}, "Later.", id="failed"),
        pytest.param(
            {"json": {"object": "alerts", "evaluated_at_s": None, "active": [], "resolved": [], "rules": []}},
            "Not evaluated yet",
            id="not evaluated",
        ),
        pytest.param(
            {"json": {"object": "alerts", "evaluated_at_s": 1, "active": [], "resolved": [], "rules": []}},
            "None at",
            id="none",
        ),
    ],
)
def test_no_alerts(page: Page, address: Address, answer: dict[str, Any], says: str) -> None:
    """Says why there are none; the rest of the page goes on."""
    page.route("**/v1/alerts", lambda route: route.fulfill(**answer))
    open_dashboard(page, address)

    expect(page.locator("#alerts")).to_contain_text(says)
    expect(page.locator("#state")).to_contain_text("Updated")


@pytest.mark.workerd
@pytest.mark.usefixtures("traffic")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(page: Page, address: Address, scheme: Literal["light", "dark"]) -> None:
    """axe-core finds nothing, without figures and with them, alerts included; nothing moves for who wants no motion."""
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.route("**/v1/alerts", lambda route: route.fulfill(json=documented_alerts()))
    page.goto("/dashboard")
    expect(page.locator("#state")).to_contain_text("Put a key")
    assert accessibility_violations(page) == []

    open_dashboard(page, address)
    expect(page.locator("#colos tbody tr")).not_to_have_count(0)
    assert accessibility_violations(page) == []
    assert page.evaluate("document.getAnimations().length") == 0


@pytest.mark.workerd
@pytest.mark.usefixtures("traffic")
def test_first_load(page: Page, address: Address) -> None:
    """With its first figures it is small, asks no other host, and nothing moves. With -s it prints how small."""
    page.add_init_script(f"sessionStorage.setItem('nearside-key', '{address.key}')")
    page.set_extra_http_headers(emulated("SIN", accept_encoding="gzip"))
    hosts = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))

    page.goto("/dashboard")
    expect(page.locator("#colos tbody tr")).not_to_have_count(0)
    expect(page.locator("#map circle")).not_to_have_count(0)
    expect(page.locator("#traffic canvas")).to_be_visible()
    loaded = page.evaluate(
        """performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))
            .map(({name, transferSize, encodedBodySize, decodedBodySize}) =>
                ({name, transferSize, encodedBodySize, decodedBodySize}))"""
    )
    first_content_ms = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")

    transferred = sum(each["transferSize"] for each in loaded)
    print(f"first load: {len(loaded)} requests, {transferred} bytes, first content after {first_content_ms:.0f} ms")
    assert hosts == {address.url.split("/")[2]}
    assert any(each["encodedBodySize"] < each["decodedBodySize"] for each in loaded)  # gzip was on
    assert transferred < FIRST_LOAD_BYTES
    assert layout_shift(page) < MOST_SHIFT


def test_vendored_files_are_those_of_the_locked_packages(tmp_path: Path) -> None:
    """`scripts/vendor` makes the committed files again, byte for byte."""
    subprocess.run([ROOT / "scripts" / "vendor", tmp_path], check=True)

    committed = ASSETS / "ui" / "vendor"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in committed.iterdir()
    }

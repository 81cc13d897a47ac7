"""One local stack and one browser for the tests of the pages."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from scripts.local.stack import Address, running_stack
from scripts.local.worker_spec import ROOT
from tests.e2e.browser import running_browser
from tests.e2e.other_site import running_site

SCREENSHOTS = ROOT / "build" / "screenshots"  # output to be looked at, never committed
DESKTOP, PHONE = (1280, 860), (390, 844)
PATIENCE_MS = 15_000

Screenshot = Callable[[Page, str], Path]


def emulated(colo: str, *, accept_encoding: str = "") -> dict[str, str]:
    """Headers of somebody 12 ms from a location. accept_encoding: what is compressed for them."""
    return {
        "nearside-emulate-cf": json.dumps({"colo": colo, "clientTcpRtt": 12, "clientAcceptEncoding": accept_encoding})
    }


@pytest.fixture(scope="package")
def other_port() -> Iterator[int]:
    """Of a site at 127.0.0.1 whose pages may ask the gateway."""
    with running_site() as port:
        yield port


@pytest.fixture(scope="package")
def address(other_port: int) -> Iterator[Address]:
    """The stack with keys; nothing is kept in memory, so that each answer is what its test asked for. A look-up has
    time, because a busy machine is no fault.
    """
    variables = {"MEMORY_CACHE_MIB": 0, "CACHE_TIMEOUT_S": 2, "CORS_ORIGINS": f"http://127.0.0.1:{other_port}"}
    with running_stack(auth="keys", variables=variables) as (_, address):
        yield address


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Gone before another folder begins: while it runs, so does Playwright's event loop, and async tests can't."""
    expect.set_options(timeout=PATIENCE_MS)  # which has another default than the page below
    with running_browser() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, address: Address) -> Iterator[Page]:
    """A page in a fresh profile, of somebody near Singapore. Fails the test for anything on the console."""
    context = browser.new_context(
        base_url=address.url,
        locale="en-GB",  # else this Chromium says `en-US@posix`, which is no language tag
        viewport={"width": DESKTOP[0], "height": DESKTOP[1]},
        extra_http_headers=emulated("SIN"),
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    yield page
    context.close()
    expected = [text for text in problems if text.startswith("Failed to load resource: the server responded with")]
    assert [text for text in problems if text not in expected] == []


@pytest.fixture
def screenshot() -> Screenshot:
    def take(page: Page, name: str) -> Path:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        page.screenshot(path=path, full_page=True)
        return path

    return take

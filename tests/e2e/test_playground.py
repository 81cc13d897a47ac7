"""The playground in a real browser, on the real Worker."""

import httpx
import pytest
from playwright.sync_api import Page, expect

from scripts.local.stack import Address
from tests.e2e.conftest import PHONE, Screenshot

pytestmark = pytest.mark.workerd

SHIFTS = """() => new Promise((resolve) => new PerformanceObserver((list, observer) => {
  observer.disconnect();
  resolve(list.getEntries().reduce((sum, entry) => sum + entry.value, 0));
}).observe({type: 'layout-shift', buffered: true}) || setTimeout(() => resolve(0), 300))"""


def open_playground(page: Page, address: Address, prompt: str = "What is the capital of France?") -> None:
    page.goto("/")
    page.get_by_label("Question", exact=True).fill(prompt)
    page.get_by_label("API key").fill(address.key or "")


def fact(page: Page, label: str) -> str:
    """What the badge says under a label."""
    return page.locator(".badge > div", has=page.locator(f"dt:text-is('{label}')")).locator("dd").inner_text()


def test_ask_and_stream(page: Page, address: Address, screenshot: Screenshot) -> None:
    """The answer streams in; the badge and the waterfall tell where it came from and how long it took."""
    open_playground(page, address)

    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".state")).to_contain_text("done")

    assert len(page.locator(".text").inner_text()) > 20
    assert (fact(page, "Colo"), fact(page, "Your RTT")) == ("SIN", "12 ms")
    assert fact(page, "Served by") == "edge-model"
    assert fact(page, "TTFT").endswith("ms")
    assert fact(page, "Cost").startswith("$")
    assert {"decide", "ai", "total", "browser"} <= set(page.locator(".bar > span:first-child").all_inner_texts())
    screenshot(page, "playground")


def test_text_appears_before_the_answer_is_complete(page: Page, address: Address) -> None:
    """Half a stream is readable while the other half is still to come."""
    open_playground(page, address, "Tell me a long story about a lighthouse")
    httpx.post(f"{address.control_url}/latency", json={"target": "ai", "ttft_ms": 50, "itl_ms": 60}).raise_for_status()

    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".state")).to_have_text("streaming")
    begun = page.locator(".text").inner_text()
    page.get_by_role("button", name="Stop").click()
    httpx.post(f"{address.control_url}/latency", json={"target": "ai", "ttft_ms": 0, "itl_ms": 0}).raise_for_status()

    expect(page.locator(".state")).to_have_text("stopped")
    assert begun


def test_error_is_shown(page: Page, screenshot: Screenshot) -> None:
    """Without a key: what is wrong, its code, and what to do, where it is read out."""
    page.goto("/")

    page.get_by_role("button", name="Ask").click()

    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("401")
    expect(alert).to_contain_text("Put a key of this gateway into the field")
    expect(page.locator(".state")).to_have_text("failed")
    screenshot(page, "playground-error")


def test_side_by_side(page: Page, address: Address, screenshot: Screenshot) -> None:
    """The same prompt on the edge and in the cloud, each with its own report."""
    open_playground(page, address)

    page.get_by_label("Edge and cloud, side by side").check()
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".state[data-state=done]")).to_have_count(2)

    assert page.locator("dd[data-served]").all_inner_texts() == ["edge-model", "cloud"]
    screenshot(page, "playground-side-by-side")


def test_copied_request_runs(page: Page, address: Address) -> None:
    """What is copied is the request on the screen, without the key."""
    open_playground(page, address, "It's a test")
    page.get_by_label("Cache").select_option("off")

    page.get_by_role("button", name="Python").click()
    expect(page.get_by_role("status").filter(has_text="Copied python")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")

    compile(copied, "copied.py", "exec")
    assert "It's a test" in copied
    assert "'use_cache': False" in copied.replace('"', "'")
    assert str(address.key) not in copied


def test_key_is_kept_in_the_tab_alone(page: Page, address: Address) -> None:
    """It survives a reload in sessionStorage, and is nowhere else."""
    open_playground(page, address)

    page.reload()

    expect(page.get_by_label("API key")).to_have_value(address.key or "")
    assert page.evaluate("localStorage.length + document.cookie.length") == 0


def test_keyboard_alone(page: Page, address: Address) -> None:
    """Ctrl + Enter in the question asks."""
    open_playground(page, address)

    page.get_by_label("Question", exact=True).press("Control+Enter")

    expect(page.locator(".state")).to_contain_text("done")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone(page: Page, address: Address, screenshot: Screenshot, scheme: str) -> None:
    """Nothing is wider than the screen, and nothing moves when the answer arrives."""
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    open_playground(page, address)

    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".state")).to_contain_text("done")

    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    assert page.evaluate(SHIFTS) < 0.1
    screenshot(page, f"playground-phone-{scheme}")


def test_page_is_locked_down(address: Address) -> None:
    """Pages carry the edge report and a strict policy; what they load is not to be sniffed."""
    with httpx.Client(base_url=address.url) as client:
        page, script = client.get("/"), client.get("/ui/playground.js")

    assert page.headers["nearside-colo"] == "DFW"
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert (page.headers["content-type"], page.headers["x-frame-options"]) == ("text/html; charset=utf-8", "DENY")
    assert script.headers["x-content-type-options"] == "nosniff"
    assert script.headers["content-type"].startswith("text/javascript")

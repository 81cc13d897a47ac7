"""A web app of another origin asks the gateway from the browser, with the official openai client."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page

from scripts.local.stack import Address

pytestmark = pytest.mark.workerd

CLIENT = "const client = new OpenAI({baseURL: `${url}/v1`, apiKey: key, dangerouslyAllowBrowser: true, maxRetries: 0});"
MESSAGES = "messages: [{role: 'user', content: 'Hello from another origin'}]"

PLAIN = f"""async ({{url, key}}) => {{
  {CLIENT}
  const {{data, response}} = await client.chat.completions.create({{model: 'edge', {MESSAGES}}}).withResponse();
  return {{text: data.choices[0].message.content, headers: Object.fromEntries(response.headers)}};
}}"""

STREAM = f"""async ({{url, key}}) => {{
  {CLIENT}
  const {{data, response}} = await client.chat.completions.create(
    {{model: 'edge', stream: true, {MESSAGES}}}, {{headers: {{'nearside-use-cache': 'false'}}}}).withResponse();
  let text = '', report;
  for await (const chunk of data) {{
    text += chunk.choices[0]?.delta?.content ?? '';
    report = chunk.nearside ?? report;
  }}
  return {{text, report, headers: Object.fromEntries(response.headers)}};
}}"""

REFUSED = f"""async ({{url}}) => {{
  const key = 'nsk_abcd_wrong';
  {CLIENT}
  const error = await client.models.list().catch((error) => error);
  return {{status: error.status, code: error.code, headers: Object.fromEntries(error.headers)}};
}}"""

# The browser notes a resource a moment after the page has its answer.
SERVER_TIMING = """async (path) => {
  for (let tries = 0; tries < 50; tries++) {
    const entry = performance.getEntriesByType('resource').findLast(({name}) => name.endsWith(path));
    if (entry?.responseEnd) return entry.serverTiming.map(({name, duration}) => [name, duration]);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}"""


@pytest.fixture
def app(browser: Browser, other_port: int) -> Iterator[Page]:
    """The page that CORS_ORIGINS lists, loaded."""
    context = browser.new_context(base_url=f"http://127.0.0.1:{other_port}")
    page = context.new_page()
    page.goto("/")
    page.wait_for_function("() => Boolean(window.OpenAI)")
    yield page
    context.close()


def call(page: Page, script: str, address: Address) -> dict[str, Any]:
    result: dict[str, Any] = page.evaluate(script, {"url": address.url, "key": address.key})
    return result


def test_plain_answer(app: Page, address: Address) -> None:
    """The client's headers pass the preflight, and the page reads the whole report from ours."""
    answer = call(app, PLAIN, address)

    assert answer["text"]
    assert {"nearside-colo", "nearside-client-rtt-ms", "nearside-model", "server-timing", "cache-status"} <= set(
        answer["headers"]
    )
    assert answer["headers"]["nearside-served-by"] == "edge-model"


def test_stream(app: Page, address: Address) -> None:
    """Headers before the first content, the whole report on the last chunk."""
    answer = call(app, STREAM, address)

    assert answer["text"]
    assert answer["headers"]["nearside-tier"].startswith("edge-")
    assert answer["report"]["timings_ms"]["total"] > 0


def test_refusal(app: Page, address: Address) -> None:
    """An error is an answer that the page can read, not a failed fetch."""
    error = call(app, REFUSED, address)

    assert (error["status"], error["code"]) == (401, "invalid_api_key")
    assert error["headers"]["x-request-id"].startswith("req_")


def test_server_timing_of_another_origin(app: Page, address: Address) -> None:
    """The browser parses every part: it is what its developer tools show."""
    call(app, PLAIN, address)

    parts = dict(app.evaluate(SERVER_TIMING, "/v1/chat/completions"))

    assert {"auth", "cache", "total"} <= set(parts)
    assert parts["total"] > 0


def test_server_timing_of_the_same_origin(page: Page, address: Address) -> None:
    """Of the playground's own request, a stream: what was known when its headers left."""
    page.goto("/")
    page.get_by_label("API key").fill(address.key or "")
    page.get_by_label("Question", exact=True).fill("How long does each part take?")

    page.get_by_role("button", name="Ask").click()
    page.locator(".state[data-state=done]").wait_for()

    assert {"auth", "cache"} <= set(dict(page.evaluate(SERVER_TIMING, "/v1/chat/completions")))


def test_page_that_is_not_listed(browser: Browser, address: Address, other_port: int) -> None:
    """The browser keeps the answer from it: its preflight finds no leave."""
    context = browser.new_context(base_url=f"http://localhost:{other_port}")
    page = context.new_page()
    page.goto("/")
    page.wait_for_function("() => Boolean(window.OpenAI)")

    error = page.evaluate(
        f"async ({{url, key}}) => {{ {CLIENT} try {{ await client.models.list(); }} "
        "catch (error) { return error.constructor.name; } }",
        {"url": address.url, "key": address.key},
    )

    assert error.endswith("APIConnectionError")
    context.close()


def test_preflight_reaches_the_worker(address: Address, other_port: int) -> None:
    """On every path that a page may ask, `/` among them, which is a page as well; the assets do not answer it."""
    asked = {"origin": f"http://127.0.0.1:{other_port}", "access-control-request-method": "POST"}
    with httpx.Client(base_url=address.url, headers=asked) as client:
        for path in ("/", "/v1/chat/completions", "/v1/models/auto"):
            reply = client.options(path)
            assert (reply.status_code, reply.content) == (204, b"")
            assert reply.headers["access-control-allow-origin"] == asked["origin"]
            assert reply.headers["nearside-colo"]

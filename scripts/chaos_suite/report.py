"""What a run found, for a terminal."""

from rich.console import Console
from rich.table import Table

from scripts.chaos_suite.run import Outcome


def show(outcome: Outcome, console: Console) -> None:
    """The outcomes of the requests, the sums, and every kind of violation with examples."""
    record = outcome.record
    requests = Table("became of them", "requests", title=f"{record.requests} requests in {outcome.seconds:.0f} s")
    for name, count in record.outcomes.most_common():
        requests.add_row(name, str(count))
    console.print(requests)
    facts = Table("what", "found", show_header=False)
    facts.add_row("actions", f"{sum(outcome.actions.values())} ({len(outcome.actions)} kinds)")
    facts.add_row("took", ", ".join(f"{name} {took_s:.2f} s" for name, took_s in record.percentiles_s().items()))
    for reason in outcome.skipped:
        facts.add_row("skipped", reason)
    facts.add_row("workerd's memory", f"{outcome.memory_before >> 20} MiB, at the end {outcome.memory_after >> 20} MiB")
    facts.add_row("the isolate held", f"{outcome.held_before}, at the end {outcome.held_after}")
    if outcome.ledger:
        month = outcome.ledger["month"]
        told = outcome.ledger["told_nano_usd"] / 1e9
        told_text = f"${told:.9f} told to callers, {outcome.ledger['unknown']} requests of it were cut off"
        facts.add_row("ledger", f"${month['spent_usd']:.9f} spent, ${month['reserved_usd']:.9f} reserved; {told_text}")
    facts.add_row("violations", str(outcome.violations))
    console.print(facts)
    if record.broken:
        broken = Table("violation", "times", title="against the contract")
        for phrase, count in record.broken.most_common():
            broken.add_row(phrase, str(count))
        console.print(broken)
        for example in record.examples:
            console.print(f"  {example}", markup=False)

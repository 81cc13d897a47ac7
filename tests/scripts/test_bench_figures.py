"""What scripts/bench makes of its samples."""

import json

import pytest

from scripts.benchmarks.figures import Figure, Sample, figure, markdown_table, ratio
from scripts.benchmarks.workerd_cases import CHAT, SDK_HELLO, Case, workerd_cases, workerd_servers


def sample(requests_per_s: float, cpu_ms: float = 1.0) -> Sample:
    return Sample(requests_per_s, p50_ms=2.0, p99_ms=5.0, cpu_ms=cpu_ms, rss_mib=300.0)


def test_figure() -> None:
    """One slow round moves the spread, not the figure."""
    assert figure([100.0, 10.0, 90.0]) == Figure(median=90.0, least=10.0, most=100.0)


def test_ratio_is_taken_round_by_round() -> None:
    """A moment in which the machine was slow hits the floor as well, and so does not count."""
    floor = [sample(1000.0), sample(500.0), sample(1000.0)]
    samples = [sample(400.0), sample(200.0), sample(400.0)]

    assert ratio(samples, floor) == Figure(0.4, 0.4, 0.4)


def test_markdown_table() -> None:
    """One row a case in the given order, medians first and the spread behind them."""
    samples = {"hit": [sample(400.0)] * 3, "hello": [sample(1000.0), sample(900.0), sample(1100.0)]}

    lines = markdown_table({"hello": "Hello", "hit": "A hit"}, samples, floor="hello").splitlines()

    assert [line.split(" | ")[:3] for line in lines[2:]] == [
        ["| Hello", "1,000 (900–1,100)", "1.00 (1.00–1.00)"],
        ["| A hit", "400 (400–400)", "0.40 (0.36–0.44)"],
    ]


def test_cases() -> None:
    """The floor comes first, each case has its server, and what claims to be a hit is a chat of about 200 bytes."""
    cases = workerd_cases()
    servers = {server["name"] for server in workerd_servers()["servers"]}

    assert cases[0].name == SDK_HELLO
    assert {case.server for case in cases} <= servers
    assert 150 <= len(CHAT) <= 250
    assert {case.body for case in cases if case.needs_hit} == {CHAT}


@pytest.mark.parametrize("case", workerd_cases(), ids=lambda case: case.name)
def test_every_case_carries_a_place(case: Case) -> None:
    """The floors get the same `request.cf` as we do, so that the comparison is fair."""
    assert json.loads(case.headers["MF-CF-Blob"])["colo"] == "CDG"

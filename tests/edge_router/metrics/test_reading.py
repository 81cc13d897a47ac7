"""What several locations saw, merged."""

from edge_router.metrics.cells import MAX_MODELS, Cell
from edge_router.metrics.reading import merged_groups
from edge_router.metrics.shard import View


def requests(count: int) -> Cell:
    cell = Cell()
    cell.count("requests", count)
    return cell


def test_models_of_many_locations() -> None:
    """Each location may have other models: together the rarest become `other`, and no request is lost."""
    views = {
        f"C{colo:02}": View(groups={f"m{colo}-{place}": requests(1 + colo) for place in range(30)}) for colo in range(4)
    }
    groups = merged_groups(views, "model")

    assert len(groups) == MAX_MODELS + 1
    assert sum(cell.counts["requests"] for cell in groups.values()) == 30 * (1 + 2 + 3 + 4)
    assert {f"m3-{place}" for place in range(30)} <= set(groups)


def test_same_model_at_many_locations() -> None:
    """Is one group."""
    views = {colo: View(groups={"m": requests(2)}) for colo in ("CDG", "NRT")}

    assert {key: cell.counts["requests"] for key, cell in merged_groups(views, "model").items()} == {"m": 4}
    assert set(merged_groups(views, "colo")) == {"CDG", "NRT"}

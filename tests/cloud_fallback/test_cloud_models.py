"""The catalog answers for exact ids and wildcards, and a broken file stops the start."""

from pathlib import Path

import pytest

from cloud_fallback import models
from cloud_fallback.errors import ConfigError, ModelNotFound
from cloud_fallback.models import load_catalog

SHIPPED = Path(models.__file__).with_name("models.toml")
REST = 'tier = "cloud-fast"\ncontext_window_tokens = 8\ninput_usd_per_million = 0.0\noutput_usd_per_million = 1\n'

UPSTREAM = '[[upstreams]]\nid = "x"\nbase_url = "{}"\n'


def entry(line: str, rest: str = REST) -> str:
    return f"[[models]]\n{line}\n{rest}"


def test_shipped_file() -> None:
    """Two chat models and an embedder ship, with their published prices."""
    small, large, embedder = load_catalog(SHIPPED).models()

    assert (small.id, small.entry.tier, small.entry.input_usd_per_million) == ("gpt-4o-mini", "cloud-fast", 0.15)
    assert (large.id, large.entry.tier, large.entry.output_usd_per_million) == ("gpt-4o", "cloud-quality", 10)
    assert embedder.entry.batching is not None
    assert large.to_body()["object"] == "model"
    assert "upstreams" not in large.to_body()
    assert large.cost_usd(1_000_000, 100_000) == 3.5


def test_find(tmp_path: Path) -> None:
    """An exact id wins over wildcards, the longest prefix over shorter ones; wildcards are not listed."""
    file = tmp_path / "models.toml"
    lines = ['id = "sim-*"', 'id = "sim-slow-*"', 'id = "sim-a"\nupstream_id = "b"']
    file.write_text("".join(entry(line) for line in lines))
    catalog = load_catalog(file)

    assert catalog.find("sim-a").upstream_id == "b"
    assert catalog.find("sim-x").upstream_id == "sim-x"
    assert catalog.find("sim-slow-3").entry.id == "sim-slow-*"
    assert [model.id for model in catalog.models()] == ["sim-a"]
    with pytest.raises(ModelNotFound):
        catalog.find("other")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param("[[models", "models.toml", id="not toml"),
        pytest.param("", "[[models]]", id="empty"),
        pytest.param("models = [1]", "entry 1 (1)", id="no table"),
        pytest.param("x = 1\n" + entry('id = "a"'), "nothing else", id="unknown key at the top"),
        pytest.param(entry('id = "a"', rest=""), "entry 1 ('a'): tier: Field required", id="missing"),
        pytest.param(entry('id = "a"\ncolour = 1'), "entry 1 ('a'): colour", id="unknown key"),
        pytest.param(entry('id = "a b"'), "entry 1 ('a b'): id", id="id"),
        pytest.param(entry('id = "a"') + entry('id = "a"'), "entry 2 ('a'): this id", id="twice"),
        pytest.param(entry('id = "a*"\nupstream_id = "b"'), "wildcard", id="wildcard with a name"),
        pytest.param(entry('id = "a"\nupstreams = ["x"]'), "there is no upstream 'x'", id="unknown upstream"),
        pytest.param(entry('id = "a"\nfallbacks = ["x"]'), "there is no model 'x'", id="unknown fallback"),
        pytest.param(UPSTREAM.format("ftp://a") + entry('id = "a"'), "upstreams entry 1 ('x'): base_url", id="address"),
        pytest.param(UPSTREAM.format("https://a?key=1") + entry('id = "a"'), "no user, query", id="key in the address"),
    ],
)
def test_broken_file(text: str, named: str, tmp_path: Path) -> None:
    """One line that names the entry."""
    file = tmp_path / "models.toml"
    file.write_text(text)

    with pytest.raises(ConfigError) as caught:
        load_catalog(file)

    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    """A path that leads nowhere is named."""
    with pytest.raises(ConfigError, match=r"gone\.toml"):
        load_catalog(tmp_path / "gone.toml")

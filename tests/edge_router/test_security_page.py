"""docs/security.md: what it names exists. And what it says of the deployed code is so."""

import json
import re
from pathlib import Path

import pytest

from scripts.audit import npm_packages_without_checksum, python_packages_without_checksum, secrets_in

ROOT = Path(__file__).resolve().parents[2]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs" / "security.md").read_text())))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_named_test_exists(path: str, name: str) -> None:
    """When a test is renamed, the page is to be mended."""
    assert re.search(rf"^(?:async )?(?:def|class) {name}\b", (ROOT / path).read_text(), re.MULTILINE) or not name


def test_page_names_tests() -> None:
    assert len(NAMED) > 20


def test_local_helpers_are_not_deployed() -> None:
    """scripts/stage copies src and edge_router alone; neither knows the emulators, their header or scripts/."""
    staged = [path for folder in ("src", "edge_router") for path in (ROOT / folder).rglob("*.py")]

    found = [path for path in staged if re.search(r"nearside-emulate|scripts\.local|import scripts", path.read_text())]

    assert len(staged) > 100
    assert found == []


def test_package_without_checksum_is_found() -> None:
    """One that is not from a registry too."""
    source = {"registry": "https://pypi.org/simple"}
    packages = [
        {"name": "good", "version": "1", "source": source, "wheels": [{"hash": "sha256:00"}]},
        {"name": "bare", "version": "1", "source": source, "wheels": [{"url": "https://pypi.org/bare"}]},
        {"name": "elsewhere", "version": "1", "source": {"git": "https://forge.test/elsewhere"}},
        {"name": "nearside", "source": {"virtual": "."}},
    ]
    modules = {"": {}, "node_modules/good": {"integrity": "sha512-00"}, "node_modules/bare": {}}

    assert list(python_packages_without_checksum({"package": packages})) == ["bare 1", "elsewhere 1"]
    assert list(npm_packages_without_checksum({"packages": modules})) == ["node_modules/bare"]


def test_secret_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its form, with its place, and not what it is."""
    monkeypatch.setattr("scripts.audit.ROOT", tmp_path)
    leak, clean = tmp_path / "leak.py", tmp_path / "clean.py"
    leak.write_text(f"\nKEY = {json.dumps('ghp_' + 'aB3d' * 9)}\n")
    clean.write_text("password = 'correct horse'\n")

    assert list(secrets_in([leak, clean])) == ["leak.py:2 GitHub Token"]

"""Imports point inward: `src -> edge_router <- cloud_fallback`."""

import ast
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RUNTIME = {"js", "pyodide", "workers"}
CLOUD = {"cloud_fallback", "fastapi", "starlette", "uvicorn", "httpx"}
OF_SRC = {"src", "adapters", "entry"}


def modules(folder: str) -> Sequence[object]:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in sorted((ROOT / folder).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """Top-level names of everything a module imports, inside functions too."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("module", modules("edge_router"))
def test_module_of_the_core(module: Path) -> None:
    """Runs on plain CPython: no Workers, Pyodide, web framework, adapter or service code."""
    assert imported(module).isdisjoint(RUNTIME | CLOUD | OF_SRC)


@pytest.mark.parametrize("module", modules("cloud_fallback"))
def test_module_of_the_cloud(module: Path) -> None:
    """Knows nothing of the Worker."""
    assert imported(module).isdisjoint(RUNTIME | OF_SRC)


@pytest.mark.parametrize("module", modules("src"))
def test_module_of_the_worker(module: Path) -> None:
    """Knows nothing of the cloud's service, nor of what only that has installed."""
    assert imported(module).isdisjoint(CLOUD)


@pytest.mark.parametrize("module", modules("edge_router"))
def test_relative_import_of_the_core(module: Path) -> None:
    """Never leaves the package."""
    levels = [node.level for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.ImportFrom)]

    assert max(levels, default=0) <= len(module.relative_to(ROOT / "edge_router").parts)

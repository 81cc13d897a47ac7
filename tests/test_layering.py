"""Imports point inward: `src -> edge_router <- cloud_fallback`."""

import ast
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RUNTIME = {"js", "pyodide", "workers"}
CLOUD = {"cloud_fallback", "fastapi", "starlette", "uvicorn", "httpx"}
OF_SRC = {"src", "adapters", "entry"}
CLIENT = ROOT / "edge_router" / "client"  # what callers use: it does I/O, and is no part of the Worker


def modules(folder: str) -> Sequence[object]:
    paths = sorted((ROOT / folder).rglob("*.py"))
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths if CLIENT not in path.parents]


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


@pytest.mark.parametrize("module", [*modules("edge_router"), *modules("src")])
def test_worker_without_client(module: Path) -> None:
    """The Worker has no folder of that name (scripts/stage), so nothing in it may ask for one."""
    nodes = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.ImportFrom)]

    assert not [node.module for node in nodes if (node.module or "").removeprefix("edge_router.").startswith("client")]


@pytest.mark.parametrize("module", sorted(CLIENT.glob("*.py")), ids=lambda path: path.name)
def test_module_of_the_client(module: Path) -> None:
    """Needs httpx and tenacity; of the core, only the decoder of event streams."""
    nodes = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.ImportFrom)]
    of_core = {node.module for node in nodes if (node.module or "").startswith("edge_router")}

    assert of_core <= {"edge_router.sse"}
    assert imported(module).isdisjoint(RUNTIME | OF_SRC | CLOUD - {"httpx"})


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


@pytest.mark.parametrize("module", modules("edge_router"))
def test_deadlines_of_the_core(module: Path) -> None:
    """Go through edge_router/timers.py: asyncio's timers are not taken back on Pyodide (docs/decisions/0008)."""
    named = {ast.unparse(node) for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Attribute)}

    assert named.isdisjoint({"asyncio.timeout", "asyncio.timeout_at", "asyncio.wait_for", "asyncio.sleep"})


def test_no_cycles_between_modules() -> None:
    """Within each package every module can be read before those that import it."""
    for folder in ("edge_router", "cloud_fallback"):
        graph = {_name(path): _own_imports(path, folder) for path in (ROOT / folder).rglob("*.py")}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as exc:
            pytest.fail(" -> ".join(exc.args[1]))


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _own_imports(path: Path, folder: str) -> set[str]:
    """Modules of the same package that are imported at import time; those inside functions come later."""
    package = _name(path) if path.name == "__init__.py" else _name(path).rpartition(".")[0]
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.ImportFrom):
            continue
        base = package.split(".")[: len(package.split(".")) - (node.level - 1)] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        if module.split(".")[0] != folder:
            continue
        for alias in node.names:
            inner = f"{module}.{alias.name}"
            is_module = (ROOT / (inner.replace(".", "/") + ".py")).exists() or (ROOT / inner.replace(".", "/")).is_dir()
            found.add(inner if is_module else module)
    return found - {_name(path)}


LONG_LINES = 60


@pytest.mark.parametrize("folder", ["edge_router", "src", "cloud_fallback", "scripts"])
def test_long_functions_say_why(folder: str) -> None:
    """By a comment that begins with `# Long:`, on the line before."""
    silent = []
    for path in (ROOT / folder).rglob("*.py"):
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            is_long = (node.end_lineno or 0) - node.lineno >= LONG_LINES
            if is_long and not lines[node.lineno - 2].strip().startswith("# Long:"):
                silent.append(f"{path.relative_to(ROOT)}: {node.name}")

    assert not silent

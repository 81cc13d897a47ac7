"""docs/errors.md has every error code that the code can send, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from edge_router.requests import ERROR_CODES

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "errors.md"


def _modules() -> Iterator[ast.Module]:
    for folder in ("edge_router", "src", "cloud_fallback"):
        for path in (ROOT / folder).rglob("*.py"):
            yield ast.parse(path.read_text())


def _written_codes() -> set[str]:
    """Of every `code="…"` in a call, and every error class's `code = "…"`."""
    codes: set[str] = set()
    for node in (node for module in _modules() for node in ast.walk(module)):
        if isinstance(node, ast.keyword) and node.arg == "code":
            values = [node.value]
        elif isinstance(node, ast.ClassDef):
            values = [
                statement.value
                for statement in node.body
                if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "code"
            ]
        else:
            continue
        codes |= {value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)}
    return codes | set(ERROR_CODES.values())


def _listed_codes() -> list[str]:
    """Of the first column of each table."""
    cells = re.findall(r"^\| (`[a-z_`, ]+`) \|", PAGE.read_text(), re.MULTILINE)
    return [code for cell in cells for code in re.findall(r"`([a-z_]+)`", cell)]


def test_list_and_code_are_equal() -> None:
    """A code that is not explained, or explained but never sent, fails here."""
    written, listed = _written_codes(), _listed_codes()

    assert sorted(written - set(listed)) == []
    assert sorted(set(listed) - written) == []
    assert len(listed) == len(set(listed))

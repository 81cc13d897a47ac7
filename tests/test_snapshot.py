"""A deployed Worker starts from a snapshot of its memory after import, which can't hold JavaScript objects."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

IMPORT = """
import sys
from types import ModuleType


class Global:
    '''Stands for what `from js import …` gives, by whose path from globalThis a snapshot finds it again.'''

    def __init__(self, name):
        self._name = name

    def __call__(self, *args, **options):
        raise SystemExit(f"{self._name} was called at import")

    def __getattr__(self, name):
        if name in ("new", "bind", "call", "apply"):
            raise SystemExit(f"{self._name}.{name} was used at import")
        return Global(f"{self._name}.{name}")


def stand_in(name, **known):
    module = ModuleType(name)
    module.__dict__.update(known)
    module.__getattr__ = lambda attribute: Global(f"{name}.{attribute}")
    sys.modules[name] = module


stand_in("js")
stand_in("pyodide", __path__=[])
stand_in("pyodide.ffi", JsException=type("JsException", (Exception,), {}), JsProxy=type("JsProxy", (), {}))
stand_in("workers", DurableObject=type("DurableObject", (), {}), WorkerEntrypoint=type("WorkerEntrypoint", (), {}))
import entry
"""


def test_nothing_of_javascript_is_made_at_import() -> None:
    """All that the Worker imports only looks JavaScript's globals up: it calls none, and makes no proxy."""
    made = subprocess.run(
        [sys.executable, "-c", IMPORT],
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (made.returncode, made.stderr) == (0, "")

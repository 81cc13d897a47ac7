"""Builds workerd's Pyodide bundle from npm's `pyodide`, so that Python Workers start without Cloudflare's network.

workerd downloads this bundle on its first start. With the compatibility flag `python_workers_development`
it reads `pyodide_dev.capnp.bin` from its `--pyodide-bundle-disk-cache-dir` instead. The file is one Cap'n
Proto message (workerd's `src/workerd/jsg/modules.capnp`): the WebAssembly, the standard library and
Emscripten's JavaScript, in which calls that workerd forbids are redirected to what workerd offers for them.

    python -m scripts.local.pyodide_bundle node_modules/pyodide .cache/pyodide
"""

import hashlib
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

BUNDLE_NAME = "pyodide_dev.capnp.bin"
PYODIDE_VERSION = "314.0.6"  # what workerd's `python_workers_314` expects

MODULES_SCHEMA = """
@0xc8d6ac3ab2f1a7e4;
struct Bundle { modules @0 :List(Module); }
enum ModuleType { bundle @0; builtin @1; internal @2; }
struct Module {
  name @0 :Text;
  union { src @1 :Data; wasm @4 :Data; data @5 :Data; json @6 :Text; }
  type @2 :ModuleType;
  tsDeclaration @3 :Text;
  compileCache @7 :Data;
}
"""

IMPORTS = (
    "import { newWasmModule, wasmInstantiate, getRandomValues, patchedLoadLibData,"
    " monotonicDateNow, addEventListener, location } from 'pyodide-internal:builtin_wrappers';\n"
)

# (pattern, replacement, how often it must be found). The counts pin the text of PYODIDE_VERSION:
# a silent miss would surface much later, as a Worker that fails only when it loads a Rust extension.
REDIRECTIONS = (
    (r"new WebAssembly\.Module\(", "newWasmModule(", 4),
    (r"WebAssembly\.instantiate\(", "wasmInstantiate(", 2),
    (r"crypto\.getRandomValues\(", "getRandomValues(Module,", 1),
    (r"(?<!function )loadLibData\(\)", "patchedLoadLibData(Module,libName,flags.rpath)", 2),
    (r"Date\.now\b", "monotonicDateNow", 22),
)


class BundleError(Exception):
    """The installed Pyodide is not the one this bundle can be made from."""


def redirect(source: str) -> str:
    """Emscripten's JavaScript with every call that workerd forbids redirected; raises BundleError."""
    for pattern, replacement, expected in REDIRECTIONS:
        source, found = re.subn(pattern, replacement, source)
        if found != expected:
            raise BundleError(
                f"pyodide.asm.mjs: expected {expected} of /{pattern}/, found {found}; "
                f"the redirections are written for pyodide {PYODIDE_VERSION}: run `npm ci`, "
                "or adapt REDIRECTIONS in scripts/local/pyodide_bundle.py"
            )
    return IMPORTS + source + "\nexport { _createPyodideModule };\n"


def build(pyodide: Path, target_folder: Path) -> Path:
    """Writes the bundle unless an equal one is there; returns its path.

    pyodide: the installed npm package. Raises BundleError when its version is not PYODIDE_VERSION.
    """
    version = json.loads((pyodide / "package.json").read_text())["version"]
    if version != PYODIDE_VERSION:
        raise BundleError(f"pyodide is {version}, this bundle needs {PYODIDE_VERSION}: run `npm ci`")
    target = target_folder / BUNDLE_NAME
    stamp = target_folder / "bundle.sha256"
    recipe = hashlib.sha256(Path(__file__).read_bytes() + version.encode()).hexdigest()
    if target.exists() and stamp.exists() and stamp.read_text() == recipe:
        return target

    target_folder.mkdir(parents=True, exist_ok=True)
    message = _message(
        [
            (
                "pyodideRuntime-internal:pyodide.asm",
                "src",
                redirect((pyodide / "pyodide.asm.mjs").read_text()).encode(),
            ),
            ("pyodideRuntime-internal:pyodide.asm.wasm", "wasm", (pyodide / "pyodide.asm.wasm").read_bytes()),
            ("pyodideRuntime-internal:python_stdlib.zip", "data", (pyodide / "python_stdlib.zip").read_bytes()),
        ]
    )
    unfinished = target.with_suffix(".tmp")
    unfinished.write_bytes(message)
    unfinished.replace(target)
    stamp.write_text(recipe)
    return target


def _message(modules: list[tuple[str, str, bytes]]) -> bytes:
    """(name, union field, contents) of each module as one serialised `Bundle`."""
    import capnp  # here, because only a build needs it

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "modules.capnp"
        path.write_text(MODULES_SCHEMA)
        schema = cast(Any, capnp.load(str(path)))
    bundle = schema.Bundle.new_message()
    entries = bundle.init("modules", len(modules))
    for entry, (name, field, contents) in zip(entries, modules, strict=True):
        entry.name = name
        setattr(entry, field, contents)
        entry.type = "internal"
    return cast(bytes, bundle.to_bytes())


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(build(Path(sys.argv[1]), Path(sys.argv[2])))
    except (BundleError, OSError) as exc:
        print(f"pyodide bundle: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

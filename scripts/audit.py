"""Every locked package has a checksum, and no tracked file holds a secret. Offline; part of scripts/check.

python -m scripts.audit

A value in a test that only looks like a secret: end its line with `# pragma: allowlist secret`.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.core.scan import scan_file
from detect_secrets.settings import transient_settings

ROOT: Final = Path(__file__).resolve().parents[1]

# npm's registry as it was seen when they were locked lacks these: docs/architecture.md, "Locks".
WITHOUT_CHECKSUM: Final = frozenset(
    f"node_modules/@cloudflare/workerd-{platform}" for platform in ("darwin-64", "darwin-arm64", "windows-64")
)

# Of keys that someone issues. Neither words such as "password" nor entropy: tests are full of both.
DETECTORS: Final = (
    "AWSKeyDetector AzureStorageKeyDetector CloudantDetector DiscordBotTokenDetector GitHubTokenDetector "
    "GitLabTokenDetector IbmCloudIamDetector JwtTokenDetector MailchimpDetector NpmDetector OpenAIDetector "
    "PrivateKeyDetector PypiTokenDetector SendGridDetector SlackDetector SquareOAuthDetector StripeDetector "
    "TelegramBotTokenDetector TwilioKeyDetector"
).split()
NOT_OURS: Final = ("uv.lock", "package-lock.json", "src/assets/ui/vendor/")
MAX_SCANNED_BYTES: Final = 512 * 1024  # what is larger is data that a script made


def python_packages_without_checksum(lock: Mapping[str, Any]) -> Iterator[str]:
    """lock: of uv. Each file that could be installed must have one; what has no file can't be."""
    for package in lock["package"]:
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else [])]
        if not all(each.get("hash", "").startswith("sha256:") for each in files) or not _is_from_registry(package):
            yield f"{package['name']} {package.get('version', '')}"


def _is_from_registry(package: Mapping[str, Any]) -> bool:
    """Or it is our own, which is not installed. A path, a URL or a repository would have no file listed here."""
    return "registry" in package["source"] or package["name"] == "nearside"


def npm_packages_without_checksum(lock: Mapping[str, Any]) -> Iterator[str]:
    """lock: of npm. The entry with the empty name is our own package."""
    for name, package in lock["packages"].items():
        if name and name not in WITHOUT_CHECKSUM and not package.get("integrity", "").startswith("sha512-"):
            yield name


def secrets_in(paths: list[Path]) -> Iterator[str]:
    """`path:line kind` of each."""
    with transient_settings({"plugins_used": [{"name": name} for name in DETECTORS]}):
        known: list[Any] = list(get_mapping_from_secret_type_to_class().values())
        plugins = [each for each in known if each.__name__ in DETECTORS]
        patterns = [pattern for plugin in plugins for pattern in plugin.denylist]
        for path in paths:
            text = path.read_text(errors="ignore")
            if any(pattern.search(text) for pattern in patterns):  # line by line takes twenty times as long
                for found in scan_file(str(path)):
                    yield f"{path.relative_to(ROOT)}:{found.line_number} {found.type}"


def tracked_files() -> list[Path]:
    """Ours, as git knows them."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    paths = [ROOT / name for name in names.split("\0") if name and not name.startswith(NOT_OURS)]
    return [path for path in paths if path.is_file() and path.stat().st_size <= MAX_SCANNED_BYTES]


def main() -> None:
    """Exit code 1, and a line for each, when something is found."""
    found = [f"no checksum: {name}" for name in python_packages_without_checksum(_read_toml("uv.lock"))]
    npm = json.loads((ROOT / "package-lock.json").read_text())
    found += [f"no checksum: {name}" for name in npm_packages_without_checksum(npm)]
    if (ROOT / ".git").exists():  # an unpacked archive has nothing that could be committed
        found += [f"secret: {place}" for place in secrets_in(tracked_files())]
    if found:
        sys.exit("\n".join(f"audit: {each}" for each in found))


def _read_toml(name: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / name).read_text())


if __name__ == "__main__":
    main()

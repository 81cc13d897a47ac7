"""Writes the documents that both programs serve at `/openapi.json`, so that they can't differ from the code.

python -m scripts.openapi            # after a path, a field or a header was added or changed
python -m scripts.openapi --check    # exit code 1 when a document is not fresh
"""

import argparse
import json
import sys
from pathlib import Path

from scripts.openapi.document import cloud_document, edge_document

ROOT = Path(__file__).resolve().parents[2]
EDGE_DOCUMENT = ROOT / "src" / "assets" / "openapi.json"
CLOUD_DOCUMENT = ROOT / "cloud_fallback" / "openapi.json"


def documents() -> dict[Path, str]:
    """Where each stands -> its text."""
    made = {EDGE_DOCUMENT: edge_document(), CLOUD_DOCUMENT: cloud_document()}
    return {path: json.dumps(document, indent=1) + "\n" for path, document in made.items()}


def main() -> None:
    """Writes the documents, or checks them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="%(prog)s [--check]"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when one is not fresh")
    is_check = parser.parse_args().check
    for path, text in documents().items():
        if not is_check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            sys.exit(f"{path.relative_to(ROOT)} is not fresh: python -m scripts.openapi")


if __name__ == "__main__":
    main()

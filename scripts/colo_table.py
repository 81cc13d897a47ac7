"""Writes edge_router/colos.py: where Cloudflare's locations are, by their IATA codes.

    uv run --with airportsdata python -m scripts.colo_table            # again, for the codes that are there
    uv run --with airportsdata python -m scripts.colo_table BER XYZ    # with two more

Coordinates are the airports' own, from PyPI's `airportsdata` (MIT licence); codes are those that Cloudflare's network
page listed in 2026. A code that is no airport any more, or never was, stands in `CITIES`.
"""

import argparse
import subprocess
from pathlib import Path

import airportsdata  # type: ignore[import-not-found]  # only installed for this script

from edge_router import colos

TARGET = Path(colos.__file__)
CODES_PER_LINE = 9
CITIES = {
    "FRU": (42.9, 74.6),  # Bishkek, now BSZ
    "JXG": (30.7, 120.8),  # Jiaxing
    "KIV": (46.9, 28.9),  # Chisinau, now RMO
    "PNH": (11.5, 104.8),  # Phnom Penh, now KTI
    "QWJ": (-22.7, -47.3),  # Americana
    "XNH": (31.0, 46.2),  # Nasiriyah
    "ZDM": (31.9, 35.2),  # Ramallah
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("codes", nargs="*", help="IATA codes to add")
    codes = sorted({*colos.codes(), *parser.parse_args().codes})
    airports = airportsdata.load("IATA")
    records = [_record(code, *_place(code, airports)) for code in codes]
    lines = ["".join(records[i : i + CODES_PER_LINE]) for i in range(0, len(records), CODES_PER_LINE)]
    source = TARGET.read_text()
    head, _, rest = source.partition("_TABLE = (\n")
    _, _, tail = rest.partition("\n)\n")
    body = "\n".join(f'    "{line}"' for line in lines)
    TARGET.write_text(f"{head}_TABLE = (\n{body}\n){chr(10)}{tail}")
    subprocess.run(["ruff", "format", "-q", str(TARGET)], check=True)


def _place(code: str, airports: dict[str, dict[str, float]]) -> tuple[float, float]:
    if code in CITIES:
        return CITIES[code]
    return airports[code]["lat"], airports[code]["lon"]


def _record(code: str, latitude: float, longitude: float) -> str:
    """Twelve characters: the code, then tenths of degrees with their signs."""
    return f"{code}{round(latitude * 10):+04d}{round(longitude * 10):+05d}"


if __name__ == "__main__":
    main()

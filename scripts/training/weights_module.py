"""Weights as a Python module: the Worker uploads no other files."""

import base64
import hashlib
import zlib

from edge_router.learned import FORMAT, Weights, pack

MAX_BYTES = 256 * 1024
LINE = 118


class TooLarge(Exception):
    """The weights do not fit into the bundle."""


def source_of(weights: Weights) -> bytes:
    """The module's text. Same weights, same bytes."""
    packed = zlib.compress(pack(weights), 9)
    data = base64.b64encode(packed).decode()
    lines = [data[start : start + LINE] for start in range(0, len(data), LINE)]
    source = "\n".join(
        [
            '"""Weights of the learned router. Written by scripts/train_router: do not edit."""',
            "",
            "# fmt: off",
            "# ruff: noqa",
            f"FORMAT = {FORMAT}",
            f'SHA256 = "{hashlib.sha256(packed).hexdigest()}"',
            'DATA = """',
            *lines,
            '"""',
            "",
        ]
    ).encode()
    if len(source) > MAX_BYTES:
        raise TooLarge(f"the weights take {len(source):,} bytes, more than {MAX_BYTES:,}")
    return source

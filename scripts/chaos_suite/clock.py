"""Moves the wall clock of workerd, by a library that it preloads (clock.c). Needs Linux and a C compiler."""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path


class Clock:
    """variables: for the environment of the stack's processes before it starts."""

    def __init__(self, folder: Path, library: Path) -> None:
        self._offset = folder / "clock-offset"
        self.move(0)
        self.variables = {"NEARSIDE_CLOCK_LIBRARY": str(library), "NEARSIDE_CLOCK_OFFSET": str(self._offset)}

    def move(self, by_s: int) -> None:
        """Relative to the true time; 0 puts it right."""
        # In place: workerd has the file mapped.
        descriptor = os.open(self._offset, os.O_RDWR | os.O_CREAT)
        try:
            os.pwrite(descriptor, struct.pack("=q", by_s), 0)
        finally:
            os.close(descriptor)


def make_clock(folder: Path) -> Clock | str:
    """A clock, its files in the folder, or the reason why there can be none here."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        return "clock jumps need Linux and a C compiler (cc)"
    library = folder / "clock.so"
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-O1",
        "-o",
        str(library),
        str(Path(__file__).with_name("clock.c")),
        "-ldl",
    ]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    return Clock(folder, library) if made.returncode == 0 else f"clock.c can't be compiled: {made.stderr.strip()[:200]}"

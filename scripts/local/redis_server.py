"""A real redis-server on loopback, for tests: the machine's own, or Debian's packages in .cache, without root."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from scripts.local.ports import free_port
from scripts.local.worker_spec import ROOT

CACHE = ROOT / ".cache" / "redis"
# Debian's redis-server is a link to a program in redis-tools; the others are what that links to, where it is missing.
PACKAGES = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1", "liblua5.1-0", "libssl3")
START_TIMEOUT_S = 10.0


class NoRedis(Exception):
    """Neither on this machine nor to be had from Debian."""


@dataclass(frozen=True, slots=True)
class Program:
    path: str
    env: Mapping[str, str]


def find_program() -> Program:
    """Fetches it once. Raises NoRedis."""
    for name in ("redis-server", "valkey-server"):
        installed = shutil.which(name)
        if installed:
            return Program(installed, {})
    if not _runs(_unpacked()):
        _fetch()
    program = _unpacked()
    if not _runs(program):
        raise NoRedis("redis-server: not installed, and Debian's package could not be fetched or does not run here")
    return program


@contextlib.contextmanager
def running_redis(port: int = 0) -> Iterator[str]:
    """Its URL. Nothing is written to disk. port: 0 picks a free one. Raises NoRedis."""
    program = find_program()
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="nearside-redis-") as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        process = subprocess.Popen(
            [program.path, *options], env={**os.environ, **program.env}, stdout=subprocess.DEVNULL
        )
        try:
            _wait_until_open(process, port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()
            process.wait()


def _unpacked() -> Program:
    libraries = sorted({str(path.parent) for path in CACHE.glob("root/**/*.so*")})
    binary = CACHE / "root" / "usr" / "bin" / "redis-server"
    if not binary.exists():
        binary = CACHE / "root" / "usr" / "bin" / "redis-check-rdb"  # one program under two names
    return Program(str(binary), {"LD_LIBRARY_PATH": ":".join(libraries)})


def _runs(program: Program) -> bool:
    try:
        done = subprocess.run([program.path, "--version"], env={**os.environ, **program.env}, capture_output=True)
    except OSError:
        return False
    return done.returncode == 0 and b"server" in done.stdout


def _fetch() -> None:
    """Downloads with the machine's package lists, else with lists of our own."""
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if apt is None or dpkg is None:
        raise NoRedis("redis-server: not installed, and this is not Debian; install redis or valkey")
    (CACHE / "apt" / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (CACHE / "apt" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    own = [
        "-o", f"Dir::State={CACHE}/apt", "-o", f"Dir::Cache={CACHE}/apt",
        "-o", "Dir::State::status=/var/lib/dpkg/status", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=",
    ]  # fmt: skip
    for options in ([], own):
        if options:
            subprocess.run([apt, *own, "-qq", "update"], cwd=CACHE, capture_output=True)
        for package in PACKAGES:  # one by one: a name that this release does not have is no harm
            subprocess.run([apt, *options, "-qq", "download", package], cwd=CACHE, capture_output=True)
        for archive in CACHE.glob("*.deb"):
            subprocess.run([dpkg, "-x", str(archive), str(CACHE / "root")], check=True, capture_output=True)
        if _runs(_unpacked()):
            return


def _wait_until_open(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise NoRedis(f"redis-server ended with exit code {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise NoRedis(f"redis-server did not answer within {START_TIMEOUT_S:g} s")

"""CPU time, memory and cores of running processes. Linux's /proc; raises OSError elsewhere."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

SHARED_MEMORY = "/dev/shm"  # noqa: S108  # Linux's
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system time of all the threads so far, in steps of 10 ms."""
    # The name, in brackets, may hold spaces; utime and stime are fields 14 and 15 (proc(5)).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def thread_cpu_s(pid: int) -> float:
    """The same, in nanosecond steps, of the threads that run now: those that ended are left out."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def rss_mib(pid: int) -> float:
    """Resident memory now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def pin(pid: int, cores: Iterable[int]) -> None:
    """Keeps a process on some cores: each of its threads, and with them those that they start."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), set(cores))


def memory_folder() -> str | None:
    """For files that are not part of what is measured: on a disk each new Durable Object makes some, at milliseconds of
    the kernel's time, more with every one that was removed shortly before. None without enough space in memory.
    """
    try:
        return SHARED_MEMORY if shutil.disk_usage(SHARED_MEMORY).free > 2**30 else None
    except OSError:
        return None


def split_cores() -> tuple[set[int], set[int]]:
    """(cores for what is measured, cores for the load): one core and all others, where there are two or more."""
    available = os.sched_getaffinity(0)
    measured = {min(available)}
    return measured, (available - measured) or measured


@contextlib.contextmanager
def on_cores(cores: Iterable[int]) -> Iterator[None]:
    """What is started within stays on these cores from its first instruction on."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cores))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def started_on(cores: Iterable[int], manager: AbstractContextManager[T]) -> Iterator[T]:
    """Enters `manager`, which starts processes, on these cores; what is done within stays on the cores of before."""
    with contextlib.ExitStack() as stack:
        with on_cores(cores):
            entered = stack.enter_context(manager)
        yield entered


def family(pid: int) -> list[int]:
    """The process and what it has started, and so on, as far as it still runs."""
    found, waiting = [], [pid]
    while waiting:
        each = waiting.pop()
        with contextlib.suppress(OSError):
            tasks = list(Path(f"/proc/{each}/task").iterdir())
            found.append(each)
            for task in tasks:
                waiting += [int(child) for child in (task / "children").read_text().split()]
    return found


def peak_mib(pid: int) -> float:
    """The most resident memory that the process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return rss_mib(pid)


def age_s(pid: int) -> float:
    """Since the process was started, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / _TICKS_PER_S

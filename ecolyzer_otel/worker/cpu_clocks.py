"""CPU clocks of this process, its Python threads and its native pool threads."""

from __future__ import annotations

import os
import sys
import threading
import time
from time import monotonic_ns, process_time_ns
from typing import NamedTuple

__all__ = ["ClockReading", "ProcessClocks", "native_ids", "thread_cpu_ns"]

_TICK_NS = 1_000_000_000 // (os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100)
_LINUX = sys.platform.startswith("linux")
#: CPUCLOCK_PERTHREAD_MASK and CPUCLOCK_SCHED.
_THREAD_CLOCK = 4 | 2
#: A scan of the threads may take at most this part of the time.
_SCAN_SHARE = 50


def thread_cpu_ns(native_id: int) -> int | None:
    """CPU nanoseconds of one thread of this process so far; None when it has ended or cannot be read.

    By Linux's identifier of the thread's clock (``MAKE_THREAD_CPUCLOCK`` in its posix-timers.h), else from
    ``/proc/self/task/<tid>/schedstat``, the same clock. Reading a file releases the interpreter's lock some six
    times, which on a busy core costs far more than the reading. Not by ``pthread_getcpuclockid``, which crashes if
    the thread has just ended.
    """
    if _LINUX:
        try:
            return time.clock_gettime_ns(~native_id << 3 | _THREAD_CLOCK)
        except OSError:  # ended, or a sandbox without such clocks
            pass
    try:
        with open(f"/proc/self/task/{native_id}/schedstat", "rb") as file:
            return int(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        pass
    try:
        with open(f"/proc/self/task/{native_id}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_NS
    except (OSError, ValueError, IndexError):
        return None


def native_ids() -> dict[int, int]:
    """The kernel's number of each Python thread, by its ``ident``.

    Empty under gevent: ``threading`` lists greenlets there, and its lock must not be taken by other threads.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return {}
    found = threading.enumerate()
    ids = {one.ident: one.native_id for one in found if one.ident is not None and one.native_id is not None}
    main = threading.main_thread().ident
    if main in ids and sys.platform.startswith("linux"):
        ids[main] = os.getpid()  # after a fork, Python before 3.13 still has the parent's number
    return ids


class ClockReading(NamedTuple):
    """One reading of :class:`ProcessClocks`, in nanoseconds: the time, and cumulative CPU time."""

    t_ns: int
    process_ns: int
    pool_ns: int


class ProcessClocks:
    """Cumulative CPU time of the process, and of its native threads that Python's ``threading`` does not list.

    The latter (BLAS, OpenMP, ONNX Runtime pools) is the process clock less the clocks of all Python threads.

    Attributes:
        own: kernel numbers of further threads that are not pool threads: the main thread, and the background
            thread, which ``threading`` does not list.
    """

    def __init__(self) -> None:
        self.own: set[int] = {os.getpid()}
        self._process = process_time_ns()
        self._threads: dict[int, int] = {}
        self._pool = 0
        self._not_before = 0
        self._scan()
        self._pool = 0

    def read(self) -> ClockReading:
        """Read the clocks now; the pool part lags when the process has very many threads."""
        now = monotonic_ns()
        if now >= self._not_before:
            self._scan()
            done = monotonic_ns()
            self._not_before = done + _SCAN_SHARE * (done - now)
        return ClockReading(now, process_time_ns(), self._pool)

    def _scan(self) -> None:
        clocks: dict[int, int] = {}
        python_ns = 0
        for native in self.own.union(native_ids().values()):
            clock = thread_cpu_ns(native)
            if clock is not None:
                clocks[native] = clock
                python_ns += clock - self._threads.get(native, 0)
        process = process_time_ns()
        # A thread that ended since the last scan leaves a remainder; it is at most one period's worth.
        self._pool += max(0, process - self._process - python_ns)
        self._process, self._threads = process, clocks

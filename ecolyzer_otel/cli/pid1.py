"""The launcher as PID 1: the kernel kills everything when PID 1 ends, so it stays, as a small init.

It forks CMD, forwards signals, reaps orphaned processes, gives the meter at most 3 s to drain, and exits
with CMD's status (128 + n when signal n ended it, as shells and container runtimes have it).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from time import monotonic, sleep
from types import FrameType
from typing import Final, NoReturn

__all__ = ["run_as_init"]

_DRAIN_SECONDS: Final = 3.0
_NOT_FORWARDED: Final = {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL,
    signal.SIGTTIN, signal.SIGTTOU, signal.SIGTRAP, signal.SIGABRT,
}  # fmt: skip


def run_as_init(
    start_meter: Callable[[int], tuple[int, int]], path: str, command: list[str], environment: dict[str, str]
) -> NoReturn:
    """Start the meter and CMD, and stay until both are gone.

    Args:
        start_meter: starts the meter for a PID; gives the meter's own, or 0, and the held end of the lifeline.
        path: CMD's file.
        command: CMD and its arguments.
        environment: CMD's environment, which ``start_meter`` completes.
    """
    meter, held = start_meter(os.getpid())
    child = os.fork()
    if child == 0:
        _become_command(path, command, environment)
    _forward_signals(child)
    if held >= 0:
        os.close(held)  # the lifeline is CMD's, not ours: its end must show the end of CMD alone
    status = _reap_until(child)
    _drain(meter)
    sys.exit(status)


def _become_command(path: str, command: list[str], environment: dict[str, str]) -> NoReturn:
    # A process group of its own, in the foreground: Ctrl-C at a terminal reaches CMD once, not twice.
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    with contextlib.suppress(OSError):
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(0, os.getpgrp())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    try:
        os.execve(path, command, environment)
    except OSError as error:
        print(f"ecolyzer: CMD: {path} cannot be run ({error.strerror})", file=sys.stderr, flush=True)
        os._exit(126)


def _forward_signals(child: int) -> None:
    def forward(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in signal.valid_signals() - _NOT_FORWARDED:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, forward)


def _reap_until(child: int) -> int:
    while True:
        pid, status = os.waitpid(-1, 0)  # Python retries when a signal interrupts
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _drain(meter: int) -> None:
    deadline = monotonic() + _DRAIN_SECONDS
    while meter and monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == meter:
                return
            if pid == 0:
                sleep(0.01)
            continue
        return

"""The interpreter's own primitives, even where gevent has replaced them with cooperative ones.

The background thread has to be a thread of the operating system: a greenlet would run only when the service yields,
and a request that computes for seconds would delay it. So it uses these primitives, and never ``threading.Event``,
``select.select`` or the like, which would wait in the service's event loop.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["Waker", "start_thread", "unpatched"]

_READABLE, _WRITABLE, _CLOSED = 1, 4, 32  # POLLIN, POLLOUT, POLLNVAL of poll(2)


def unpatched(module: str, name: str) -> Any:
    """Returns ``module.name`` as it was before gevent's monkey patching."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    __import__(module)
    return getattr(sys.modules[module], name)


def start_thread(target: Callable[[], None]) -> None:
    """Run ``target`` in a thread of the operating system that does not keep the process alive."""
    unpatched("_thread", "start_new_thread")(target, ())


class Waker:
    """Wakes a waiting thread from any other thread. Uses descriptors only."""

    def __init__(self) -> None:
        self._poll = unpatched("select", "poll") if hasattr(__import__("select"), "poll") else None
        self._select = unpatched("select", "select")
        self._reading, self._writing = self._descriptors()

    @staticmethod
    def _descriptors() -> tuple[int, int]:
        if hasattr(os, "eventfd"):
            one = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            return one, one
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        return reading, writing

    @property
    def descriptor(self) -> int:
        """Becomes readable when :meth:`wake` is called."""
        return self._reading

    def wake(self) -> None:
        """Wake the waiting thread, or the next that waits. Never blocks, never raises."""
        with contextlib.suppress(OSError):  # full: it is awake already; closed: no thread waits any more
            os.write(self._writing, b"\1\0\0\0\0\0\0\0")

    def wait(self, seconds: float, descriptor: int = -1, *, write: bool = False) -> None:
        """Wait until :meth:`wake`, until ``descriptor`` is readable (or writable), or until the time has passed."""
        reading = [self._reading] + ([descriptor] if descriptor >= 0 else [])
        writing = [descriptor] if write and descriptor >= 0 else []
        if self._poll is None:
            woken = self._reading in self._select(reading, writing, [], seconds)[0]
        else:  # select() refuses descriptors above 1023
            poll = self._poll()
            for one in reading:
                poll.register(one, _READABLE | (_WRITABLE if one in writing else 0))
            events = poll.poll(max(0, int(seconds * 1000 + 0.999)))
            if any(event & _CLOSED for _, event in events):
                # The service has closed a descriptor that is not its own: sleep instead.
                unpatched("time", "sleep")(min(seconds, 0.1))
                return
            woken = any(one == self._reading for one, _ in events)
        with contextlib.suppress(OSError):  # nothing is left to read
            while woken and os.read(self._reading, 8) and self._reading != self._writing:
                pass

    def close(self) -> None:
        """Close the descriptors."""
        for descriptor in {self._reading, self._writing}:
            try:
                os.close(descriptor)
            except OSError:
                continue

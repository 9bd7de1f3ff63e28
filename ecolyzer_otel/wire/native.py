"""The interpreter's own primitives, also where gevent has put cooperative ones in their place.

The background thread has to be a thread: as a greenlet it would run only when the service lets it, and a request
that computes for seconds would hold it up. So it takes these, and never ``threading.Event``, ``select.select`` or
the like, which would make it a guest in the service's event loop.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["Alarm", "original", "start_thread"]

_READABLE, _WRITABLE, _CLOSED = 1, 4, 32  # POLLIN, POLLOUT, POLLNVAL of poll(2)


def original(module: str, name: str) -> Any:
    """``module.name`` as it was before gevent's monkey patching."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    __import__(module)
    return getattr(sys.modules[module], name)


def start_thread(target: Callable[[], None]) -> None:
    """Run ``target`` in a thread of the operating system that does not keep the process alive."""
    original("_thread", "start_new_thread")(target, ())


class Alarm:
    """Wakes a thread that waits, from any other thread, with nothing but descriptors."""

    def __init__(self) -> None:
        self._poll = original("select", "poll") if hasattr(__import__("select"), "poll") else None
        self._select = original("select", "select")
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
        """What becomes readable when it rings."""
        return self._reading

    def ring(self) -> None:
        """Wake the one who waits, or the next to wait. Never blocks, never raises."""
        with contextlib.suppress(OSError):  # full: it rings already; closed: nobody waits any more
            os.write(self._writing, b"\1\0\0\0\0\0\0\0")

    def wait(self, seconds: float, descriptor: int = -1, *, write: bool = False) -> None:
        """Wait for :meth:`ring`, for ``descriptor`` to become readable (or writable), or for the time to pass."""
        reading = [self._reading] + ([descriptor] if descriptor >= 0 else [])
        writing = [descriptor] if write and descriptor >= 0 else []
        if self._poll is None:
            rang = self._reading in self._select(reading, writing, [], seconds)[0]
        else:  # select() refuses descriptors above 1023
            poll = self._poll()
            for one in reading:
                poll.register(one, _READABLE | (_WRITABLE if one in writing else 0))
            events = poll.poll(max(0, int(seconds * 1000 + 0.999)))
            if any(event & _CLOSED for _, event in events):
                # The service has closed what is not its own: wait without, rather than not at all.
                original("time", "sleep")(min(seconds, 0.1))
                return
            rang = any(one == self._reading for one, _ in events)
        with contextlib.suppress(OSError):  # all is read
            while rang and os.read(self._reading, 8) and self._reading != self._writing:
                pass

    def close(self) -> None:
        """Give the descriptors back."""
        for descriptor in {self._reading, self._writing}:
            try:
                os.close(descriptor)
            except OSError:
                continue

"""The calls of one process: open, finished, and the background thread that reports them."""

from __future__ import annotations

import mmap
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from ecolyzer_otel.worker import thread_ids
from ecolyzer_otel.worker.call import Call, current_call, server_span
from ecolyzer_otel.worker.pace import paces

__all__ = ["State", "after_fork_in_child", "forget_model", "replace_state", "state", "unforked"]


class State:
    """The calls of one process. Replaced, not emptied, in a forked child."""

    __slots__ = (
        "_drop_lock", "done", "dropped", "forgotten", "maybe_training", "names", "open", "pid", "resting",
        "start_worker", "started", "worker",
    )  # fmt: skip

    def __init__(self, start_worker: Callable[[State], Any] | None = None) -> None:
        self.pid = os.getpid()
        #: Open calls. A dict and no set: it is copied in one step, whatever other threads do meanwhile.
        self.open: dict[Call, None] = {}
        self.done: deque[Call] = deque()
        #: Models whose facts have changed (refitted); the background thread reads them anew.
        self.forgotten: deque[int] = deque(maxlen=10_000)
        #: The latest calls that may turn out to be training.
        self.maybe_training: deque[Call] = deque(maxlen=256)
        #: Names of models known so far, by ``id``, for spans that begin with their call.
        self.names: dict[int, str] = {}
        self.dropped = 0
        #: Whether the background thread sleeps until it is woken by the next call, and not only for a moment.
        self.resting = False
        self.started = False
        self.start_worker = start_worker
        self.worker: Any = None
        self._drop_lock = threading.Lock()

    def drop(self) -> None:
        """Count a call that found the queue full. The lock is shared with nothing but itself."""
        with self._drop_lock:
            self.dropped += 1

    def wake(self) -> None:
        """The first call after a rest: the background thread is to look again. Never blocks."""
        self.resting = False
        self.worker.wake()

    def start(self) -> None:
        """Start the background thread, once; a failure is final for this process and silent in the service."""
        with self._drop_lock:
            if self.started:
                return
            self.started = True
        if self.start_worker is not None:
            self.worker = self.start_worker(self)


_state = State()


def state() -> State:
    """The state of this process."""
    return _state


def replace_state(start_worker: Callable[[State], Any] | None) -> State:
    """Begin afresh: in a forked child, or when measuring starts or stops."""
    global _state
    _state = State(start_worker)
    return _state


def after_fork_in_child() -> None:
    """Forget the parent's calls, clocks and background thread; also called where Python did not see the fork."""
    thread_ids.forked()
    unforked[0:1] = b"\1"
    paces.clear()  # clocks begin anew
    if _state.worker is not None:
        _state.worker.forked()
    # The calls in flight belong to the parent, which finishes and reports them. Here they guard nothing, and
    # their copies, should the child return through them, go to the queue of a state that nobody reads.
    replace_state(_state.start_worker)
    call = current_call.get()
    if call is not None:
        call.open = False
    server_span.set(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=after_fork_in_child)


def _fork_mark() -> mmap.mmap | bytearray:
    """A byte that is 0 in a child whose fork Python was not told of (uWSGI forks in C), else 1."""
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_WIPE_ON_FORK)
    except (OSError, ValueError, AttributeError):  # not Linux, or before 4.14
        return bytearray(b"\1")
    page[0:1] = b"\1"
    return page


#: MADV_WIPEONFORK (madvise(2)): reading a byte costs a tenth of asking for the PID.
_WIPE_ON_FORK: Final = 18
unforked: Final = _fork_mark()


def forget_model(model: Any) -> None:
    """The facts of ``model`` (parameters, dtype) have changed; read them anew at its next request."""
    _state.forgotten.append(id(model))

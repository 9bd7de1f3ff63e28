"""The calls of one process: open, finished, and the background thread that reports them."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from ecolyzer_otel.worker.call import Call

__all__ = ["BackgroundThread", "State", "forget_model", "replace_state", "state"]


class BackgroundThread(Protocol):
    """The background thread, as other threads use it (:mod:`ecolyzer_otel.worker.background_thread`)."""

    @property
    def exports_spans(self) -> bool:
        """Whether the spans of this process are exported."""

    def counts(self) -> dict[str, int]:
        """Requests of this process: served, accounted for by the meter, dropped, and pending."""

    def flush(self, timeout: float) -> bool:
        """Wait until every request finished so far is accounted for."""

    def deliver(self, timeout: float) -> bool:
        """Wait until every request finished so far is reported."""

    def wake(self) -> None:
        """End a rest."""

    def stop(self, timeout: float) -> None:
        """Flush, end the thread and close the link."""

    def forked(self) -> None:
        """In a forked child: close the parent's descriptors."""


class State:
    """The calls of one process. Replaced, not emptied, in a forked child."""

    __slots__ = (
        "_drop_lock", "done", "dropped", "forgotten", "maybe_training", "names", "open", "pid", "resting",
        "start_worker", "started", "worker",
    )  # fmt: skip

    def __init__(self, start_worker: Callable[[State], BackgroundThread | None] | None = None) -> None:
        self.pid = os.getpid()
        #: Open calls. A dict and no set: it is copied in one step, whatever other threads do meanwhile.
        self.open: dict[Call, None] = {}
        self.done: deque[Call] = deque()
        #: Models whose facts have changed (refitted); the background thread reads them again.
        self.forgotten: deque[int] = deque(maxlen=10_000)
        #: The latest calls that may turn out to be training.
        self.maybe_training: deque[Call] = deque(maxlen=256)
        #: Names of the models seen so far, by ``id``, for spans that begin with their call.
        self.names: dict[int, str] = {}
        self.dropped = 0
        #: Whether the background thread sleeps until the next call wakes it, and not only for a moment.
        self.resting = False
        self.started = False
        #: Starts the background thread; None where nothing is measured.
        self.start_worker = start_worker
        self.worker: BackgroundThread | None = None
        self._drop_lock = threading.Lock()

    def drop(self) -> None:
        """Count a call that cannot be reported. No other code holds this lock."""
        with self._drop_lock:
            self.dropped += 1

    def wake(self) -> None:
        """Wake the background thread: the first call after a rest. Never blocks."""
        self.resting = False  # set by the background thread alone: it exists
        self.worker.wake()  # type: ignore[union-attr]

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


def replace_state(start_worker: Callable[[State], BackgroundThread | None] | None) -> State:
    """Start with no calls: in a forked child, or when measuring starts or stops."""
    global _state
    _state = State(start_worker)
    return _state


def forget_model(model: Any) -> None:
    """The facts of ``model`` (parameters, dtype) have changed; read them again at its next request."""
    _state.forgotten.append(id(model))

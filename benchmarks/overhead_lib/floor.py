"""The cost of single parts of a measured call, in nanoseconds."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from itertools import repeat
from typing import Any

__all__ = ["measure"]

_LOOPS, _REPEATS = 20_000, 9


class _Slotted:
    __slots__ = tuple(f"a{index}" for index in range(20))

    def __init__(self) -> None:
        self.a0 = self.a1 = self.a2 = self.a3 = self.a4 = self.a5 = self.a6 = self.a7 = self.a8 = self.a9 = None
        self.a10 = self.a11 = self.a12 = self.a13 = self.a14 = self.a15 = self.a16 = self.a17 = self.a18 = None
        self.a19 = None


def _loop(body: Callable[[], Any]) -> float:
    """Nanoseconds of one ``body()``, its own frame or C call included; median of the faster half of the loops."""
    times = []
    for _ in range(_REPEATS):
        start = time.thread_time_ns()
        for _ in repeat(None, _LOOPS):
            body()
        times.append((time.thread_time_ns() - start) / _LOOPS)
    return statistics.median(sorted(times)[: _REPEATS // 2 + 1])


def measure() -> dict[str, float]:
    """Nanoseconds by part, without the empty loop."""
    variable: ContextVar[Any] = ContextVar("variable", default=None)
    queue: deque[Any] = deque(maxlen=1)
    table: dict[int, Any] = {}
    monotonic_ns, thread_time_ns = time.monotonic_ns, time.thread_time_ns

    def nothing() -> None:
        return

    def passed(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return nothing()

    def set_and_reset() -> None:
        variable.reset(variable.set(None))

    def two_clocks() -> None:
        monotonic_ns()
        monotonic_ns()

    def two_thread_clocks() -> None:
        thread_time_ns()
        thread_time_ns()

    def append() -> None:
        queue.append(None)

    def publish() -> None:
        table[1] = None
        table.pop(1, None)

    frame = _loop(nothing)
    parts = {
        "a Python call": frame,
        "a wrapper (*args, **kwargs)": _loop(lambda: passed(1)) - 2 * frame,
        "contextvar get": _loop(variable.get),
        "contextvar set and reset": _loop(set_and_reset) - frame,
        "two monotonic clocks": _loop(two_clocks) - frame,
        "two thread CPU clocks": _loop(two_thread_clocks) - frame,
        "thread number": _loop(threading.get_ident),
        "an object with 20 slots": _loop(_Slotted),
        "dict set and pop": _loop(publish) - frame,
        "deque append": _loop(append) - frame,
    }
    try:
        from opentelemetry.context import attach, detach, get_current

        context = get_current()
        parts["OpenTelemetry get_current"] = _loop(get_current)
        parts["OpenTelemetry attach and detach"] = _loop(lambda: detach(attach(context))) - frame
    except ImportError:
        pass
    return {name: max(0.0, ns) for name, ns in parts.items()}

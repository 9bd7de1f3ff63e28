"""Calls within an open call: where a call belongs, and how CPU time of helper threads counts for the request."""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time_ns
from typing import Any, Final

from ecolyzer_otel.worker.call import Call, Within, current_call
from ecolyzer_otel.worker.thread_ids import get_ident

__all__ = [
    "ELSEWHERE",
    "INSIDE",
    "OUTERMOST",
    "enclosing_call",
    "enclosing_request",
    "lending",
    "nested",
    "placement_of",
    "within",
]

#: No open call encloses it: it is a request of its own.
OUTERMOST: Final = 0
#: It is part of the open call and runs in a thread that works for it, or it is part of training.
INSIDE: Final = 1
#: It is part of the open call and runs in a thread that received its context; :class:`lending` adds its CPU time.
ELSEWHERE: Final = 2


def placement_of(outer: Call | None) -> int:
    """Returns how a call that begins now relates to ``outer``, the call in its context: one of the three above."""
    if outer is None or not outer.open:
        return OUTERMOST
    thread = get_ident()
    return INSIDE if outer.thread == thread or outer.training or thread in outer.helpers else ELSEWHERE


def enclosing_call() -> Call | None:
    """The open call, or training, that encloses the running code; None where a call would be the outermost."""
    call = current_call.get()
    return call if call is not None and call.open else None


def enclosing_request() -> Call | None:
    """The open request that encloses the running code; None outside any, and in training."""
    call = current_call.get()
    return None if call is None or call.training or not call.open else call.actual


def nested(outer: Call, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call ``function`` as a part of the open call ``outer``; its CPU time counts there in any thread."""
    if placement_of(outer) is INSIDE:
        return function(*args, **kwargs)
    with lending(outer):  # asyncio.to_thread and the like take the context along
        return function(*args, **kwargs)


class lending:
    """``with lending(call):`` in a helper thread: the code inside belongs to ``call``, with its CPU time.

    CPU time that it spends after the report of ``call`` is process share.
    """

    __slots__ = ("_call", "_cpu", "_token", "_within")

    def __init__(self, call: Call) -> None:
        self._call = call.share()

    def __enter__(self) -> None:
        thread, helpers = get_ident(), self._call.helpers
        self._token = current_call.set(self._call)
        self._within = thread in helpers  # the thread works for the call already, which counts its time
        helpers.add(thread)
        self._cpu = thread_time_ns()

    def __exit__(self, *exception: object) -> None:
        spent = thread_time_ns() - self._cpu
        current_call.reset(self._token)
        if not self._within:
            self._call.helpers.discard(get_ident())
            self._call.spend(spent)


class within:
    """``with within(call):`` in the thread that works for ``call``: calls inside belong to it without a check.

    For code that runs in one thread with its context, as the modules of a model do.
    """

    __slots__ = ("_token", "_within")

    def __init__(self, call: Call) -> None:
        self._within = Within(call.actual)

    def __enter__(self) -> None:
        self._token = current_call.set(self._within)

    def __exit__(self, *exception: object) -> None:
        self._within.open = self._within.encloses = False
        current_call.reset(self._token)

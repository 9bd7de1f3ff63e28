"""How code belongs to an open call: where it stands, and what is counted for it in helper threads."""

from __future__ import annotations

from time import thread_time_ns
from typing import Final

from ecolyzer_otel.worker.call import Call, Within, current_call
from ecolyzer_otel.worker.threads import get_ident

__all__ = ["ELSEWHERE", "INSIDE", "OUTERMOST", "enclosing", "lending", "placement_of", "within"]

#: No open call encloses it: it is a request of its own.
OUTERMOST: Final = 0
#: It is part of the open call and runs in a thread that works for it, or it is part of training.
INSIDE: Final = 1
#: It is part of the open call and runs in a thread that received its context; :class:`lending` adds its CPU time.
ELSEWHERE: Final = 2


def placement_of(outer: Call | None) -> int:
    """Where a call that begins now stands to ``outer``, the call in its context."""
    if outer is None or not outer.open:
        return OUTERMOST
    thread = get_ident()
    return INSIDE if outer.thread == thread or outer.training or thread in outer.helpers else ELSEWHERE


def enclosing() -> Call | None:
    """The open request that encloses the running code; None outside of any, and in training."""
    call = current_call.get()
    return None if call is None or call.training or not call.open else call.actual


class lending:
    """``with lending(call):`` in a helper thread: what runs there belongs to ``call``, its CPU time included.

    What it spends after ``call`` has been reported is nobody's: process share.
    """

    __slots__ = ("_call", "_cpu", "_token", "_within")

    def __init__(self, call: Call) -> None:
        self._call = call.share()

    def __enter__(self) -> None:
        thread, helpers = get_ident(), self._call.helpers
        self._token = current_call.set(self._call)
        self._within = thread in helpers  # a call within one that is lent: its time is counted there
        helpers.add(thread)
        self._cpu = thread_time_ns()

    def __exit__(self, *exception: object) -> None:
        spent = thread_time_ns() - self._cpu
        current_call.reset(self._token)
        if not self._within:
            self._call.helpers.discard(get_ident())
            self._call.spend(spent)


class within:
    """``with within(call):`` in the thread that works for ``call``: all that is called inside passes at once.

    Where what is inside runs in one thread with its context, as the modules of a model do.
    """

    __slots__ = ("_token", "_within")

    def __init__(self, call: Call) -> None:
        self._within = Within(call.actual)

    def __enter__(self) -> None:
        self._token = current_call.set(self._within)

    def __exit__(self, *exception: object) -> None:
        self._within.open = self._within.encloses = False
        current_call.reset(self._token)

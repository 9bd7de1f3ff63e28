"""Waiting for what comes about in its own time, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from .processes import Program

T = TypeVar("T")

#: Seconds after which something will not come about any more. Long, so that no load of the machine breaks it; a
#: test that passes does not wait for it.
PATIENCE = 60.0
#: The same for a process that imports a framework, compiles, or does many things one after the other.
AGES = 240.0


def until(
    condition: Callable[[], T],
    what: str | Callable[[], object] = "it did not come about",
    *programs: Program,
    seconds: float = PATIENCE,
    pause: float = 0.02,
    grace: float = 0.0,
) -> T:
    """What ``condition`` gives once that is true; a connection that fails counts as not yet.

    Fails at the deadline, with what every program told last, and before it where one of them has ended.

    Args:
        condition: looked at again and again.
        what: what to say otherwise, or what gives it.
        programs: what has to run for it to come about.
        seconds: the deadline.
        pause: between two looks.
        grace: seconds that what a program started may go on after its end.
    """
    deadline, end = time.monotonic() + seconds, float("inf")
    while True:
        ended = [one for one in programs if one.ended]
        if ended:
            end = min(end, time.monotonic() + grace)
        try:
            if found := condition():
                return found
            fault = ""
        except OSError as error:
            fault = f" ({error})"
        late = time.monotonic() > deadline
        if late or time.monotonic() >= end:
            why = f"not within {seconds:.0f} s" if late else "what has to run for it has ended"
            first = f"{what() if callable(what) else what}: {why}{fault}"
            raise AssertionError("\n".join([first, *(one.told() for one in ended or programs)]))
        time.sleep(pause)

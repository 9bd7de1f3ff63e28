"""Waiting for what comes about in its own time, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds after which something will not come about any more. Long, so that no load of the machine breaks it; a
#: test that passes does not wait for it.
PATIENCE = 60.0
#: The same for a process that imports a framework, compiles, or does many things one after the other.
AGES = 240.0


def until(
    condition: Callable[[], T],
    what: str | Callable[[], object] = "it did not come about",
    *,
    seconds: float = PATIENCE,
    pause: float = 0.02,
) -> T:
    """What ``condition`` gives once that is true; a connection that fails counts as not yet.

    Args:
        condition: looked at again and again.
        what: what to say otherwise, or what gives it.
        seconds: the deadline.
        pause: between two looks.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := condition():
                return found
            fault = ""
        except OSError as error:
            fault = f" ({error})"
        if time.monotonic() > deadline:
            raise AssertionError(f"{what() if callable(what) else what}: not within {seconds:.0f} s{fault}")
        time.sleep(pause)

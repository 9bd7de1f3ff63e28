"""What runs when a worker forks: the child starts with calls, clocks and a background thread of its own."""

from __future__ import annotations

import mmap
import os
from typing import Final

from ecolyzer_otel.worker import state as states
from ecolyzer_otel.worker import thread_ids
from ecolyzer_otel.worker.call import current_call, server_span
from ecolyzer_otel.worker.pace import paces

__all__ = ["after_fork_in_child", "unforked"]

#: MADV_WIPEONFORK (madvise(2)): reading a byte costs a tenth of asking for the PID.
_WIPE_ON_FORK: Final = 18


def _fork_mark() -> mmap.mmap | bytearray:
    """A byte that is 1, and 0 in a child whose fork did not run Python's fork hooks (uWSGI forks in C)."""
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_WIPE_ON_FORK)
    except (OSError, ValueError, AttributeError):  # not Linux, or before 4.14
        return bytearray(b"\1")
    page[0:1] = b"\1"
    return page


unforked: Final = _fork_mark()


def after_fork_in_child() -> None:
    """Forget the parent's calls, clocks and background thread. Also called where Python did not notice the fork."""
    thread_ids.forked()
    unforked[0:1] = b"\1"
    paces.clear()  # the clocks of threads start again
    here = states.state()
    if here.worker is not None:
        here.worker.forked()
    # The calls in flight belong to the parent, which finishes and reports them. Here they guard nothing, and
    # their copies, should the child return through them, go to the queue of a state that nothing reads.
    states.replace_state(here.start_worker)
    call = current_call.get()
    if call is not None:
        call.open = False
    server_span.set(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=after_fork_in_child)

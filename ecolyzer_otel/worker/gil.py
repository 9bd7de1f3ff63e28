"""What relies on the global interpreter lock (GIL), in one place.

The hot path takes no lock. These operations must therefore be atomic, and other threads must see them in program
order. CPython with the GIL gives both. A free-threaded build locks each dict, list, set and deque by itself; what
follows was not tested there.

- ``State.open`` (worker/state.py): threads insert and remove calls while the background thread copies the dict in
  one step (``dict.copy``, worker/reports.py). A call is inserted *before* its start is read, and appended to
  ``State.done`` *before* it is removed; the background thread reads in the opposite order, so that the
  watermark never passes a finished call that is not reported.
- ``State.done`` (worker/hot_path.py): ``deque.append`` and ``popleft`` from different threads; ``len`` before
  ``append`` bounds the queue up to one call per thread.
- ``Call.helpers`` and ``Call.extra_cpu`` (worker/call.py, worker/nesting.py): helper threads add to a set and
  append to a list while others read them; only adding up a long list takes a lock.
- ``paces`` (worker/pace.py): a dict by thread; each thread changes only its own entry.
- ``State.names``, the tables of models (worker/models.py) and of given names (worker/model_names.py): the callback
  of a weak reference removes an entry in whatever thread drops the last one; readers copy before they iterate.
- ``Call.details`` (worker/call.py): created by the call's own thread without a lock.
- Settlements (worker/block.py) are handed to a waiting thread through ``threading.Event``, which needs no GIL.

The meter does not rely on this: each of its objects has a lock (meter/meter.py, export/store.py).
"""

from __future__ import annotations

import logging
import sys

__all__ = ["is_free_threaded", "warn_if_free_threaded"]

_LOG = logging.getLogger(__name__)
_warned = False


def is_free_threaded() -> bool:
    """Whether this interpreter runs without the GIL now (PEP 703)."""
    enabled = getattr(sys, "_is_gil_enabled", None)
    return enabled is not None and not enabled()


def warn_if_free_threaded() -> None:
    """Log one line per process where the GIL is off: counts may be wrong there, the service is not affected."""
    global _warned
    if _warned or not is_free_threaded():
        return
    _warned = True
    _LOG.warning(
        "ecolyzer: this Python runs without the GIL, where measuring has not been tested: requests may be missing "
        "from the counts; set PYTHON_GIL=1, or use a build with the GIL"
    )

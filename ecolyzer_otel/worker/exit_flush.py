"""At exit and at SIGTERM, wait up to 1 s until the last requests are reported.

Where spans are exported, it waits until the requests are settled, because a span ends with its settlement.
Otherwise it is enough that the meter, which outlives the process, has received them: some milliseconds.

- Normal end, Ctrl-C, an uncaught exception, ``sys.exit``: a hook of ``threading``'s shutdown, which runs before
  ``atexit`` (where OpenTelemetry's providers shut down) and also in ``multiprocessing`` children.
- Children of ``multiprocessing`` and of Celery's ``billiard`` that are ended by their pool: a Finalize.
- SIGTERM without a handler (uvicorn re-raises it and never reaches ``atexit``): a handler that flushes, restores
  the default and raises the signal again, so that the exit status is the same.

``os._exit`` and SIGKILL lose at most one reporting period. ``ECOLYZER_EXIT_FLUSH=false`` turns all of this off.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from time import monotonic
from types import FrameType
from typing import Final

from ecolyzer_otel.worker.state import state

__all__ = ["FLUSH_SECONDS", "chain_sigterm", "flush_at_exit", "register"]

FLUSH_SECONDS: Final = 1.0


def flush_at_exit() -> None:
    """Wait until the finished requests are reported, or settled where spans need it, for at most 1 s in all."""
    worker = state().worker
    if worker is not None and state().pid == os.getpid():
        with contextlib.suppress(Exception):
            if worker.exports_spans:
                worker.flush(FLUSH_SECONDS)
            else:
                worker.deliver(FLUSH_SECONDS)


def register() -> None:
    """Flush at exits without a signal. Called when the worker starts, once per process."""
    # Private, but stable since 3.9 and used by concurrent.futures; atexit would be too late for spans.
    hook = getattr(threading, "_register_atexit", None)
    try:
        if hook is None:
            atexit.register(flush_at_exit)
        else:
            hook(flush_at_exit)
    except RuntimeError:
        pass  # the interpreter is shutting down already
    for module in ("multiprocessing.util", "billiard.util"):  # the latter is Celery's
        if module in sys.modules:
            sys.modules[module].Finalize(None, flush_at_exit, exitpriority=100)


def chain_sigterm() -> None:
    """Flush on SIGTERM, if its handler is the default and this is the main thread."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    deadline = monotonic() + FLUSH_SECONDS
    flush_at_exit()
    if state().worker is not None:
        from opentelemetry import trace

        flush = getattr(trace.get_tracer_provider(), "force_flush", None)
        left = deadline - monotonic()
        if flush is not None and left > 0.01:
            # In a thread of its own: an exporter may ignore its timeout.
            thread = threading.Thread(target=flush, args=(int(left * 1000),), daemon=True)
            with contextlib.suppress(RuntimeError):
                thread.start()
                thread.join(left)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)

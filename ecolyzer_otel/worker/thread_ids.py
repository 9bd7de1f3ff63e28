"""Identifiers of threads of the operating system, also under gevent."""

from __future__ import annotations

import _thread
import os
import threading
from typing import Final

from ecolyzer_otel.wire.native import unpatched

__all__ = ["forked", "get_ident", "main_thread"]

#: Returns the identifier of the current thread, not of the greenlet: CPU clocks belong to threads.
get_ident: Final = unpatched("_thread", "get_ident")


def _main_ident() -> int:
    here = unpatched("_thread", "get_native_id")() == os.getpid() if hasattr(_thread, "get_native_id") else False
    return int(get_ident()) if here else threading.main_thread().ident or 0


_main = _main_ident()


def main_thread() -> int:
    """Returns the identifier (``get_ident``) of the main thread, whose kernel number is the PID."""
    return _main


def forked() -> None:
    """In a forked child, set the thread that forked as the main thread."""
    global _main
    _main = int(get_ident())

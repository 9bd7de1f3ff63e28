"""The meter process of one service: beside the command of ``ecolyzer-instrument``, or started by a worker."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import sys
from typing import Any

from ecolyzer_otel.boot.assembly import Setup, prepare
from ecolyzer_otel.boot.private_meter import leave_folder
from ecolyzer_otel.common.config import Config
from ecolyzer_otel.wire.server import Server

__all__ = ["main"]


def main(facts: dict[str, Any]) -> None:
    """Run the meter until the command, what it forked and all workers are gone. Never exits with 3 or 4."""
    # The terminal's Ctrl-C and a supervisor's SIGTERM are meant for the service; the meter ends after it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    config = Config(**facts["config"])
    logging.basicConfig(level=config.log_level.upper(), format="%(message)s", stream=sys.stderr)
    listener = socket.socket(fileno=facts["listener"])
    try:
        setup = prepare(config, early=facts["early"])
        try:
            _report(setup, facts["ready"], config)
            Server(setup.meter, listener, facts["watched"]).run()
        finally:
            setup.close()
    finally:
        leave_folder(facts["folder"])
    # All is flushed and released. The shutdown of the interpreter would take longer than draining did.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(0)


def _report(setup: Setup, ready: int, config: Config) -> None:
    """Print the start line and the problems; report to a strict launcher whether the meter refuses to run."""
    refused = config.strict and bool(setup.problems)
    with contextlib.suppress(OSError):  # the service's stderr may be closed
        for problem in setup.problems:
            print(f"ecolyzer: {problem}", file=sys.stderr)
        if not refused:
            print(setup.line(), file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):  # the launcher may not be waiting
        os.write(ready, json.dumps({"refused": refused}).encode())
    os.close(ready)
    if refused:
        raise SystemExit(1)

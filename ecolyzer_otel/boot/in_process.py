"""The meter as a thread of this process."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from typing import TYPE_CHECKING

from ecolyzer_otel.boot.start_worker import begin_worker, socket_worker
from ecolyzer_otel.common.config import Config, load
from ecolyzer_otel.worker.state import BackgroundThread, State

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

    from ecolyzer_otel.boot.assembly import Setup
    from ecolyzer_otel.wire.native import Waker
    from ecolyzer_otel.wire.server import Server

__all__ = ["InProcessMeter", "own_meter", "running"]

_LOG = logging.getLogger(__name__)


def own_meter(here: State) -> BackgroundThread | None:
    """Start the meter as a thread, where no process can be started (macOS, Windows, no folder to write in)."""
    running.begin(load().config, None, here)
    return here.worker


class InProcessMeter:
    """The meter that runs as a thread of this process, and serves the processes that are forked from it."""

    def __init__(self) -> None:
        self.setup: Setup | None = None
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self._waker: Waker | None = None
        self._pid = 0

    @property
    def alive(self) -> bool:
        """Whether the meter runs in this very process."""
        return self.setup is not None and self._pid == os.getpid()

    def begin(self, config: Config, meter_provider: MeterProvider | None, here: State) -> Setup:
        """Start the meter, its server and the background thread of this process."""
        from ecolyzer_otel.boot.assembly import prepare
        from ecolyzer_otel.boot.local_link import LocalLink
        from ecolyzer_otel.wire.native import Waker
        from ecolyzer_otel.wire.server import Server

        setup = prepare(config, single_worker=True)
        if meter_provider is not None:
            from ecolyzer_otel.export.bridge import MeterProviderBridge

            try:
                setup.export(MeterProviderBridge(setup.meter.store, meter_provider=meter_provider))
            except Exception:
                setup.close()
                raise
        self.setup, self._pid = setup, os.getpid()
        for problem in setup.problems:
            _LOG.warning("ecolyzer: %s", problem)
        listener, address = _listen_abstractly()
        self._server = Server(setup.meter, listener, [], user=os.getuid() if listener else None)
        self._waker = Waker()
        self._server.wake_on(self._waker.descriptor)
        setup.meter.pace.wake = self._waker.wake
        self._thread = threading.Thread(target=self._server.run, name="ecolyzer-meter", daemon=True)
        self._thread.start()
        begin_worker(here, LocalLink(setup.meter), config)
        # Processes that are forked from this one report to this meter, too.
        here.start_worker = own_meter if address is None else lambda child: socket_worker(child, address, config)
        return setup

    def forked(self) -> None:
        """In the parent, after a fork: this process may no longer be the only worker."""
        if self.setup is not None:
            self.setup.meter.forked()

    def end(self, timeout: float) -> None:
        """Settle the finished requests and end the meter."""
        setup, self.setup = self.setup, None
        if setup is None or self._server is None or self._waker is None or self._thread is None:
            return
        setup.close()
        self._server.stop()
        self._waker.wake()
        self._thread.join(timeout)
        self._server.close_all()
        self._waker.close()


def _listen_abstractly() -> tuple[socket.socket | None, str | None]:
    """A socket with a name in the kernel's abstract namespace, which needs no file; None outside Linux."""
    if not sys.platform.startswith("linux"):
        return None, None
    address = f"\0ecolyzer-{os.getpid()}-{os.urandom(8).hex()}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(address)
        listener.listen(64)
    except OSError:
        listener.close()
        return None, None
    return listener, address


running = InProcessMeter()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=running.forked)

"""The background thread of this process, for each way to reach a meter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecolyzer_otel.common.config import Config
from ecolyzer_otel.worker.exit_flush import register
from ecolyzer_otel.worker.state import State

if TYPE_CHECKING:
    from ecolyzer_otel.wire.link import Link
    from ecolyzer_otel.worker.background_thread import Worker

__all__ = ["begin_worker", "private_worker", "socket_worker"]


def socket_worker(here: State, address: str, config: Config) -> Worker:
    """Report to the meter that listens on ``address``."""
    from ecolyzer_otel.wire.link import SocketLink

    return begin_worker(here, SocketLink(address), config)


def private_worker(here: State, folder: str, config: Config) -> Worker:
    """Report to the meter of this service, which is started where it does not run."""
    from ecolyzer_otel.boot.private_meter import PrivateMeter
    from ecolyzer_otel.wire.link import PrivateLink

    return begin_worker(here, PrivateLink(PrivateMeter(folder, config)), config)


def begin_worker(here: State, link: Link, config: Config) -> Worker:
    """Start the background thread."""
    from ecolyzer_otel.worker.background_thread import Worker

    worker = Worker(here, link)
    here.worker = worker
    if config.exit_flush:
        register()
    worker.start()
    return worker

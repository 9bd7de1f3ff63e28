"""Which meter this process reports to."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ecolyzer_otel.boot.start_worker import private_worker, socket_worker
from ecolyzer_otel.common.config import Config, load
from ecolyzer_otel.worker import fork  # noqa: F401 - registers what runs in forked children
from ecolyzer_otel.worker.exit_flush import chain_sigterm
from ecolyzer_otel.worker.gil import warn_if_free_threaded
from ecolyzer_otel.worker.model_names import use_rules
from ecolyzer_otel.worker.state import BackgroundThread, State, state
from ecolyzer_otel.worker.training import count_training

__all__ = ["activate"]


def activate() -> None:
    """Make this process report at its first request: to the node agent, else to the meter that its service shares.

    Cheap, and opens nothing. Called again it changes nothing.
    """
    here = state()
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return
    warn_if_free_threaded()
    if here.start_worker is None:
        config = load().config
        here.start_worker = _worker_starter(config)
        count_training(config.count_training)
        use_rules(config.model_names)
        if config.exit_flush:
            chain_sigterm()


def _worker_starter(config: Config) -> Callable[[State], BackgroundThread | None]:
    """What starts the worker: it reports to the agent, else to the service's own meter, else to one in a thread."""
    from ecolyzer_otel.boot.private_meter import FOLDER, agent_socket, announce_folder

    address = agent_socket(config)
    folder = os.environ.get(FOLDER)
    if address and (folder is None or os.path.dirname(address) != folder):
        return lambda here: socket_worker(here, address, config)
    if hasattr(os, "posix_spawn") and sys.platform != "darwin":
        folder = announce_folder()
        if folder is not None:
            return lambda here: private_worker(here, folder, config)
    from ecolyzer_otel.boot.in_process import own_meter

    return own_meter

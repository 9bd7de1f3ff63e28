"""Which meter this process reports to."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from ecolyzer_otel.boot.in_process import own_meter
from ecolyzer_otel.boot.start_worker import private_worker, socket_worker
from ecolyzer_otel.common.config import Config, load
from ecolyzer_otel.worker.exit_flush import chain_sigterm
from ecolyzer_otel.worker.gil import warn_if_free_threaded
from ecolyzer_otel.worker.model_names import use_rules
from ecolyzer_otel.worker.state import State, state
from ecolyzer_otel.worker.training import count_training

if TYPE_CHECKING:
    from ecolyzer_otel.worker.background_thread import Worker

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
        here.start_worker = _chosen_meter(config)
        count_training(config.count_training)
        use_rules(config.model_names)
        if config.exit_flush:
            chain_sigterm()


def _chosen_meter(config: Config) -> Callable[[State], Worker]:
    """How a worker of this process finds its meter: the agent, the service's own, or as a last resort a thread."""
    from ecolyzer_otel.boot.private_meter import FOLDER, agent_socket, announce_folder

    address = agent_socket(config)
    folder = os.environ.get(FOLDER)
    if address and (folder is None or os.path.dirname(address) != folder):
        return lambda here: socket_worker(here, address, config)
    if not hasattr(os, "posix_spawn") or sys.platform == "darwin":
        return own_meter
    folder = announce_folder()
    return own_meter if folder is None else lambda here: private_worker(here, folder, config)

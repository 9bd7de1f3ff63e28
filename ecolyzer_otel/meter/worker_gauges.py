"""Gauges of the connected workers and their pending requests."""

from __future__ import annotations

from collections.abc import Sequence

from ecolyzer_otel.common.metrics import Metric
from ecolyzer_otel.export.store import MetricStore
from ecolyzer_otel.meter.client import Client

__all__ = ["WorkerGauges"]


class WorkerGauges:
    """Shows the workers and the pending requests of each service, and the number of meters on the host.

    Args:
        store: holds the gauges.
    """

    def __init__(self, store: MetricStore) -> None:
        self._store = store
        self._pending: set[str] = set()
        self._workers: set[tuple[str, str]] = set()

    def show(self, clients: Sequence[Client], meters: int) -> None:
        """Show the present state; ``meters`` is the number of meters on the host."""
        pending: dict[str, int] = dict.fromkeys(self._pending, 0)
        workers: dict[tuple[str, str], int] = dict.fromkeys(self._workers, 0)
        for client in clients:
            pending[client.service] = pending.get(client.service, 0) + client.pending
            place = client.service, client.peer.container
            workers[place] = workers.get(place, 0) + client.active
        for service, number in pending.items():
            self._store.gauge(Metric.PENDING_REQUESTS, (service,)).set(number)
        for place, number in workers.items():
            self._store.gauge(Metric.WORKERS, place).set(number)
        self._store.gauge(Metric.HOST_METERS, ()).set(meters)
        # A worker that has left is shown as 0 once and then dropped here, so that old names do not add up.
        self._pending = {client.service for client in clients}
        self._workers = {(client.service, client.peer.container) for client in clients}

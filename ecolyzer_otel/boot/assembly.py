"""Puts a meter together from a configuration: sensors, place, store, exposition, OTLP."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from time import monotonic, sleep
from typing import Any, Final

from ecolyzer_otel.boot.factor_sources import embodied_parts, find_place, open_timeline
from ecolyzer_otel.common.config import Config
from ecolyzer_otel.common.errors import ConfigError, EcolyzerError
from ecolyzer_otel.export.exporter import Exporter
from ecolyzer_otel.export.http import MetricsServer
from ecolyzer_otel.export.journal import Journal
from ecolyzer_otel.export.otlp import OtlpMetricsExporter, configured
from ecolyzer_otel.export.store import MetricStore
from ecolyzer_otel.impact.timeline import Timeline
from ecolyzer_otel.meter import Meter
from ecolyzer_otel.sensors import Discovery, Scope, discover
from ecolyzer_otel.version import __version__

__all__ = ["Setup", "prepare"]


#: Age in seconds up to which the node agent serves the same page: no service can read its counters faster.
_PAGE_SECONDS: Final = 1.0
#: Seconds during which a port in use is retried.
_PORT_SECONDS: Final = 1.0


@dataclass(slots=True)
class Setup:
    """The parts of a running meter, and the problems found on the way."""

    meter: Meter
    timeline: Timeline
    discovery: Discovery
    #: Where ``/metrics`` is served; None where the port could not be bound.
    metrics_url: str | None = None
    problems: list[EcolyzerError] = field(default_factory=list)
    _exporters: list[Exporter] = field(default_factory=list)

    def export(self, exporter: Exporter) -> None:
        """Start an exporter, which :meth:`close` stops."""
        exporter.start()
        self._exporters.append(exporter)

    def line(self) -> str:
        """The start line: sensors, place, and the address of /metrics."""
        look = self.metrics_url or "no /metrics"
        return f"ecolyzer: {self.discovery.describe()} | {self.meter.place.describe()} | {look}"

    def close(self) -> None:
        """Settle, export, and release ports and descriptors."""
        self.meter.close()
        for exporter in reversed(self._exporters):
            exporter.stop()
        # Last: a request to a live source must not delay the export.
        self.timeline.close()


def prepare(
    config: Config, *, single_worker: bool = False, early: dict[str, Any] | None = None, shared: bool = False
) -> Setup:
    """Returns a meter that is ready for calls of its ``tick``.

    Args:
        config: the settings. A zone, sensor file or port that cannot be used is noted in ``problems``, and the
            world average, the modelled CPU or no port is used instead.
        single_worker: this process is the only worker.
        early: readings from before, as :func:`ecolyzer_otel.boot.first_readings.take` gave them.
        shared: the meter of a node, which serves many services (:mod:`ecolyzer_otel.boot.agent`).
    """
    problems: list[EcolyzerError] = []
    # The control group of an agent is not that of its services, which run anywhere on the host.
    discovery = _discover(config, problems, "host" if shared else None)
    timeline = open_timeline(config, find_place(config, problems), problems)
    embodied = embodied_parts(config, [sensor.info for sensor in discovery.sensors], problems)
    timeline.start()
    store = MetricStore(max_label_sets=config.max_label_sets)
    meter = Meter(
        config,
        discovery,
        timeline,
        store,
        embodied=embodied,
        single_worker=single_worker,
        early=early,
        shared=shared,
    )
    setup = Setup(meter, timeline, discovery, problems=problems)
    _keep_journal(config, setup, store)
    _serve(config, setup, store, _PAGE_SECONDS if shared else 0.0)
    return setup


def _discover(config: Config, problems: list[EcolyzerError], scope: Scope | None) -> Discovery:
    try:
        discovery = discover(config, scope=scope)
    except ConfigError as error:
        problems.append(error)
        discovery = discover(replace(config, sensors="modelled"), scope=scope)
    for absence in discovery.absences:
        if absence.worth_reporting:
            problems.append(ConfigError(f"sensor {absence.name}", absence.message, absence.remedy))
    return discovery


def _keep_journal(config: Config, setup: Setup, store: MetricStore) -> None:
    if config.journal is None:
        return
    try:
        facts = {"version": __version__, "host": socket.gethostname()}
        setup.export(Journal(store, folder=config.journal, keep_days=config.journal_days, facts=facts))
    except ConfigError as error:
        setup.problems.append(error)


def _serve(config: Config, setup: Setup, store: MetricStore, page_seconds: float) -> None:
    meter = setup.meter
    try:
        server = _listen(config, store, meter, page_seconds)
        setup.export(server)
        setup.metrics_url = f"{server.url}/metrics"
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        setup.problems.append(
            ConfigError(
                "--port (ECOLYZER_PORT)" if not _is_address_fault(error) else "--host (ECOLYZER_HOST)",
                f"/metrics cannot be served on {config.host}:{config.port} ({reason})",
                "give another one, or port 0 for any free one",
            )
        )
    if configured(os.environ):
        setup.export(OtlpMetricsExporter(store, resource_attributes=_resource()))


def _listen(config: Config, store: MetricStore, meter: Meter, page_seconds: float) -> MetricsServer:
    """Bind the port; wait a moment for one that the meter of a service just restarted is about to release."""
    deadline = monotonic() + _PORT_SECONDS
    while True:
        try:
            return MetricsServer(
                store, host=config.host, port=config.port, health=meter.health,
                page_seconds=page_seconds, version=lambda: meter.flushes,
            )  # fmt: skip
        except OSError as error:
            if error.errno != errno.EADDRINUSE or monotonic() > deadline:
                raise
            sleep(0.05)


def _is_address_fault(error: BaseException) -> bool:
    return isinstance(error, socket.gaierror) or getattr(error, "errno", None) == errno.EADDRNOTAVAIL


def _resource() -> dict[str, str]:
    from opentelemetry.sdk.resources import Resource

    attributes: Mapping[str, Any] = Resource.create({"telemetry.distro.name": "ecolyzer-otel"}).attributes
    return {key: str(value) for key, value in attributes.items()} | {"telemetry.distro.version": __version__}

"""The variants of the service, and a started service."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service_lib import kernel
from service_lib.load import get

APP = Path(__file__).parent / "app"
INSTRUMENT = str(Path(sys.executable).parent / "ecolyzer-instrument")
_EXPORT = {"OTEL_TRACES_EXPORTER": "bench_null"}


@dataclass(frozen=True)
class Variant:
    """One way to start the service.

    ``measured``: under ``ecolyzer-instrument``. ``shared``: its meter runs on the core of the service.
    """

    name: str
    about: str
    measured: bool = False
    shared: bool = False
    variables: dict[str, str] = field(default_factory=dict)


VARIANTS = {
    one.name: one
    for one in (
        Variant("bare", "the service as it is"),
        Variant("bare-again", "the same again: shows the noise"),
        Variant("otel", "OpenTelemetry SDK and FastAPI spans, every request traced", variables={"BENCH_OTEL": "1"}),
        Variant(
            "otel-span", "the same, with a bare span around the model: the cost of manual spans",
            variables={"BENCH_OTEL": "1", "BENCH_SPAN": "1"},
        ),
        Variant("metrics", "ours, nothing traced or exported", True),
        Variant("traced", "ours, FastAPI spans, every request traced", True, variables=_EXPORT),
        Variant("metrics/1", "as metrics, the meter on the service's core", True, True),
        Variant("traced/1", "as traced, the meter on the service's core", True, True, _EXPORT),
    )
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def plugins() -> Iterator[str]:
    """Folders for ``PYTHONPATH`` that register the null exporter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "bench_null-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-null\nVersion: 1\n")
        group = "[opentelemetry_traces_exporter]\nbench_null = null_exporter:NullSpanExporter\n"
        (folder / "entry_points.txt").write_text(group)
        yield os.pathsep.join((name, str(APP)))


def environment(variant: Variant, folders: str) -> dict[str, str]:
    """The environment variables of a variant, without inherited settings of OpenTelemetry and ecolyzer."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "ECOLYZER_"))}
    return kept | {"PYTHONPATH": folders, "OMP_NUM_THREADS": "1"} | variant.variables


class Service:
    """A started service, and the meter beside it.

    Args:
        variant: how it is started.
        folders: ``PYTHONPATH``.
        rounds: rounds of the busy loop in a request.
        core: the core of the service; None for all cores.
        other: the core of the meter.
    """

    def __init__(
        self, variant: Variant, folders: str, rounds: int, core: int | None = None, other: int | None = None
    ) -> None:
        self.variant = variant
        self.port, self.metrics_port = free_port(), free_port()
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by stop()
        command = [sys.executable, str(APP / "serve.py"), "--port", str(self.port), "--rounds", str(rounds)]
        if variant.measured:
            options = ["--port", str(self.metrics_port), "--zone", "FR", "--cloud-metadata", "off"]
            command = [INSTRUMENT, *options, "--agent-socket", "none", *command]
        if core is not None:
            command = ["taskset", "-c", str(core), *command]
        self.began = time.perf_counter()
        self._process = subprocess.Popen(
            command, env=environment(variant, folders), stderr=self.log, stdout=self.log, start_new_session=True
        )
        self.pid = self._process.pid
        self.meter: int | None = None
        self._other = core if variant.shared else other

    def first_answer(self, path: str = "/predict", patience: float = 60.0) -> float:
        """Wait for the first response; returns the seconds since the start of the command."""
        while time.perf_counter() - self.began < patience:
            if self._process.poll() is not None:
                raise SystemExit(f"{self.variant.name}: the service ended\n{self.last_output()}")
            with contextlib.suppress(OSError):
                if get(self.port, path):
                    return time.perf_counter() - self.began
            time.sleep(0.001)
        raise SystemExit(f"{self.variant.name}: no response within {patience:g} s\n{self.last_output()}")

    def find_meter(self) -> None:
        """Find the meter and pin it to its core."""
        if not self.variant.measured:
            return
        deadline = time.monotonic() + 20
        while self.meter is None or not self._meter_answers():
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.variant.name}: no meter was found\n{self.last_output()}")
            time.sleep(0.05)
            self.meter = kernel.find_meter(self.pid)
        if self._other is not None:
            kernel.pin(self.meter, self._other)

    def _meter_answers(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(get(self.metrics_port, "/healthz"))
        return False

    def metric(self, name: str) -> float:
        """The sum of one metric over its labels, from ``/metrics``."""
        total = 0.0
        for line in get(self.metrics_port, "/metrics").decode().splitlines():
            if re.match(rf"{name}(\{{|\s)", line):
                total += float(line.rpartition(" ")[2])
        return total

    def last_output(self) -> str:
        """The end of its output."""
        self.log.seek(0)
        return self.log.read()[-2000:]

    def stop(self) -> None:
        """Stop the service, and wait until its meter has ended."""
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        deadline = time.monotonic() + 10
        while kernel.find_meter(self.pid) is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        self.log.close()


@contextlib.contextmanager
def started(
    names: Sequence[str], folders: str, rounds: int, core: int | None, other: int | None
) -> Iterator[dict[str, Service]]:
    """Started services that have answered a first request, by the name of their variant."""
    services: dict[str, Service] = {}
    try:
        for name in names:
            services[name] = service = Service(VARIANTS[name], folders, rounds, core, other)
            service.first_answer()
            service.find_meter()
        yield services
    finally:
        for service in services.values():
            service.stop()

"""Reads the sensors of a meter: joules, temperatures, and who was busy on them."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns, time
from typing import Any, Final

from ecolyzer_otel.ledger import Ledger
from ecolyzer_otel.names import Metric
from ecolyzer_otel.sensors import Discovery, Sensor, SensorError
from ecolyzer_otel.telemetry.store import MetricStore
from ecolyzer_otel.thermal import Thermal

__all__ = ["Sampler"]

#: A process that a GPU no longer tells of is forgotten after this long: its intervals are closed by then.
_FORGET_NS: Final = 60_000_000_000


class Sampler:
    """The sensors of one meter and what they last said.

    Args:
        discovery: the sensors and the host's CPU clock.
        ledger: readings go here.
        store: gauges and faults go here.
        number_of: the ledger's number of a worker by its PID; None for a process that is none.
    """

    def __init__(
        self, discovery: Discovery, ledger: Ledger, store: MetricStore, number_of: Callable[[int], int | None]
    ) -> None:
        self.sensors: dict[str, Sensor] = {sensor.info.id: sensor for sensor in discovery.sensors}
        self.thermal = Thermal()
        self._host = discovery.host
        self._ledger = ledger
        self._store = store
        self._number_of = number_of
        self._faults: dict[tuple[str, str], int] = {}
        self._strangers: dict[int, int] = {}
        for sensor in discovery.sensors:
            info = sensor.info
            labels = info.id, info.component
            store.gauge(Metric.SENSOR_UP, (info.id, info.method)).set(0)
            _set_if_known(store, Metric.DEVICE_POWER_LIMIT, labels, info.power_limit_watts)
            _set_if_known(store, Metric.DEVICE_TEMPERATURE_LIMIT, labels, info.temperature_limit_celsius)

    def sample(self) -> None:
        """Read everything once."""
        self._sample_host()
        for name, sensor in self.sensors.items():
            self._sample(name, sensor)

    def _sample(self, name: str, sensor: Sensor) -> None:
        info = sensor.info
        try:
            reading = sensor.read()
        except SensorError as error:
            self._fault(name, error.reason)
            self._store.gauge(Metric.SENSOR_UP, (name, info.method)).set(0)
            return
        self._ledger.sample(name, reading.t_ns, reading.joules)
        self._store.gauge(Metric.SENSOR_UP, (name, info.method)).set(1)
        self._store.gauge(Metric.SENSOR_LAST_SAMPLE, (name, info.method)).set(time())
        _set_if_known(self._store, Metric.DEVICE_UTILIZATION, (name, info.component), reading.utilization)
        celsius = sensor.celsius()
        if celsius is not None:
            self.thermal.add(name, reading.t_ns, celsius)
            self._store.gauge(Metric.DEVICE_TEMPERATURE, (name, info.component)).set(celsius)
        self._sample_usage(name, sensor, reading.t_ns)

    def _sample_host(self) -> None:
        now = monotonic_ns()
        try:
            busy = self._host.busy_seconds()
        except (OSError, ValueError, SensorError):
            self._fault("host-cpu", "io")
            return
        self._ledger.activity.host.add(now, busy)

    def _sample_usage(self, name: str, sensor: Sensor, t_ns: int) -> None:
        """Who uses a GPU: workers by their number, everybody else as a stranger, which is host."""
        usage = sensor.usage()
        if usage is None:
            return
        activity = self._ledger.activity
        if usage.busy_seconds is not None:
            activity.add_device(name, t_ns, usage.busy_seconds)
        for pid, seconds in usage.processes.items():
            number = self._number_of(pid)
            if number is None:
                number = -pid  # workers have positive numbers
                self._strangers[number] = t_ns
            activity.add_process(number, name, t_ns, seconds)
        for number in [number for number, seen in self._strangers.items() if t_ns - seen > _FORGET_NS]:
            del self._strangers[number]
            activity.forget_process(number)

    def _fault(self, sensor: str, reason: str) -> None:
        self._store.counter(Metric.SENSOR_ERRORS, (sensor, reason)).inc()

    def show(self) -> None:
        """Bring gauges of power and counts of faults up to date with the ledger."""
        for name, book in self._ledger.books.items():
            if book.last is not None:
                watts = book.last.joules / max(1e-9, (book.last.end_ns - book.last.start_ns) / 1e9)
                component = self.sensors[name].info.component
                self._store.gauge(Metric.DEVICE_POWER, (name, component)).set(watts)
            for reason, number in book.counter.faults.items():
                seen = self._faults.get((name, reason), 0)
                self._store.counter(Metric.SENSOR_ERRORS, (name, reason)).inc(number - seen)
                self._faults[name, reason] = number

    def heat(self, device: str, start_ns: int, end_ns: int) -> tuple[float, float] | None:
        """Mean and maximum temperature over a request on ``device``, in degrees Celsius, if known."""
        kind = "cpu" if device == "cpu" else "gpu"
        sensors = [name for name, sensor in self.sensors.items() if sensor.info.component == kind]
        return self.thermal.over(sensors, start_ns, end_ns)

    def close(self) -> None:
        """Give every descriptor back."""
        for sensor in self.sensors.values():
            sensor.close()


def _set_if_known(store: MetricStore, spec: Any, labels: tuple[str, ...], value: float | None) -> None:
    if value is not None:
        store.gauge(spec, labels).set(value)

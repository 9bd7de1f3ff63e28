"""Reads the sensors of a meter, each at its own pace: joules, temperatures, throttling and use by processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import monotonic_ns, time
from typing import Any, Final, NamedTuple

from ecolyzer_otel.common.metrics import Metric
from ecolyzer_otel.export.store import MetricStore
from ecolyzer_otel.ledger import Ledger, SensorSpec
from ecolyzer_otel.meter.placement import Placement
from ecolyzer_otel.meter.schedule import REST_PERIOD, Schedule, Urgency
from ecolyzer_otel.meter.temperatures import Temperatures
from ecolyzer_otel.meter.throttling import Throttling
from ecolyzer_otel.sensors import Discovery, Reading, Sensor, SensorError, SensorInfo

__all__ = ["Sampler", "ThermalConditions", "sensor_spec"]

_LOG = logging.getLogger(__name__)

#: A process that a GPU no longer reports is dropped after this long: its intervals are closed by then.
_FORGET_NS: Final = 60_000_000_000


class ThermalConditions(NamedTuple):
    """Temperatures and throttling over the time of a request.

    Attributes:
        own: mean and maximum in degrees Celsius of the component that it ran on, the hottest of several.
        devices: mean and maximum in degrees Celsius by device.
        throttled: the part of its time, 0 to 1, during which a device was throttled; None if unknown.
        reasons: why.
    """

    own: tuple[float, float] | None
    devices: dict[str, tuple[float, float]]
    throttled: float | None
    reasons: list[str]


#: Of a request whose sensors report neither.
_UNKNOWN: Final = ThermalConditions(None, {}, None, [])


class Sampler:
    """The sensors of one meter, and the state of each.

    Args:
        discovery: the sensors and the host's CPU clock.
        ledger: receives the readings.
        store: receives gauges, and counts of faults.
        workers: returns the ledger's number and the PID of each worker.
        sampling_period: seconds between readings under load, as configured.
        sysfs: root of sysfs.
    """

    def __init__(
        self,
        discovery: Discovery,
        ledger: Ledger,
        store: MetricStore,
        workers: Callable[[], Sequence[tuple[int, int]]],
        sampling_period: float,
        sysfs: str = "/sys",
    ) -> None:
        self.sensors: dict[str, Sensor] = {sensor.info.id: sensor for sensor in discovery.sensors}
        self._temperatures = Temperatures()
        self._throttling = Throttling()
        self._schedules = {sensor.info.id: Schedule(sensor.info, sampling_period) for sensor in discovery.sensors}
        #: Reasons of the sensors that give no readings at present.
        self._down: dict[str, str] = {}
        self._logged: set[tuple[str, str]] = set()
        self._host = discovery.host
        self._ledger = ledger
        self._store = store
        self._workers = workers
        self._placement = Placement(self.sensors, sysfs)
        self._faults: dict[tuple[str, str, str], int] = {}
        self._foreign: dict[int, int] = {}
        for sensor in discovery.sensors:
            info = sensor.info
            labels = info.id, info.component
            store.gauge(Metric.SENSOR_UP, (info.id, info.method)).set(0)
            store.gauge(Metric.SENSOR_UNCERTAINTY, (info.id, info.method)).set(info.relative_uncertainty)
            _set_if_available(store, Metric.DEVICE_POWER_LIMIT, labels, info.power_limit_watts)
            _set_if_available(store, Metric.DEVICE_TEMPERATURE_LIMIT, labels, info.temperature_limit_celsius)

    def sample(self, now: float, urgency: Urgency, quiet_seconds: float = 0.0, *, everything: bool = False) -> None:
        """Read the sensors that are due.

        Args:
            now: seconds of the same clock as :meth:`next_due`.
            urgency: how urgent readings are.
            quiet_seconds: seconds since the last work or new worker.
            everything: read every sensor, due or not.
        """
        due = [
            name for name in self.sensors if everything or self._schedules[name].is_due(now, urgency, quiet_seconds)
        ]
        if due or not self.sensors:
            # The host's CPU clock is read with every sensor, because it is compared with each.
            self._sample_host()
        for name in due:
            self._sample(name, now)

    def next_due(self, now: float, urgency: Urgency, quiet_seconds: float = 0.0) -> float:
        """Returns when the next sensor is due."""
        return min((one.due(urgency, quiet_seconds) for one in self._schedules.values()), default=now + REST_PERIOD)

    def _sample(self, name: str, now: float) -> None:
        sensor, schedule = self.sensors[name], self._schedules[name]
        try:
            reading = sensor.read()
        except SensorError as error:
            schedule.failed(now)
            self._failed(name, error)
        else:
            schedule.succeeded(now, reading.t_ns, reading.joules)
            self._apply(name, sensor, reading)
        self._count_faults(name, "sensor", sensor.faults())

    def _apply(self, name: str, sensor: Sensor, reading: Reading) -> None:
        info = sensor.info
        if self._schedules[name].adapt(info):
            self._ledger.revise(sensor_spec(info))  # less certain from now on
            self._store.gauge(Metric.SENSOR_UNCERTAINTY, (name, info.method)).set(info.relative_uncertainty)
        self._ledger.sample(name, reading.t_ns, reading.joules)
        if self._down.pop(name, None) is not None:
            _LOG.info("ecolyzer: sensor %s gives readings again", name)
        self._store.gauge(Metric.SENSOR_UP, (name, info.method)).set(1)
        self._store.gauge(Metric.SENSOR_LAST_SAMPLE, (name, info.method)).set(time())
        _set_if_available(self._store, Metric.DEVICE_UTILIZATION, (name, info.component), reading.utilization)
        celsius = sensor.celsius()
        if celsius is not None:
            self._temperatures.add(name, reading.t_ns, celsius)
            self._store.gauge(Metric.DEVICE_TEMPERATURE, (name, info.component)).set(celsius)
        for reason, seconds in self._throttling.add(name, reading.t_ns, sensor.throttled()).items():
            self._store.counter(Metric.DEVICE_THROTTLED, (name, reason)).inc(seconds)
        self._sample_usage(name, sensor, reading.t_ns)

    def _failed(self, name: str, error: SensorError) -> None:
        """Count a failed reading by its reason; announce a lost sensor once."""
        self._count_error(name, error.reason)
        self._store.gauge(Metric.SENSOR_UP, (name, self.sensors[name].info.method)).set(0)
        self._throttling.sensor_lost(name)
        if name not in self._down and error.reason != "ended":
            self._ledger.announce(name, "lost")
        self._down[name] = error.reason
        # The end of a recording is no fault; a fault that comes and goes is logged once.
        if error.reason != "ended" and (name, error.reason) not in self._logged:
            self._logged.add((name, error.reason))
            _LOG.warning("ecolyzer: sensor %s gives no readings: %s", name, error)

    def _count_faults(self, name: str, finder: str, faults: Mapping[str, int]) -> None:
        """Count faults that did not fail a reading; ``finder`` found them."""
        for reason, number in faults.items():
            seen = self._faults.get((finder, name, reason), 0)
            if number > seen:
                self._store.counter(Metric.SENSOR_ERRORS, (name, reason)).inc(number - seen)
                self._faults[finder, name, reason] = number

    def _sample_host(self) -> None:
        now = monotonic_ns()
        try:
            busy = self._host.busy_seconds()
        except (OSError, ValueError, SensorError):
            self._count_error("host-cpu", "io")
            return
        self._ledger.activity.host.add(now, busy)
        self._placement.sample(now, self._ledger.activity, self._workers())

    def _sample_usage(self, name: str, sensor: Sensor, t_ns: int) -> None:
        """Report the use of a GPU to the ledger: workers by their number, other processes as part of the host."""
        usage = sensor.usage()
        if usage is None:
            return
        activity = self._ledger.activity
        if usage.busy_seconds is not None:
            activity.add_device(name, t_ns, usage.busy_seconds)
        # Of several connections of one process the first, so that its use is not counted twice.
        numbers = {pid: number for number, pid in reversed(self._workers())} if usage.processes else {}
        for pid, seconds in usage.processes.items():
            number = numbers.get(pid)
            if number is None:
                number = -pid  # workers have positive numbers
                self._foreign[number] = t_ns
            activity.add_process(number, name, t_ns, seconds)
        for number in [number for number, seen in self._foreign.items() if t_ns - seen > _FORGET_NS]:
            del self._foreign[number]
            activity.forget_process(number)

    def _count_error(self, sensor: str, reason: str) -> None:
        self._store.counter(Metric.SENSOR_ERRORS, (sensor, reason)).inc()

    def show(self) -> None:
        """Update the gauges of power, and the counts of faults that the ledger found."""
        for name, book in self._ledger.sensors.items():
            if book.last is not None:
                watts = book.last.joules / max(1e-9, (book.last.end_ns - book.last.start_ns) / 1e9)
                component = self.sensors[name].info.component
                self._store.gauge(Metric.DEVICE_POWER, (name, component)).set(watts)
            self._count_faults(name, "ledger", book.counter.faults)

    def conditions(self, device: str, charged: Sequence[str], start_ns: int, end_ns: int) -> ThermalConditions:
        """Returns temperatures and throttling over the time of a request.

        Args:
            device: the device of the model: ``cpu``, or a GPU.
            charged: the sensors that charge the request, that of the device among them.
            start_ns: begin of the request.
            end_ns: its end.
        """
        if not (self._temperatures.has_any(charged) or self._throttling.has_any(charged)):
            return _UNKNOWN
        kind = "cpu" if device == "cpu" else "gpu"
        own = [name for name in charged if self.sensors[name].info.component == kind]
        found = {name: self._temperatures.over((name,), start_ns, end_ns) for name in charged}
        devices = {name: one for name, one in found.items() if one is not None}
        hottest = max((devices[name] for name in own if name in devices), default=None)
        share = self._throttling.share(charged, start_ns, end_ns)
        reasons = self._throttling.reasons(charged, start_ns, end_ns) if share else []
        return ThermalConditions(hottest, devices, share, reasons)

    def close(self) -> None:
        """Close all sensors."""
        for sensor in self.sensors.values():
            sensor.close()


def _set_if_available(store: MetricStore, spec: Any, labels: tuple[str, ...], value: float | None) -> None:
    if value is not None:
        store.gauge(spec, labels).set(value)


def sensor_spec(info: SensorInfo) -> SensorSpec:
    """Returns the properties of a sensor that the ledger uses."""
    spec = SensorSpec(
        id=info.id,
        component=info.component,
        method=info.method,
        idle_watts=info.idle_watts,
        idle_prior_watts=info.idle_prior_watts,
        wrap_joules=info.wrap_joules,
        relative_uncertainty=info.relative_uncertainty,
    )
    # Above its limit a processor may draw for a while (PL2), a GPU for milliseconds; limits may be raised later.
    factor = 1.5 if info.component == "gpu" else 2.0
    limits = [factor * watts for watts in (info.power_limit_watts, info.peak_watts) if watts]
    return replace(spec, max_watts=max(limits)) if limits else spec

"""The meter: sensors, sampler, ledger, impact and metrics, for every worker of a host.

The same object runs as a thread of the service (:func:`ecolyzer_otel.start`), as a process beside it
(``ecolyzer-instrument``) and, later, as a node daemon; only who calls :meth:`Meter.tick` and how clients reach
:meth:`Meter.hear` differs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic, monotonic_ns, process_time, thread_time, time
from typing import Any, Final, cast

from ecolyzer_otel.agent.client import Client, can_be
from ecolyzer_otel.agent.protocol import (
    VERSION,
    Batch,
    Done,
    Flush,
    Flushed,
    FromWorker,
    Hello,
    Open,
    PlaceFacts,
    Settled,
    Settlements,
    Welcome,
)
from ecolyzer_otel.config import Config
from ecolyzer_otel.early import apply
from ecolyzer_otel.errors import ProtocolError
from ecolyzer_otel.impact import Place
from ecolyzer_otel.ledger import Ledger, Record, SensorSpec, Settlement
from ecolyzer_otel.names import Metric
from ecolyzer_otel.sensors import Discovery, Sensor, SensorError
from ecolyzer_otel.telemetry.record import Recorder
from ecolyzer_otel.telemetry.store import MetricStore
from ecolyzer_otel.thermal import Thermal

__all__ = ["Meter"]

_LOG = logging.getLogger(__name__)

#: A worker that says nothing for this long no longer keeps intervals open.
_PATIENCE_NS: Final = 2_000_000_000
#: A worker that nobody knows of yet, or that was quiet, is heard of this long after its first call at most.
_GRACE_NS: Final = 400_000_000
#: A request is settled this long after its end, whatever a sensor does.
_OVERDUE_NS: Final = 3_000_000_000
_REST_PERIOD: Final = 1.0
_FLUSH_PERIOD: Final = 0.02
_BUSY_FOR: Final = 2.0
_MAX_TOLD: Final = 2_000


class Meter:
    """Thread-safe by one lock, which only background threads take.

    Args:
        config: the settings.
        discovery: the sensors and the host's CPU clock.
        place: the factors.
        store: where the aggregates go.
        alone: True when the only worker is this very process, so that no other can turn up late.
        early: readings from before, as :func:`ecolyzer_otel.early.take` gave them.
    """

    def __init__(
        self,
        config: Config,
        discovery: Discovery,
        place: Place,
        store: MetricStore,
        *,
        alone: bool = False,
        early: dict[str, Any] | None = None,
    ) -> None:
        self._config = config
        self._discovery = discovery
        self._alone = alone
        self.place = place
        self.store = store
        self.stopped = False
        self.poke: Callable[[], None] = lambda: None
        self._sensors: dict[str, Sensor] = {sensor.info.id: sensor for sensor in discovery.sensors}
        self._ledger = Ledger(_spec(sensor) for sensor in discovery.sensors)
        self._recorder = Recorder(store, place, config.quantization, config.max_label_sets)
        self._thermal = Thermal()
        self._clients: list[Client] = []
        self._numbers = 0
        self._lock = threading.RLock()
        self._next_sample = monotonic()
        self._busy_until = 0.0
        self._ticked = monotonic()
        self._faults: dict[tuple[str, str], int] = {}
        self._closing = False
        self._cpu_seconds = 0.0
        if early is not None:
            apply(early, discovery, self._ledger)
        for sensor in discovery.sensors:
            info = sensor.info
            self.store.gauge(Metric.SENSOR_UP, (info.id, info.method)).set(0)
            _set_if_known(store, Metric.DEVICE_POWER_LIMIT, (info.id, info.component), info.power_limit_watts)
            _set_if_known(
                store, Metric.DEVICE_TEMPERATURE_LIMIT, (info.id, info.component), info.temperature_limit_celsius
            )

    # Workers.

    def join(self) -> Client:
        """A new connection."""
        with self._lock:
            self._numbers += 1
            client = Client(self._numbers, watermark_ns=monotonic_ns() - _GRACE_NS)
            self._clients.append(client)
            return client

    def hear(self, client: Client, message: FromWorker) -> None:
        """A message of a worker.

        Raises:
            ProtocolError: it makes no sense; the connection must be closed.
        """
        with self._lock:
            if isinstance(message, Hello):
                self._greet(client, message)
            elif not client.greeted:
                raise ProtocolError("the first message was not hello")
            elif isinstance(message, Batch):
                self._take_in(client, message)
            elif isinstance(message, Flush):
                client.flushes.append(message.number)
                self._hurry()

    def leave(self, client: Client) -> None:
        """The connection is gone: open requests become process share, finished ones are settled all the same."""
        with self._lock:
            client.gone = True
            for number in client.open:
                self._ledger.abandon((client.number, number))
            client.open.clear()
            lost = client.served - client.received - sum(client.dropped.values())
            if lost > 0:
                self._drop(client, {**client.dropped, "worker_died": lost})
            self._hurry()

    def _greet(self, client: Client, hello: Hello) -> None:
        if hello.version != VERSION:
            raise ProtocolError(f"it speaks protocol version {hello.version}, this meter {VERSION}")
        client.greeted = True
        client.pid = client.pid or hello.pid
        client.service = hello.service or client.service
        place = self.place
        client.post(
            Welcome(VERSION, PlaceFacts(place.zone, place.grams_per_kwh, place.basis, place.source, place.pue))
        )

    def _take_in(self, client: Client, batch: Batch) -> None:
        now = monotonic_ns()
        for t_ns, process_ns, pool_ns in batch.clocks:
            if t_ns <= now:
                self._ledger.activity.add_process(client.number, "cpu", t_ns, process_ns / 1e9)
                self._ledger.activity.add_process(client.number, "pool", t_ns, pool_ns / 1e9)
        for model in batch.models:
            client.models[model.key] = model
        for one in batch.open:
            self._open(client, one, min(batch.now_ns, now))
        for done in batch.done:
            self._close(client, done, now)
        client.watermark_ns = max(client.watermark_ns, min(batch.watermark_ns, now))
        client.quiet = batch.quiet
        client.served = max(client.served, batch.served)
        self._drop(client, batch.dropped)
        if batch.done or batch.open:
            resting = monotonic() > self._busy_until
            self._busy_until = monotonic() + _BUSY_FOR
            if resting:
                self._hurry()

    def _open(self, client: Client, one: Open, seen_ns: int) -> None:
        busy = self._device_busy(one.device, one.start_ns, seen_ns)
        record = Record(
            id=(client.number, one.id), pid=client.number, start_ns=one.start_ns, end_ns=None,
            cpu_ns=one.cpu_ns, seen_ns=seen_ns, device_busy=busy,
        )  # fmt: skip
        if one.start_ns <= seen_ns and self._ledger.record(record):
            client.open.add(one.id)

    def _close(self, client: Client, done: Done, now: int) -> None:
        client.received += 1
        client.open.discard(done.id)
        model = client.models.get(done.model)
        if model is None or not can_be(done, now):
            self._unsettle(client, done, "invalid")
            return
        record = Record(
            id=(client.number, done.id), pid=client.number, start_ns=done.start_ns, end_ns=done.end_ns,
            cpu_ns=done.cpu_ns, device_busy=self._device_busy(model.device, done.start_ns, done.end_ns),
        )  # fmt: skip
        if self._ledger.record(record):
            client.waiting[done.id] = done
        else:
            self._unsettle(client, done, "late")

    def _device_busy(self, device: str, start_ns: int, end_ns: int) -> dict[str, list[tuple[int, int]]]:
        """No kernel times are known yet: a request on a GPU counts as busy there while it is in flight."""
        kind, _, index = device.partition(":")
        sensor = f"gpu{index or 0}"
        if kind in ("cuda", "gpu") and sensor in self._sensors:
            return {sensor: [(start_ns, end_ns)]}
        return {}

    def _drop(self, client: Client, dropped: dict[str, int]) -> None:
        for reason, number in dropped.items():
            self._recorder.dropped(client.service, reason, number - client.dropped.get(reason, 0))
            client.dropped[reason] = max(number, client.dropped.get(reason, 0))

    # Time.

    def tick(self) -> float:
        """Sample if it is time, close intervals, settle. Returns the seconds until the next tick is due."""
        with self._lock:
            now = monotonic()
            self._ticked = now
            if now >= self._next_sample:
                self._sample()
                self._next_sample = now + self._period()
            self._settle_due()
            self._cpu_seconds = thread_time() if self._alone else process_time()
            return max(0.0, self._next_sample - monotonic())

    def close(self, timeout: float = 1.0) -> None:
        """Settle what can be settled within ``timeout`` seconds, then end."""
        self._closing = True
        deadline = monotonic() + timeout
        while any(client.waiting for client in self._clients) and monotonic() < deadline:
            with self._lock:
                self._next_sample = 0.0
            self.tick()
            threading.Event().wait(_FLUSH_PERIOD)
        with self._lock:
            for client in self._clients:
                for done in list(client.waiting.values()):
                    self._unsettle(client, done, "shutdown")
            self.stopped = True
            self._show()
            for sensor in self._sensors.values():
                sensor.close()

    def before_scrape(self) -> None:
        """Bring gauges up to date."""
        with self._lock:
            self._show()
            self._recorder.refresh(self._cpu_seconds)

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether the meter works, and in what state it is."""
        silent = monotonic() - self._ticked
        return silent < 10.0, {
            "status": "ok" if silent < 10.0 else "stalled",
            "sensors": self._discovery.describe(),
            "zone": self.place.zone,
            "clients": sum(not client.gone for client in self._clients),
            "seconds_since_tick": round(silent, 3),
        }

    @property
    def idle(self) -> bool:
        """Whether no worker is connected and nothing waits."""
        return not any(not client.gone or client.waiting for client in self._clients)

    def finish_early(self) -> None:
        """No further worker can turn up: stop waiting for one."""
        self._closing = True
        self._hurry()

    def _hurry(self) -> None:
        self._next_sample = 0.0
        self.poke()

    def _period(self) -> float:
        if self._closing or any(client.flushes for client in self._clients if not client.gone):
            return _FLUSH_PERIOD
        if monotonic() < self._busy_until or len(self._ledger):
            return self._config.sampling_period
        return max(_REST_PERIOD, self._config.sampling_period)

    def _sample(self) -> None:
        self._sample_host()
        for name, sensor in self._sensors.items():
            info = sensor.info
            try:
                reading = sensor.read()
            except SensorError as error:
                self._fault(name, error.reason)
                self.store.gauge(Metric.SENSOR_UP, (name, info.method)).set(0)
                continue
            self._ledger.sample(name, reading.t_ns, reading.joules)
            self.store.gauge(Metric.SENSOR_UP, (name, info.method)).set(1)
            self.store.gauge(Metric.SENSOR_LAST_SAMPLE, (name, info.method)).set(time())
            _set_if_known(self.store, Metric.DEVICE_UTILIZATION, (name, info.component), reading.utilization)
            celsius = sensor.celsius()
            if celsius is not None:
                self._thermal.add(name, reading.t_ns, celsius)
                self.store.gauge(Metric.DEVICE_TEMPERATURE, (name, info.component)).set(celsius)

    def _sample_host(self) -> None:
        now = monotonic_ns()
        try:
            busy = self._discovery.host.busy_seconds()
        except (OSError, ValueError, SensorError):
            self._fault("host-cpu", "io")
            return
        self._ledger.activity.host.add(now, busy)

    def _fault(self, sensor: str, reason: str) -> None:
        self.store.counter(Metric.SENSOR_ERRORS, (sensor, reason)).inc()

    def _through(self, now: int) -> int:
        """The instant before which nothing can change any more."""
        active = [client for client in self._clients if not client.gone]
        marks = [max(client.watermark_ns, now - _PATIENCE_NS) for client in active if not client.quiet]
        # Somebody nobody knows of may be in its first request, unless there can be nobody else.
        only = len(active) == 1 and (bool(active[0].flushes) or (self._alone and bool(marks)))
        if not (self._closing or only):
            marks.append(now - _GRACE_NS)
        return min(marks, default=now)

    def _settle_due(self) -> None:
        now = monotonic_ns()
        settlements = self._ledger.advance(self._through(now), overdue_ns=now - _OVERDUE_NS)
        told: dict[int, list[Settled]] = {}
        clients = {client.number: client for client in self._clients}
        for settlement in settlements:
            number, request = cast("tuple[int, int]", settlement.id)
            client = clients[number]
            done = client.waiting.pop(request)
            try:
                settled = self._settle(client, done, settlement, now)
            except Exception:  # noqa: BLE001 - one settlement that fails must not take the others along
                _LOG.warning("ecolyzer: a request could not be settled", exc_info=True)
                settled = self._unsettle(client, done, "error", tell=False)
            if done.want:
                told.setdefault(number, []).append(settled)
        for client in list(self._clients):
            self._answer(client, told.get(client.number, []))
        if settlements:
            self._show()

    def _answer(self, client: Client, settled: list[Settled]) -> None:
        for start in range(0, len(settled), _MAX_TOLD):
            client.post(Settlements(settled[start : start + _MAX_TOLD], client.accounted))
        if client.accounted != client.told:
            client.told = client.accounted
            client.post(Settlements([], client.accounted))
        if client.flushes and not client.waiting:
            client.post(Flushed(client.flushes[-1]))
            client.flushes.clear()
        if client.gone and not client.waiting:
            if client.greeted:
                self._recorder.pending(client.service, 0)
            self._clients.remove(client)
            self._ledger.activity.forget_process(client.number)

    def _settle(self, client: Client, done: Done, settlement: Settlement, now: int) -> Settled:
        if settlement.method == "unsettled":
            return self._unsettle(client, done, "no_reading", tell=False)
        client.accounted += 1
        model = client.models[done.model]
        heat = self._thermal.over(self._thermal_sensors(model.device), done.start_ns, done.end_ns)
        lag = (now - done.end_ns) / 1e9
        return self._recorder.settled(client.service, model, done, settlement, heat, lag)

    def _thermal_sensors(self, device: str) -> list[str]:
        kind = "cpu" if device == "cpu" else "gpu"
        return [name for name, sensor in self._sensors.items() if sensor.info.component == kind]

    def _unsettle(self, client: Client, done: Done, reason: str, *, tell: bool = True) -> Settled:
        client.waiting.pop(done.id, None)
        client.accounted += 1
        self._recorder.unsettled(client.service, reason)
        settled = Settled(done.id, reason)
        if tell and done.want:
            client.post(Settlements([settled], client.accounted))
        return settled

    def _show(self) -> None:
        for name, book in self._ledger.books.items():
            info = self._sensors[name].info
            self._recorder.device(name, info.component, info.method, book.shares)
            if book.last is not None:
                watts = book.last.joules / max(1e-9, (book.last.end_ns - book.last.start_ns) / 1e9)
                self.store.gauge(Metric.DEVICE_POWER, (name, info.component)).set(watts)
            for reason, number in book.counter.faults.items():
                seen = self._faults.get((name, reason), 0)
                self.store.counter(Metric.SENSOR_ERRORS, (name, reason)).inc(number - seen)
                self._faults[name, reason] = number
        pending: dict[str, int] = {}
        for client in self._clients:
            if not client.greeted:
                continue
            count = max(0, client.served - client.accounted - sum(client.dropped.values()))
            pending[client.service] = pending.get(client.service, 0) + count
        for service, count in pending.items():
            self._recorder.pending(service, count)


def _spec(sensor: Sensor) -> SensorSpec:
    info = sensor.info
    return SensorSpec(
        id=info.id,
        component=info.component,
        method=info.method,
        idle_watts=info.idle_watts,
        wrap_joules=info.wrap_joules,
        relative_uncertainty=info.relative_uncertainty,
    )


def _set_if_known(store: MetricStore, spec: Any, labels: tuple[str, ...], value: float | None) -> None:
    if value is not None:
        store.gauge(spec, labels).set(value)

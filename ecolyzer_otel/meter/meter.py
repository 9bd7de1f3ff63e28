"""The meter: receives the messages of workers, samples the sensors, closes intervals, settles requests.

The same object runs as a thread of the service (:func:`ecolyzer_otel.start`), as a process beside it
(``ecolyzer-instrument``) and as a node daemon (``ecolyzer agent``). Only the caller of :meth:`Meter.tick` differs,
and the way in which messages reach :meth:`Meter.receive`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic, process_time, thread_time
from typing import Any, Final

from ecolyzer_otel.common.config import Config
from ecolyzer_otel.common.errors import ProtocolError
from ecolyzer_otel.export.store import MetricStore
from ecolyzer_otel.impact.embodied import Embodied
from ecolyzer_otel.impact.place import Place
from ecolyzer_otel.impact.timeline import Timeline
from ecolyzer_otel.ledger import Ledger
from ecolyzer_otel.meter.budget_gauges import BudgetGauges
from ecolyzer_otel.meter.client import Client, Connection
from ecolyzer_otel.meter.device_gauges import DeviceGauges
from ecolyzer_otel.meter.devices import DeviceMap
from ecolyzer_otel.meter.factors import CurrentFactors
from ecolyzer_otel.meter.first_readings import apply
from ecolyzer_otel.meter.host_meters import HostMeters
from ecolyzer_otel.meter.intake import Intake
from ecolyzer_otel.meter.joint import JointCalls
from ecolyzer_otel.meter.pace import Pace
from ecolyzer_otel.meter.record import Recorder
from ecolyzer_otel.meter.sampler import Sampler, sensor_spec
from ecolyzer_otel.meter.schedule import FLUSH_PERIOD
from ecolyzer_otel.meter.settle import Settler
from ecolyzer_otel.meter.worker_gauges import WorkerGauges
from ecolyzer_otel.sensors import Discovery
from ecolyzer_otel.wire.identity import Peer
from ecolyzer_otel.wire.protocol import Batch, Flush, FromWorker, Hello

__all__ = ["Meter"]

#: Counters of devices are updated at least this often, in seconds, as long as the meter ticks.
_SHOW_SECONDS: Final = 1.0
#: Without a tick for this long, in seconds, the meter is reported as stalled.
_STALLED_SECONDS: Final = 10.0
#: Workers listed in the state of the meter.
_MAX_LISTED: Final = 2_000


class Meter:
    """Thread-safe by one lock, which only background threads take.

    Args:
        config: the settings.
        discovery: the sensors and the host's CPU clock.
        place: the factors, or their timeline.
        store: holds the metrics.
        embodied: emissions of the hardware.
        single_worker: this process is the only worker, so that intervals wait for no other.
        early: the launcher's readings, as :func:`ecolyzer_otel.boot.first_readings.take` returned them.
        shared: the meter serves many services (:class:`~ecolyzer_otel.meter.pace.Pace`).

    Attributes:
        store: holds the metrics.
        pace: when readings and ticks are due.
        stopped: :meth:`close` has ended.
        on_tick: called at each tick.
    """

    def __init__(
        self,
        config: Config,
        discovery: Discovery,
        place: Place | Timeline,
        store: MetricStore,
        *,
        embodied: Embodied | None = None,
        single_worker: bool = False,
        early: dict[str, Any] | None = None,
        shared: bool = False,
    ) -> None:
        self.store = store
        self.stopped = False
        self.on_tick: Callable[[], None] = lambda: None
        self._discovery = discovery
        self._runs_as_thread = single_worker
        sensors = [sensor.info for sensor in discovery.sensors]
        self._ledger = Ledger(sensor_spec(info) for info in sensors)
        # A worker reports the device of each of its models: one that reports no GPU uses none.
        self._ledger.activity.declared.update(info.id for info in sensors if info.component == "gpu")
        budgets = BudgetGauges(store, config.carbon_budget_per_request, config.carbon_budget_per_month)
        self._recorder = Recorder(store, config.quantization, config.max_label_sets, budgets)
        self._device_gauges, self._worker_gauges = DeviceGauges(store), WorkerGauges(store)
        timeline = place if isinstance(place, Timeline) else Timeline(place)
        self._factors = CurrentFactors(timeline, embodied or Embodied(), self._ledger, store, sensors)
        self._intake = Intake(
            self._ledger, self._recorder, DeviceMap(sensors), self._factors, config.max_label_sets
        )
        self._clients = self._intake.clients
        self._sampler = Sampler(discovery, self._ledger, store, self._workers, config.sampling_period, config.sysfs)
        self.pace = Pace(self._clients, self._ledger, config.sampling_period, shared=shared)
        self._joint = JointCalls(self._clients, self._intake, self._recorder, self._factors)
        self._settler = Settler(
            self._ledger, self._intake, self._recorder, self._sampler, self._factors, self._joint, self.pace,
            shared=shared, single_worker=single_worker,
        )  # fmt: skip
        self._host_meters = HostMeters()
        self._lock = threading.RLock()
        self._ticked = self._shown = monotonic()
        self._cpu_seconds = 0.0
        store.refresh = self.refresh
        if early is not None:
            apply(early, discovery, self._ledger)

    @property
    def place(self) -> Place:
        """The place with the factors that hold now."""
        return self._factors.place

    @property
    def flushes(self) -> int:
        """Number of flushes answered so far."""
        return self._settler.flushes

    def _workers(self) -> list[tuple[int, int]]:
        return [(client.number, client.peer.pid) for client in self._clients if client.peer.pid]

    # Workers.

    def join(self, peer: Peer | None = None, connection: Connection | None = None) -> Client:
        """Returns the client of a new connection; its first message identifies the worker."""
        with self._lock:
            return self._intake.join(peer or Peer(), connection)

    def receive(self, client: Client, message: FromWorker) -> Client:
        """Process a message of a worker.

        Returns:
            The client that the connection belongs to: after hello, maybe an earlier one.

        Raises:
            ProtocolError: the message is not valid; the connection must be closed.
        """
        with self._lock:
            if isinstance(message, Hello):
                self.pace.worker_connected()
                return self._intake.hello(client, message)
            if not client.greeted:
                raise ProtocolError("the first message was not hello")
            if isinstance(message, Batch):
                self._intake.batch(client, message)
                if message.done or message.open:
                    self.pace.requests_reported()
            elif isinstance(message, Flush):
                client.flushes.append(message.number)
                self.pace.expedite()
            return client

    def leave(self, client: Client, connection: Connection | None = None) -> None:
        """Note a closed connection: its open requests become process share, unless the worker reconnects."""
        with self._lock:
            self._intake.leave(client, connection)
            self.pace.expedite()

    def forked(self) -> None:
        """Note that this process was forked: its child may connect as a further worker."""
        self._settler.single_worker = False

    def finish_early(self) -> None:
        """Stop waiting for workers, because no further one can connect."""
        if not self.pace.closing:
            self.pace.closing = True
            self.pace.expedite()

    @property
    def idle(self) -> bool:
        """Whether no worker is connected or about to connect, and no request waits."""
        return not any(client.connection or client.active or client.unsettled for client in self._clients)

    # Time.

    def tick(self) -> float:
        """Sample if it is due, close intervals, settle. Returns the seconds until the next tick is due."""
        self.on_tick()
        with self._lock:
            now = self._ticked = monotonic()
            self._intake.check_lost(closing=self.pace.closing)
            self._factors.poll()
            if self.pace.sample_is_due(now):
                self._sample(now)
            self._settler.settle()
            # A snapshot updates them, too; this is for readers that take none.
            if monotonic() - self._shown > _SHOW_SECONDS:
                self._show()
            self._cpu_seconds = thread_time() if self._runs_as_thread else process_time()
            return self.pace.next_tick(now)

    @property
    def due(self) -> bool:
        """Whether the next tick is due."""
        return self.pace.due

    @property
    def slack(self) -> float:
        """Seconds by which a tick may be early where something wakes the meter anyway."""
        return self.pace.slack

    def _sample(self, now: float) -> None:
        self._ledger.meters = self._host_meters.count()
        urgency, quiet_seconds = self.pace.urgency(), self.pace.quiet_seconds(now)
        self._sampler.sample(now, urgency, quiet_seconds, everything=self.pace.expedited)
        self.pace.sampled(now, self._sampler.next_due(now, urgency, quiet_seconds))

    def close(self, timeout: float = 1.0) -> None:
        """Settle the finished requests within ``timeout`` seconds, then end."""
        self.pace.closing = True
        deadline = monotonic() + timeout
        while any(client.waiting for client in self._clients) and monotonic() < deadline:
            with self._lock:
                self.pace.sample_next()
            self.tick()
            threading.Event().wait(FLUSH_PERIOD)
        with self._lock:
            for client in self._clients:
                for done, _ in client.waiting.values():
                    self._intake.reject(client, done, "shutdown")
                client.waiting.clear()
                client.ready.clear()
            self.stopped = True
            self._show()
            self._sampler.close()
            self._host_meters.close()

    # State.

    def refresh(self) -> None:
        """Update all metrics; the store calls it before each snapshot."""
        with self._lock:
            if self.stopped:
                return
            self._show()
            self._recorder.refresh(self._cpu_seconds)

    def _show(self) -> None:
        for name, book in self._ledger.sensors.items():
            info = self._sampler.sensors[name].info
            self._device_gauges.show(info, book.shares, self._joint.held.get(name, 0.0))
            self._device_gauges.show_learned(info, book.idle_watts, book.learner.trusted, book.ceiling_watts)
        self._sampler.show()
        now = monotonic()
        self._factors.show(now - self._shown)
        self._shown = now
        self._worker_gauges.show([client for client in self._clients if client.greeted], self._ledger.meters)

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Returns whether the meter ticks, and its state."""
        silent = monotonic() - self._ticked
        with self._lock:
            workers = [
                {"pid": client.peer.pid, "service": client.service, "container": client.peer.container}
                for client in self._clients
                if client.active
            ]
        return silent < _STALLED_SECONDS, {
            "status": "ok" if silent < _STALLED_SECONDS else "stalled",
            "sensors": self._discovery.describe(),
            "zone": self.place.zone,
            "factors": self.place.describe(),
            "live": self._factors.live_sources,
            "clients": len(workers),
            "workers": workers[:_MAX_LISTED],
            "meters_on_host": self._ledger.meters,
            "seconds_since_tick": round(silent, 3),
        }

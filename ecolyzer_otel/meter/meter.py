"""The meter itself: hears workers, samples, closes intervals, settles.

The same object runs as a thread of the service (:func:`ecolyzer_otel.start`), as a process beside it
(``ecolyzer-instrument``) and as a node daemon (``ecolyzer agent``); only who calls :meth:`Meter.tick` and how
clients reach :meth:`Meter.receive` differs.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from time import monotonic, monotonic_ns, process_time, thread_time, time
from typing import Any, Final, cast

from ecolyzer_otel.common.config import Config
from ecolyzer_otel.common.errors import ProtocolError
from ecolyzer_otel.export.store import MetricStore
from ecolyzer_otel.impact.embodied import Embodied
from ecolyzer_otel.impact.place import Place
from ecolyzer_otel.impact.provenance import time_of
from ecolyzer_otel.impact.timeline import Timeline
from ecolyzer_otel.ledger import Ledger, Settlement
from ecolyzer_otel.meter.budgets import Budgets
from ecolyzer_otel.meter.client import Client, Connection
from ecolyzer_otel.meter.devices import DeviceMap
from ecolyzer_otel.meter.factor_gauges import FactorGauges
from ecolyzer_otel.meter.first_readings import apply
from ecolyzer_otel.meter.impacts import bill_of
from ecolyzer_otel.meter.intake import GRACE_NS, Intake
from ecolyzer_otel.meter.neighbours import Neighbours
from ecolyzer_otel.meter.parts import Joint, add_shares, merge
from ecolyzer_otel.meter.record import Recorder
from ecolyzer_otel.meter.sampler import Sampler, sensor_spec
from ecolyzer_otel.meter.schedule import FLUSH_PERIOD, REST_PERIOD, Pace
from ecolyzer_otel.sensors import Discovery
from ecolyzer_otel.wire.identity import Peer
from ecolyzer_otel.wire.protocol import (
    Batch,
    Flush,
    Flushed,
    FromWorker,
    Hello,
    PlaceFacts,
    Settled,
    Settlements,
)

__all__ = ["Meter"]

_LOG = logging.getLogger(__name__)

#: A worker that says nothing for this long no longer keeps intervals open.
_PATIENCE_NS: Final = 2_000_000_000
#: A request is settled this long after its end, whatever a sensor does.
_OVERDUE_NS: Final = 3_000_000_000
_BUSY_FOR: Final = 2.0
#: A share of a joint call waits this long, in seconds, for word of the request that it is for.
_ORPHANED: Final = 10.0
_MAX_TOLD: Final = 2_000
#: Counters of devices are brought up to date at least so often, in seconds, as long as there are ticks.
_SHOW_SECONDS: Final = 1.0

_LONGEST_TICK: Final = 5.0
_SLACK: Final = 0.01

_NO_PHASES: Final[dict[str, float]] = {}


class Meter:
    """Thread-safe by one lock, which only background threads take.

    Args:
        config: the settings.
        discovery: the sensors and the host's CPU clock.
        place: the factors, or their timeline.
        store: where the aggregates go.
        alone: True when the only worker is this very process, so that no other can turn up late.
        early: readings from before, as :func:`ecolyzer_otel.boot.early.take` gave them.
        embodied: emissions of the hardware.
        patient: True for a meter of many services, which nobody may make read its sensors faster than configured
            (what a fast reader of an energy counter can learn of others: CVE-2020-8694).
    """

    def __init__(
        self,
        config: Config,
        discovery: Discovery,
        place: Place | Timeline,
        store: MetricStore,
        *,
        embodied: Embodied | None = None,
        alone: bool = False,
        early: dict[str, Any] | None = None,
        patient: bool = False,
    ) -> None:
        self._config = config
        self._discovery = discovery
        self._thread_only = alone
        #: Whether no worker can turn up but this very process; a fork ends it.
        self.alone = alone
        self._patient = patient
        self._timeline = place if isinstance(place, Timeline) else Timeline(place)
        self._embodied = embodied or Embodied()
        self.store = store
        self.stopped = False
        self.poke: Callable[[], None] = lambda: None
        #: Called at each tick.
        self.on_tick: Callable[[], None] = lambda: None
        #: Flushes answered so far.
        self.flushes = 0
        self._ledger = Ledger(sensor_spec(sensor.info) for sensor in discovery.sensors)
        budgets = Budgets(store, config.carbon_budget_per_request, config.carbon_budget_per_month)
        self._recorder = Recorder(store, config.quantization, config.max_label_sets, budgets)
        store.refresh = self.before_scrape
        components = {sensor.info.id: sensor.info.component for sensor in discovery.sensors}
        self._factors = FactorGauges(store, self._embodied, components)
        self._timeline.begin(time())
        self._factors.show(self.place)
        self._sampler = Sampler(discovery, self._ledger, store, self._workers, config.sampling_period, config.sysfs)
        devices = DeviceMap(sensor.info for sensor in discovery.sensors)
        # A worker tells which device each of its models is on: where it tells of none, it uses none.
        gpus = (sensor.info.id for sensor in discovery.sensors if sensor.info.component == "gpu")
        self._ledger.activity.declared.update(gpus)
        life = os.urandom(8).hex()
        self._intake = Intake(self._ledger, self._recorder, devices, self._place_facts, life, config.max_label_sets)
        self._clients = self._intake.clients
        self._neighbours = Neighbours()
        self._lock = threading.RLock()
        self._next_sample = monotonic()
        self._sampled = 0.0
        #: Whether the next sample reads every sensor, due or not.
        self._hurried = True
        self._busy_until = 0.0
        #: When the meter started or a worker last said hello.
        self._stirred = monotonic()
        self._ticked = monotonic()
        #: When the next tick is due.
        self._due = 0.0
        #: Seconds from one tick to the next, at most: who looks whether the meter lives expects no more.
        self.longest_tick = _LONGEST_TICK
        #: A tick may be so much early, in seconds, where something wakes the meter anyway. Not of one that may be
        #: made to read its sensors faster by those it measures.
        self.slack = 0.0 if patient else _SLACK
        self._shown = monotonic()
        #: How often the factors have changed.
        self._places = 0
        self._closing = False
        self._cpu_seconds = 0.0
        #: Active joules by sensor that the ledger has charged and that wait for the request they are a share of.
        self._held: dict[str, float] = {}
        if early is not None:
            apply(early, discovery, self._ledger)

    @property
    def place(self) -> Place:
        """The factors that hold now."""
        return self._timeline.place

    def _place_facts(self) -> PlaceFacts:
        place = self.place
        return PlaceFacts(
            place.zone,
            place.grams_per_kwh,
            place.basis,
            place.source,
            place.pue,
            place.year,
            time_of(place),
            place.estimated,
            place.defaulted,
            place.wue,
            place.water_method,
            place.water_source,
        )

    def _look_at_factors(self) -> None:
        """Begin a period where a live figure has changed: what is drawn from then on is charged by the new one."""
        now_s = time()
        since = self._timeline.poll(now_s)
        if since is None:
            return
        self._timeline.begin_period(self._ledger.begin_period(monotonic_ns() - round((now_s - since) * 1e9)))
        self._places += 1
        self._factors.show(self.place)

    def _workers(self) -> list[tuple[int, int]]:
        return [(client.number, client.peer.pid) for client in self._clients if client.peer.pid]

    # Workers.

    def join(self, peer: Peer | None = None, connection: Connection | None = None) -> Client:
        """A new connection; whom it is for turns out with its first word."""
        with self._lock:
            return self._intake.join(peer or Peer(), connection)

    def receive(self, client: Client, message: FromWorker) -> Client:
        """A message of a worker. Returns the client that it is from: after its hello, maybe one known before.

        Raises:
            ProtocolError: it makes no sense; the connection must be closed.
        """
        with self._lock:
            if isinstance(message, Hello):
                # While nobody was there, sensors were read seldom.
                self._stirred = monotonic()
                self._hurry()
                client = self._intake.greet(client, message)
                client.places = self._places
                return client
            if not client.greeted:
                raise ProtocolError("the first message was not hello")
            if isinstance(message, Batch):
                self._intake.take_in(client, message)
                if message.done or message.open:
                    self._be_busy()
            elif isinstance(message, Flush):
                client.flushes.append(message.number)
                self._hurry()
            return client

    def _be_busy(self) -> None:
        resting = monotonic() > self._busy_until
        self._busy_until = monotonic() + _BUSY_FOR
        if resting:
            self._hurry()

    def leave(self, client: Client, connection: Connection | None = None) -> None:
        """The connection is gone: its open requests become process share, unless the worker comes back."""
        with self._lock:
            self._intake.leave(client, connection)
            self._hurry()

    # Time.

    def tick(self) -> float:
        """Sample if it is time, close intervals, settle. Returns the seconds until the next tick is due."""
        self.on_tick()
        with self._lock:
            now = monotonic()
            self._ticked = now
            self._intake.sweep(closing=self._closing)
            if self._timeline.can_change:
                self._look_at_factors()
            if now >= self._next_sample - self.slack:
                self._sample(now)
            self._settle_due()
            self._cpu_seconds = thread_time() if self._thread_only else process_time()
            self._due = min(self._next_sample, now + self._period())
            return max(0.0, self._due - monotonic())

    @property
    def due(self) -> bool:
        """Whether it is time for the next tick: what workers tell can wait for it, unless somebody waits."""
        return self._hurried or monotonic() >= self._due - self.slack

    def _sample(self, now: float) -> None:
        self._ledger.meters = self._neighbours.count()
        pace, quiet = self._pace(), max(0.0, now - max(self._busy_until, self._stirred))
        self._sampler.sample(now, pace, quiet, everything=self._hurried)
        self._hurried = False
        self._sampled = now
        self._next_sample = self._sampler.next_due(now, pace, quiet)

    def close(self, timeout: float = 1.0) -> None:
        """Settle what can be settled within ``timeout`` seconds, then end."""
        self._closing = True
        deadline = monotonic() + timeout
        while any(client.waiting for client in self._clients) and monotonic() < deadline:
            with self._lock:
                self._next_sample = 0.0
            self.tick()
            threading.Event().wait(FLUSH_PERIOD)
        with self._lock:
            for client in self._clients:
                for done, _ in client.waiting.values():
                    self._intake.unsettle(client, done, "shutdown")
                client.waiting.clear()
                client.ready.clear()
            self.stopped = True
            self._show()
            self._sampler.close()
            self._neighbours.close()

    def before_scrape(self) -> None:
        """Bring gauges, and the counters of devices, up to date."""
        with self._lock:
            if self.stopped:
                return
            self._show()
            self._recorder.refresh(self._cpu_seconds)

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether the meter works, and in what state it is."""
        silent = monotonic() - self._ticked
        with self._lock:
            workers = [
                {"pid": client.peer.pid, "service": client.service, "container": client.peer.container}
                for client in self._clients
                if client.active
            ]
        return silent < 10.0, {
            "status": "ok" if silent < 10.0 else "stalled",
            "sensors": self._discovery.describe(),
            "zone": self.place.zone,
            "factors": self.place.describe(),
            "live": {
                name: source.problem or "ok" for name, source in self._timeline.live.items() if source is not None
            },
            "clients": len(workers),
            "workers": workers[:_MAX_TOLD],
            "meters_on_host": self._ledger.meters,
            "seconds_since_tick": round(silent, 3),
        }

    @property
    def idle(self) -> bool:
        """Whether no worker is connected or about to be, and nothing waits."""
        return not any(
            client.connection or client.active or client.waiting or client.serving for client in self._clients
        )

    def finish_early(self) -> None:
        """No further worker can turn up: stop waiting for one."""
        if not self._closing:
            self._closing = True
            self._hurry()

    def _hurry(self) -> None:
        # A patient meter goes on at its own pace, but does not sleep on.
        soonest = self._sampled + self._config.sampling_period if self._patient else 0.0
        self._next_sample = min(self._next_sample, soonest)
        self._hurried = True
        self.poke()

    def _pace(self) -> Pace:
        """How urgent readings are."""
        flushing = any(client.flushes for client in self._clients)
        if (self._closing or flushing) and not self._patient:
            return "flush"
        if flushing or monotonic() < self._busy_until or len(self._ledger):
            return "load"
        return "rest" if any(client.connection or client.active for client in self._clients) else "alone"

    def _period(self) -> float:
        """Seconds from one tick to the next: intervals close, and workers are lost, also between readings."""
        pace = self._pace()
        if pace == "flush":
            return FLUSH_PERIOD
        if pace == "load":
            return self._config.sampling_period
        # At rest nothing changes but by a reading, or because a worker does not come back.
        lost = any(client.lost_at is not None for client in self._clients)
        return max(REST_PERIOD, self._config.sampling_period) if lost else self.longest_tick

    def _through(self, now: int) -> int:
        """The instant before which nothing can change any more."""
        active = [client for client in self._clients if client.active]
        marks = [max(client.watermark_ns, now - _PATIENCE_NS) for client in active if not client.quiet]
        # Somebody nobody knows of may be in its first request, unless there can be nobody else.
        only = len(active) == 1 and (bool(active[0].flushes) or (self.alone and bool(marks)))
        if not (self._closing or (only and not self._patient)):
            marks.append(now - GRACE_NS)
        return min(marks, default=now)

    def _settle_due(self) -> None:
        now = monotonic_ns()
        found: dict[tuple[int, int], list[Settlement]] = {}
        for settlement in self._ledger.advance(self._through(now), overdue_ns=now - _OVERDUE_NS):
            number, request, *_ = cast("tuple[int, ...]", settlement.id)
            found.setdefault((number, request), []).append(settlement)
        told: dict[int, list[Settled]] = {}
        clients = {client.number: client for client in self._clients}
        for (number, request), settlements in found.items():
            client = clients[number]
            try:
                if request in client.serving:
                    self._divide(client, request, settlements, told)
                else:
                    self._ready(client, request, settlements, now, told)
            except Exception:  # noqa: BLE001 - one settlement that fails must not take the others along
                _LOG.warning("ecolyzer: a request could not be settled", exc_info=True)
                self._failed(client, request, told)
        for client in list(self._clients):
            self._late_shares(client, now, told)
        self._recorder.flush()
        for client in list(self._clients):
            self._answer(client, told.get(client.number, []))
        # Whoever takes a snapshot has it brought up to date; this is for those who only look.
        if monotonic() - self._shown > _SHOW_SECONDS:
            self._show()

    def _failed(self, client: Client, request: int, told: dict[int, list[Settled]]) -> None:
        waiting = client.waiting.pop(request, None)
        client.ready.pop(request, None)
        if waiting is not None:
            settled = self._intake.unsettle(client, waiting[0], "error", tell=False)
            if waiting[0].want:
                told.setdefault(client.number, []).append(settled)

    def _ready(
        self, client: Client, request: int, settlements: list[Settlement], now: int, told: dict[int, list[Settled]]
    ) -> None:
        """A request is settled, but for what it may have of calls that served several."""
        parts = client.told.pop(request, None)
        if parts is None:
            settlement, phases = settlements[0], _NO_PHASES
        else:
            named = [(parts.parts[_part_of(one)][0], one) for one in settlements]
            specs = {name: book.spec for name, book in self._ledger.sensors.items()}
            settlement, phases = merge(named, specs)
        if request in client.joint or client.waiting[request][0].joint:
            client.ready[request] = settlement, phases, now
            self._settle(client, request, now, told)
        else:
            self._account(client, request, settlement, phases, now, told)

    def _settle(self, client: Client, request: int, now: int, told: dict[int, list[Settled]]) -> None:
        """Settle a request that calls have served, or will, once it waits for nothing more."""
        settlement, phases, since_ns = client.ready[request]
        done, _ = client.waiting[request]
        joint = client.joint.get(request)
        if done.joint > (joint.calls if joint else 0) and now - since_ns < _OVERDUE_NS and not self._closing:
            return
        del client.ready[request]
        client.joint.pop(request, None)
        if joint is not None and joint.charges:
            self._give(joint)
            settlement = add_shares(settlement, joint)
        self._account(client, request, settlement, phases, now, told)

    def _account(
        self,
        client: Client,
        request: int,
        settlement: Settlement,
        phases: dict[str, float],
        now: int,
        told: dict[int, list[Settled]],
    ) -> None:
        """Count a request, and tell its worker if it wants to know."""
        done, model = client.waiting[request]
        settled: Settled | None
        if settlement.method == "unsettled":
            settled = self._intake.unsettle(client, done, "no_reading", tell=False)
        else:
            name, route = self._intake.label(client, model, done)
            bill = bill_of(settlement.charges, self._timeline.place_of, self._embodied)
            heat = None
            if done.want:
                charged = [one.sensor for one in settlement.charges]
                heat = self._sampler.heat(model.device, charged, done.start_ns, done.end_ns)
            lag = (now - done.end_ns) / 1e9
            settled = self._recorder.settled(
                client.service, model, done, settlement, bill, heat, lag, name, route, phases
            )
            client.accounted += 1
        del client.waiting[request]  # last: what fails before is counted as an error
        if settled is not None and done.want:
            told.setdefault(client.number, []).append(settled)

    # Calls that served several requests.

    def _divide(
        self, client: Client, request: int, settlements: list[Settlement], told: dict[int, list[Settled]]
    ) -> None:
        done, model = client.serving.pop(request)
        settlement = settlements[0]
        client.told.pop(request, None)
        name, route = self._intake.label(client, model, done)
        labels = client.service, name, model.framework, done.operation, model.device, route
        for member, active, idle in settlement.members:
            joint = client.joint.setdefault(cast("int", member), Joint())
            joint.add(settlement, active, idle)
            joint.labels, joint.since = labels, monotonic()
        for charge in settlement.charges:
            self._held[charge.sensor] = self._held.get(charge.sensor, 0.0) + charge.active
        if done.want:
            told.setdefault(client.number, []).append(self._recorder.divided(done, settlement))

    def _give(self, joint: Joint) -> None:
        """Joules that are no longer held for somebody who may come."""
        for charge in joint.charges:
            self._held[charge.sensor] = max(0.0, self._held[charge.sensor] - charge.active)
        if not any(client.joint or client.serving for client in self._clients):
            self._held.clear()  # what is left is float noise

    def _late_shares(self, client: Client, now: int, told: dict[int, list[Settled]]) -> None:
        """Settle whom a share was waited for; count shares of requests that are settled already by themselves."""
        for request in list(client.ready):
            self._settle(client, request, now, told)
        for request, joint in list(client.joint.items()):
            expected = request in client.waiting or request in client.open
            if not expected and (client.finished or monotonic() - joint.since > _ORPHANED):
                del client.joint[request]
                if joint.charges:
                    self._give(joint)
                    bill = bill_of(joint.charges, self._timeline.place_of, self._embodied)
                    self._recorder.orphaned(joint, bill.impact)

    def _answer(self, client: Client, settled: list[Settled]) -> None:
        for start in range(0, len(settled), _MAX_TOLD):
            place = None if client.places == self._places else self._place_facts()
            client.places = self._places
            client.post(Settlements(settled[start : start + _MAX_TOLD], client.accounted, place))
        if client.accounted != client.reported:
            client.reported = client.accounted
            client.post(Settlements([], client.accounted))
        if client.flushes and not client.waiting and not client.serving:
            self.flushes += 1
            client.post(Flushed(client.flushes[-1]))
            client.flushes.clear()
        if client.finished and not client.waiting and not client.serving and not client.joint:
            self._intake.forget(client)

    def _show(self) -> None:
        for name, book in self._ledger.sensors.items():
            info = self._sampler.sensors[name].info
            self._recorder.device(name, info.component, info.method, book.shares, self._held.get(name, 0.0))
            self._recorder.learned(name, info.component, book.idle_watts, book.learner.trusted, book.ceiling_watts)
        self._sampler.show()
        now = monotonic()
        self._factors.pass_time(now - self._shown)
        self._shown = now
        for name, source in self._timeline.live.items():
            if source is not None:
                self._factors.fetched(name, source.source, source.outcomes)
        self._recorder.workers([client for client in self._clients if client.greeted], self._ledger.meters)


def _part_of(settlement: Settlement) -> int:
    """The how manyth part of its request a settlement is of."""
    identity = cast("tuple[int, ...]", settlement.id)
    return identity[2] if len(identity) > 2 else 0

"""Who the workers are and what they say: messages in, input of the ledger out.

Everything a worker says is bounded before it is believed: times to the present, CPU time to what the machine's CPUs
can give, requests in flight and models to a number.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from time import monotonic, monotonic_ns
from typing import Final

from ecolyzer_otel.common.errors import ProtocolError
from ecolyzer_otel.ledger import Kind, Ledger, Record, kind_of
from ecolyzer_otel.meter.client import MAX_IN_FLIGHT, MAX_MODELS, Client, Connection, can_be
from ecolyzer_otel.meter.devices import DeviceMap
from ecolyzer_otel.meter.parts import Joint, Told, split
from ecolyzer_otel.meter.record import Recorder
from ecolyzer_otel.wire.identity import Peer, is_gone
from ecolyzer_otel.wire.protocol import (
    OLDEST,
    VERSION,
    Batch,
    Done,
    Hello,
    Model,
    Open,
    PlaceFacts,
    Refused,
    Settled,
    Settlements,
    Welcome,
)

__all__ = ["GRACE_NS", "Intake"]

_LOG = logging.getLogger(__name__)

#: A worker that nobody knows of yet, or that was quiet, is heard of this long after its first call at most.
GRACE_NS: Final = 400_000_000
#: A worker that lives and has lost its connection keeps its open requests this long, in seconds.
_RETURN_SECONDS: Final = 2.0
#: One whose process cannot be seen from here (another PID namespace) is given up after this long.
_UNSEEN_SECONDS: Final = 60.0
#: Why a record can be lost on the way.
_REASONS: Final = frozenset({"queue_full", "no_meter", "meter_lost", "worker_died"})
_CPUS: Final = os.cpu_count() or 1
#: Clocks are read one after the other: this much more than the CPUs could give is let pass.
_SLACK_NS: Final = 20_000_000


class Intake:
    """The clients of one meter. Called under the meter's lock.

    Args:
        ledger: what they say goes here.
        recorder: requests that get no energy are counted here.
        devices: which sensor measures what they call their GPU.
        place: the factors, told to each.
        life: tells this meter's life from another's.
        max_label_sets: label sets that there may be in all. One client may have half of them (model, operation,
            route); what is over shares ``__other__``.
    """

    def __init__(
        self,
        ledger: Ledger,
        recorder: Recorder,
        devices: DeviceMap,
        place: Callable[[], PlaceFacts],
        life: str,
        max_label_sets: int,
    ) -> None:
        self.clients: list[Client] = []
        self._ledger = ledger
        self._recorder = recorder
        self._devices = devices
        self._place = place
        self._life = life
        self._max_label_sets = max(1, max_label_sets // 2)
        self._numbers = 0
        self._by_token: dict[str, Client] = {}

    # Coming and going.

    def join(self, peer: Peer, connection: Connection | None) -> Client:
        """A new connection, by somebody yet to be known."""
        self._numbers += 1
        client = Client(self._numbers, peer, connection=connection, watermark_ns=monotonic_ns() - GRACE_NS)
        self.clients.append(client)
        return client

    def greet(self, client: Client, hello: Hello) -> Client:
        """The first word. Returns the client that the connection is for: one known before when it is back.

        Raises:
            ProtocolError: there is no version that both speak; :class:`Refused` is posted.
        """
        if client.greeted:
            raise ProtocolError("it said hello twice")
        if hello.version < OLDEST or hello.oldest > VERSION:
            spoken = f"protocol version {hello.oldest} to {hello.version}"
            mine = f"{OLDEST} to {VERSION}"
            client.post(Refused(f"it speaks version {mine}; install the same ecolyzer-otel on both sides"))
            raise ProtocolError(
                f"it speaks {spoken}, this meter {mine}; install the same ecolyzer-otel on both sides"
            )
        client = self._known(client, hello)
        client.greeted = True
        client.service = hello.service or client.service
        client.post(Welcome(min(hello.version, VERSION), self._place(), self._life, client.received))
        _LOG.info("ecolyzer: %s of service %s is connected", client.peer, client.service)
        return client

    def _known(self, client: Client, hello: Hello) -> Client:
        """The client that this worker was before, if it is the same process; else the new one."""
        old = self._by_token.get(hello.token) if hello.token else None
        if old is None or old.finished or old.peer.pid != client.peer.pid:
            client.token = hello.token
            if hello.token:
                self._by_token[hello.token] = client
            return client
        self.clients.remove(client)
        connection, old.connection = old.connection, client.connection
        old.models.clear()  # it tells them anew
        old.away, old.lost_at = False, None
        if connection is not None:
            connection.replaced()
        return old

    def leave(self, client: Client, connection: Connection | None) -> None:
        """The connection is gone; so is the worker, unless it lives and comes back."""
        if client.connection is not connection or client.finished:
            return
        client.connection = None
        client.lost_at = monotonic()
        client.flushes.clear()
        if connection is None or not client.token:  # of this process, or one that could not be told again
            self._finish(client)
        else:
            self.sweep(closing=False)

    def sweep(self, *, closing: bool) -> None:
        """See to those that have lost their connection: some come back, some are gone for good."""
        now = monotonic()
        for client in self.clients:
            if client.lost_at is None or client.finished:
                continue
            away = now - client.lost_at
            unseen = client.peer.pid == 0 and away > _UNSEEN_SECONDS
            if closing or unseen or is_gone(client.peer.pid):
                self._finish(client)
            elif away > _RETURN_SECONDS and not client.away:
                client.away = True
                self._abandon(client)

    def _finish(self, client: Client) -> None:
        """Open requests become process share, finished ones are settled all the same."""
        client.finished = True
        self._abandon(client)
        lost = client.served - client.received - sum(client.dropped.values())
        if lost > 0:
            self._drop(client, {"worker_died": client.dropped.get("worker_died", 0) + lost})

    def _abandon(self, client: Client) -> None:
        for number in client.open:
            for part in client.told.pop(number, Told()).ids((client.number, number)):
                self._ledger.abandon(part)
        client.open.clear()

    def forget(self, client: Client) -> None:
        """Nothing of this client waits any more."""
        self.clients.remove(client)
        if self._by_token.get(client.token) is client:
            del self._by_token[client.token]
        self._ledger.activity.forget_process(client.number)

    # What they say.

    def take_in(self, client: Client, batch: Batch) -> None:
        """A report: clocks, models, open and finished requests, the watermark."""
        now = monotonic_ns()
        self._clocks(client, batch, now)
        for model in batch.models:
            client.models[model.key] = model
        if len(client.models) > MAX_MODELS:
            raise ProtocolError(f"it told of more than {MAX_MODELS} models")
        for one in batch.open:
            self._open(client, one, min(batch.now_ns, now))
        for done in batch.joint:
            self._serve(client, done, now)
        for done in batch.done:
            self._close(client, done, now)
        client.watermark_ns = max(client.watermark_ns, min(batch.watermark_ns, now))
        client.quiet = batch.quiet
        client.served = max(client.served, batch.served)
        self._drop(client, batch.dropped)

    def _clocks(self, client: Client, batch: Batch, now: int) -> None:
        activity = self._ledger.activity
        for t_ns, process_ns, pool_ns in batch.clocks:
            if t_ns > now:
                continue
            last_ns, last_process, last_pool = client.clock or (t_ns, process_ns, pool_ns)
            most = max(0, t_ns - last_ns) * _CPUS + _SLACK_NS
            process_ns, pool_ns = min(process_ns, last_process + most), min(pool_ns, last_pool + most)
            client.clock = t_ns, process_ns, pool_ns
            activity.add_process(client.number, "cpu", t_ns, process_ns / 1e9)
            activity.add_process(client.number, "pool", t_ns, pool_ns / 1e9)
        for name, (t_ns, busy_ns) in batch.devices.items():
            found = self._devices.find(name)
            if found is not None and t_ns <= now:
                part = found[1].fraction if found[1] else 1.0
                activity.add_process(client.number, found[0], t_ns, part * busy_ns / 1e9)

    def _open(self, client: Client, one: Open, seen_ns: int) -> None:
        if one.start_ns > seen_ns or (one.id not in client.open and _in_flight(client) >= MAX_IN_FLIGHT):
            return
        busy, partitions = self._devices.busy(one.busy, one.device, one.start_ns, seen_ns)
        model = None if one.model is None else client.models.get(one.model)
        record = Record(
            id=(client.number, one.id), pid=client.number, start_ns=one.start_ns, end_ns=None,
            cpu_ns=min(one.cpu_ns, (seen_ns - one.start_ns) * _CPUS), seen_ns=seen_ns,
            device_busy=busy, partitions=partitions, kind=_kind(model, one), items=max(1, one.items),
        )  # fmt: skip
        if self._record(client, record, one):
            client.open.add(one.id)

    def _close(self, client: Client, done: Done, now: int) -> None:
        client.received += 1
        model = client.models.get(done.model)
        if model is None or not can_be(done, now) or done.id in client.waiting:
            self.unsettle(client, done, "invalid")
            return
        if done.id not in client.open and _in_flight(client) >= MAX_IN_FLIGHT:
            self.unsettle(client, done, "limit")
            return
        if self._record(client, self._finished(client, done, model), done):
            client.waiting[done.id] = done, model
            client.open.discard(done.id)
        else:
            self.unsettle(client, done, "late")

    def _finished(self, client: Client, done: Done, model: Model) -> Record:
        busy, partitions = self._devices.busy(done.busy, model.sensor, done.start_ns, done.end_ns)
        return Record(
            id=(client.number, done.id), pid=client.number, start_ns=done.start_ns, end_ns=done.end_ns,
            cpu_ns=min(done.cpu_ns, (done.end_ns - done.start_ns) * _CPUS),
            device_busy=busy, partitions=partitions, kind=_kind(model, done), items=max(1, done.items),
            members=done.members,
        )  # fmt: skip

    def _record(self, client: Client, record: Record, request: Open | Done) -> bool:
        """Tell the ledger of a request, by its phases where it has some. False when it comes too late."""
        told = client.told.get(request.id)
        if told is None and not request.phases and record.end_ns is not None:
            return self._ledger.record(record)
        if told is None:
            told = client.told[request.id] = Told()
        parts = split(record, request.phases, told)
        for number, (part, _) in enumerate(parts):
            if self._ledger.record(part):
                continue
            if number == 0:
                del client.told[request.id]
                return False
            told.cut(number)  # its interval is closed: the worker was silent for long
            for again, _ in split(record, request.phases, told):
                self._ledger.record(again)
            break
        return True

    def _serve(self, client: Client, done: Done, now: int) -> None:
        """A call that served several requests: no request itself, its joules are theirs."""
        model = client.models.get(done.model)
        known = done.id in client.serving or done.id in client.waiting
        if model is None or known or not done.members or not can_be(done, now):
            return
        if len(client.serving) >= MAX_IN_FLIGHT or not self._ledger.record(self._finished(client, done, model)):
            # Process share; those that it served wait no longer.
            for member, _ in done.members:
                client.joint.setdefault(member, Joint()).calls += 1
            return
        client.serving[done.id] = done, model
        client.open.discard(done.id)

    def unsettle(self, client: Client, done: Done, reason: str, *, tell: bool = True) -> Settled:
        """A request that gets no energy, and why."""
        client.accounted += 1
        client.told.pop(done.id, None)
        self._recorder.unsettled(client.service, reason)
        settled = Settled(done.id, reason)
        if tell and done.want:
            client.post(Settlements([settled], client.accounted))
        return settled

    def label(self, client: Client, model: Model, done: Done) -> tuple[str, str]:
        """Model name and route under which a request counts: one client cannot use up the labels of all."""
        key = (model.name, done.operation, done.route)
        if key not in client.labels:
            if len(client.labels) >= self._max_label_sets:
                return "__other__", "__other__"
            client.labels.add(key)
        return model.name, done.route

    def _drop(self, client: Client, dropped: dict[str, int]) -> None:
        for reason, number in dropped.items():
            if reason not in _REASONS:
                raise ProtocolError(f"it dropped requests for a reason that is none: {reason!r}")
            self._recorder.dropped(client.service, reason, number - client.dropped.get(reason, 0))
            client.dropped[reason] = max(number, client.dropped.get(reason, 0))


def _kind(model: Model | None, request: Open | Done) -> Kind | None:
    """What is expected to draw the same watts: one model at one precision, one operation, batches of like size."""
    if model is None:
        return None
    warmup = isinstance(request, Done) and request.warmup
    operation = f"{request.operation} warmup" if warmup else request.operation
    return kind_of(f"{model.name} {model.dtype or ''}", operation, request.items)


def _in_flight(client: Client) -> int:
    return len(client.open) + len(client.waiting) + len(client.serving)

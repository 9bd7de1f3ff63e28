"""The workers of a meter and their messages, turned into input of the ledger.

Everything that a worker reports is bounded before it is used: times by the present, CPU time by the machine's CPUs,
requests in flight and models by a number.
"""

from __future__ import annotations

import logging
import os
from time import monotonic, monotonic_ns
from typing import Final

from ecolyzer_otel.common.errors import ProtocolError
from ecolyzer_otel.ledger import Kind, Ledger, Record, kind_of
from ecolyzer_otel.meter.client import MAX_IN_FLIGHT, MAX_MODELS, Client, Connection, is_plausible
from ecolyzer_otel.meter.devices import DeviceMap
from ecolyzer_otel.meter.factors import CurrentFactors
from ecolyzer_otel.meter.parts import RequestParts, split
from ecolyzer_otel.meter.record import Recorder
from ecolyzer_otel.meter.shares import JointShares
from ecolyzer_otel.wire.identity import Peer, is_gone
from ecolyzer_otel.wire.protocol import (
    OLDEST,
    VERSION,
    Batch,
    Done,
    Hello,
    Model,
    Open,
    Refused,
    Settled,
    Settlements,
    Welcome,
)

__all__ = ["GRACE_NS", "Intake"]

_LOG = logging.getLogger(__name__)

#: A worker that is not connected yet, or was quiet, reports at most this long after its first call.
GRACE_NS: Final = 400_000_000
#: A worker that lives and has lost its connection keeps its open requests this long, in seconds.
_RETURN_SECONDS: Final = 2.0
#: A worker whose process cannot be seen from here (another PID namespace) is given up after this long.
_UNSEEN_SECONDS: Final = 60.0
#: Valid reasons for a lost record.
_REASONS: Final = frozenset({"queue_full", "no_meter", "meter_lost", "worker_died"})
_CPUS: Final = os.cpu_count() or 1
#: Clocks are read one after the other, so that CPU time may exceed what the CPUs can give by this much.
_SLACK_NS: Final = 20_000_000


class Intake:
    """The clients of one meter. Called under the meter's lock.

    Args:
        ledger: receives activity and records.
        recorder: counts requests without energy.
        devices: finds the sensor of a worker's GPU.
        factors: the factors in use, reported to each worker.
        max_label_sets: label sets of a metric. One client may use half of them (model, operation, route); the
            requests beyond share ``__other__``.
    """

    def __init__(
        self, ledger: Ledger, recorder: Recorder, devices: DeviceMap, factors: CurrentFactors, max_label_sets: int
    ) -> None:
        self.clients: list[Client] = []
        self._ledger = ledger
        self._recorder = recorder
        self._devices = devices
        self._factors = factors
        #: Distinguishes this meter from one that ran before.
        self._meter_id = os.urandom(8).hex()
        self._max_label_sets = max(1, max_label_sets // 2)
        self._numbers = 0
        self._by_token: dict[str, Client] = {}

    # Connections.

    def join(self, peer: Peer, connection: Connection | None) -> Client:
        """Returns the client of a new connection, before its first message."""
        self._numbers += 1
        client = Client(self._numbers, peer, connection=connection, watermark_ns=monotonic_ns() - GRACE_NS)
        self.clients.append(client)
        return client

    def hello(self, client: Client, hello: Hello) -> Client:
        """Process the first message of a connection.

        Returns:
            The client that the connection belongs to: an earlier one if the worker has reconnected.

        Raises:
            ProtocolError: there is no common version; :class:`Refused` is posted.
        """
        if client.greeted:
            raise ProtocolError("it sent hello twice")
        if hello.version < OLDEST or hello.oldest > VERSION:
            theirs = f"protocol version {hello.oldest} to {hello.version}"
            ours = f"{OLDEST} to {VERSION}"
            client.post(Refused(f"it speaks version {ours}; install the same ecolyzer-otel on both sides"))
            raise ProtocolError(
                f"it speaks {theirs}, this meter {ours}; install the same ecolyzer-otel on both sides"
            )
        client = self._resume(client, hello)
        client.greeted = True
        client.service = hello.service or client.service
        client.post(Welcome(min(hello.version, VERSION), self._factors.facts(), self._meter_id, client.received))
        client.factors_sent = self._factors.changes
        _LOG.info("ecolyzer: %s of service %s is connected", client.peer, client.service)
        return client

    def _resume(self, client: Client, hello: Hello) -> Client:
        """The earlier client of the same process, if there is one; else the new client."""
        old = self._by_token.get(hello.token) if hello.token else None
        if old is None or old.finished or old.peer.pid != client.peer.pid:
            client.token = hello.token
            if hello.token:
                self._by_token[hello.token] = client
            return client
        self.clients.remove(client)
        connection, old.connection = old.connection, client.connection
        old.models.clear()  # it reports them again
        old.away, old.lost_at = False, None
        if connection is not None:
            connection.replaced()
        return old

    def leave(self, client: Client, connection: Connection | None) -> None:
        """Note a closed connection; its worker has ended, or will reconnect."""
        if client.connection is not connection or client.finished:
            return
        client.connection = None
        client.lost_at = monotonic()
        client.flushes.clear()
        if connection is None or not client.token:  # of this process, or one that could not be identified again
            self._finish(client)
        else:
            self.check_lost(closing=False)

    def check_lost(self, *, closing: bool) -> None:
        """Check the clients that have lost their connection: some reconnect, some have ended."""
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
        """Turn its open requests into process share; its finished requests are still settled."""
        client.finished = True
        self._abandon(client)
        lost = client.served - client.received - sum(client.dropped.values())
        if lost > 0:
            self._drop(client, {"worker_died": client.dropped.get("worker_died", 0) + lost})

    def _abandon(self, client: Client) -> None:
        for number in client.open:
            for part in client.parts.pop(number, RequestParts()).ids((client.number, number)):
                self._ledger.abandon(part)
        client.open.clear()

    def forget(self, client: Client) -> None:
        """Remove a client that has finished and is fully settled."""
        self.clients.remove(client)
        if self._by_token.get(client.token) is client:
            del self._by_token[client.token]
        self._ledger.activity.forget_process(client.number)

    # Reports.

    def batch(self, client: Client, batch: Batch) -> None:
        """Process a report: clocks, models, open and finished requests, the watermark."""
        now = monotonic_ns()
        self._clocks(client, batch, now)
        for model in batch.models:
            client.models[model.key] = model
        if len(client.models) > MAX_MODELS:
            raise ProtocolError(f"it reported more than {MAX_MODELS} models")
        for one in batch.open:
            self._open(client, one, min(batch.now_ns, now))
        for done in batch.joint:
            self._joint_call(client, done, now)
        for done in batch.done:
            self._done(client, done, now)
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

    def _done(self, client: Client, done: Done, now: int) -> None:
        client.received += 1
        model = client.models.get(done.model)
        if model is None or not is_plausible(done, now) or done.id in client.waiting:
            self.reject(client, done, "invalid")
            return
        if done.id not in client.open and _in_flight(client) >= MAX_IN_FLIGHT:
            self.reject(client, done, "limit")
            return
        if self._record(client, self._finished(client, done, model), done):
            client.waiting[done.id] = done, model
            client.open.discard(done.id)
        else:
            self.reject(client, done, "late")

    def _finished(self, client: Client, done: Done, model: Model) -> Record:
        busy, partitions = self._devices.busy(done.busy, model.sensor, done.start_ns, done.end_ns)
        return Record(
            id=(client.number, done.id), pid=client.number, start_ns=done.start_ns, end_ns=done.end_ns,
            cpu_ns=min(done.cpu_ns, (done.end_ns - done.start_ns) * _CPUS),
            device_busy=busy, partitions=partitions, kind=_kind(model, done), items=max(1, done.items),
            members=done.members,
        )  # fmt: skip

    def _record(self, client: Client, record: Record, request: Open | Done) -> bool:
        """Record a request in the ledger, by its phases if it has any. Returns False if it is too late."""
        reported = client.parts.get(request.id)
        if reported is None and not request.phases and record.end_ns is not None:
            return self._ledger.record(record)
        if reported is None:
            reported = client.parts[request.id] = RequestParts()
        parts = split(record, request.phases, reported)
        for index, (part, _) in enumerate(parts):
            if self._ledger.record(part):
                continue
            if index == 0:
                del client.parts[request.id]
                return False
            reported.cut(index)  # its interval is closed: the worker has not reported for long
            for again, _ in split(record, request.phases, reported):
                self._ledger.record(again)
            break
        return True

    def _joint_call(self, client: Client, done: Done, now: int) -> None:
        """Record a call that served several requests: it is no request, and its joules are theirs."""
        model = client.models.get(done.model)
        repeated = done.id in client.joint_calls or done.id in client.waiting
        if model is None or repeated or not done.members or not is_plausible(done, now):
            return
        record = self._finished(client, done, model)
        if len(client.joint_calls) >= MAX_IN_FLIGHT or not self._ledger.record(record):
            # Its joules are process share, and the requests that it served do not wait for them.
            for member, _ in done.members:
                client.shares.setdefault(member, JointShares()).calls += 1
            return
        client.joint_calls[done.id] = done, model
        client.open.discard(done.id)

    # Requests without energy, labels, lost records.

    def unsettle(self, client: Client, done: Done, reason: str) -> Settled:
        """Count a request without energy; returns the message for its worker."""
        client.accounted += 1
        client.parts.pop(done.id, None)
        self._recorder.count_unsettled(client.service, reason)
        return Settled(done.id, reason)

    def reject(self, client: Client, done: Done, reason: str) -> None:
        """Count a request without energy, and answer its worker at once."""
        settled = self.unsettle(client, done, reason)
        if done.want:
            client.post(Settlements([settled], client.accounted))

    def labels(self, client: Client, model: Model, done: Done) -> tuple[str, ...]:
        """Returns the labels of a request: service, model, framework, operation, device and route.

        The number of models and routes is bounded, so that one client cannot use up the label sets of all.
        """
        name, operation, route = key = model.name, done.operation, done.route
        if key not in client.labels:
            if len(client.labels) >= self._max_label_sets:
                name = route = "__other__"
            else:
                client.labels.add(key)
        return client.service, name, model.framework, operation, model.device, route

    def _drop(self, client: Client, dropped: dict[str, int]) -> None:
        for reason, number in dropped.items():
            if reason not in _REASONS:
                raise ProtocolError(f"it dropped requests for an unknown reason: {reason!r}")
            self._recorder.count_dropped(client.service, reason, number - client.dropped.get(reason, 0))
            client.dropped[reason] = max(number, client.dropped.get(reason, 0))


def _kind(model: Model | None, request: Open | Done) -> Kind | None:
    """The requests expected to draw the same watts: one model and dtype, one operation, batches of similar size."""
    if model is None:
        return None
    warmup = isinstance(request, Done) and request.warmup
    operation = f"{request.operation} warmup" if warmup else request.operation
    return kind_of(f"{model.name} {model.dtype or ''}", operation, request.items)


def _in_flight(client: Client) -> int:
    return len(client.open) + len(client.waiting) + len(client.joint_calls)

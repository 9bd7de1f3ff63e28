"""Decides until when intervals are complete, settles the requests of those closed, and answers their workers."""

from __future__ import annotations

import logging
from time import monotonic_ns
from typing import Final, cast

from ecolyzer_otel.ledger import Ledger, Settlement
from ecolyzer_otel.meter.client import Client
from ecolyzer_otel.meter.factors import CurrentFactors
from ecolyzer_otel.meter.intake import GRACE_NS, Intake
from ecolyzer_otel.meter.joint import JointCalls
from ecolyzer_otel.meter.pace import Pace
from ecolyzer_otel.meter.parts import merge, part_index
from ecolyzer_otel.meter.record import Recorder
from ecolyzer_otel.meter.sampler import Sampler
from ecolyzer_otel.meter.settled import SettledRequest
from ecolyzer_otel.wire.protocol import Flushed, Settled, Settlements

__all__ = ["Settler"]

_LOG = logging.getLogger(__name__)

#: Intervals wait no longer than this for the watermark of a worker that does not report.
_SILENT_NS: Final = 2_000_000_000
#: A request is settled this long after its end, even without a reading.
_OVERDUE_NS: Final = 3_000_000_000
#: Settlements of one message.
_MAX_SETTLEMENTS: Final = 2_000
_NO_PHASES: Final[dict[str, float]] = {}


class Settler:
    """The settlement of one meter's requests. Called under the meter's lock.

    Args:
        ledger: gives the settlements.
        intake: the workers.
        recorder: counts settled requests in the metrics.
        sampler: gives temperatures and throttling.
        factors: the factors in use.
        joint: calls that served several requests.
        pace: whether the meter is closing.
        shared: the meter serves many services.
        single_worker: no other worker than this process can connect.

    Attributes:
        flushes: number of flushes answered so far.
    """

    def __init__(
        self,
        ledger: Ledger,
        intake: Intake,
        recorder: Recorder,
        sampler: Sampler,
        factors: CurrentFactors,
        joint: JointCalls,
        pace: Pace,
        *,
        shared: bool,
        single_worker: bool,
    ) -> None:
        self.flushes = 0
        self.single_worker = single_worker
        self._ledger = ledger
        self._intake = intake
        self._recorder = recorder
        self._sampler = sampler
        self._factors = factors
        self._joint = joint
        self._pace = pace
        self._shared = shared
        #: The time of the present cycle.
        self._now_ns = 0

    def settle(self) -> None:
        """Close the intervals that are complete, settle the requests in them, and answer their workers."""
        now = self._now_ns = monotonic_ns()
        found: dict[tuple[int, int], list[Settlement]] = {}
        for settlement in self._ledger.advance(self._complete_until(), overdue_ns=now - _OVERDUE_NS):
            number, request, *_ = cast("tuple[int, ...]", settlement.id)
            found.setdefault((number, request), []).append(settlement)
        clients = {client.number: client for client in self._intake.clients}
        for (number, request), settlements in found.items():
            client = clients[number]
            try:
                if request in client.joint_calls:
                    self._joint.divide(client, request, settlements[0])
                else:
                    self._settle(client, request, settlements)
            except Exception:  # noqa: BLE001 - one settlement that fails must not affect the others
                _LOG.warning("ecolyzer: a request could not be settled", exc_info=True)
                self._fail(client, request)
        for client in self._intake.clients:
            for request in list(client.ready):
                self._finish(client, request)
            self._joint.count_unclaimed(client)
        self._recorder.flush()
        for client in list(self._intake.clients):
            self._answer(client)

    def _complete_until(self) -> int:
        """The time before which no further record or open request can arrive."""
        now = self._now_ns
        active = [client for client in self._intake.clients if client.active]
        marks = [max(client.watermark_ns, now - _SILENT_NS) for client in active if not client.quiet]
        # A worker that has not connected yet may be in its first request, unless there can be no other worker.
        only = len(active) == 1 and (bool(active[0].flushes) or (self.single_worker and bool(marks)))
        if not (self._pace.closing or (only and not self._shared)):
            marks.append(now - GRACE_NS)
        return min(marks, default=now)

    def _fail(self, client: Client, request: int) -> None:
        waiting = client.waiting.pop(request, None)
        client.ready.pop(request, None)
        if waiting is not None:
            settled = self._intake.unsettle(client, waiting[0], "error")
            if waiting[0].want:
                client.results.append(settled)

    def _settle(self, client: Client, request: int, settlements: list[Settlement]) -> None:
        """Settle a request, at once unless it may have shares of joint calls."""
        reported = client.parts.pop(request, None)
        if reported is None:
            settlement, phases = settlements[0], _NO_PHASES
        else:
            named = [(reported.parts[part_index(cast("tuple[int, ...]", one.id))][0], one) for one in settlements]
            specs = {name: book.spec for name, book in self._ledger.sensors.items()}
            settlement, phases = merge(named, specs)
        if request in client.shares or client.waiting[request][0].joint:
            client.ready[request] = settlement, phases, self._now_ns
            self._finish(client, request)
        else:
            self._account(client, request, settlement, phases)

    def _finish(self, client: Client, request: int) -> None:
        """Settle a request that may have shares of joint calls, once it waits for no more of them."""
        settlement, phases, since_ns = client.ready[request]
        overdue = self._now_ns - since_ns >= _OVERDUE_NS
        if not overdue and not self._pace.closing and self._joint.outstanding(client, request):
            return
        del client.ready[request]
        self._account(client, request, self._joint.claim(client, request, settlement), phases)

    def _account(self, client: Client, request: int, settlement: Settlement, phases: dict[str, float]) -> None:
        """Count a request, and keep its settlement for its worker if that asks for it."""
        done, model = client.waiting[request]
        settled: Settled | None
        if settlement.method == "unsettled":
            settled = self._intake.unsettle(client, done, "no_reading")
        else:
            conditions = None
            if done.want:
                charged = [one.sensor for one in settlement.charges]
                conditions = self._sampler.conditions(model.device, charged, done.start_ns, done.end_ns)
            settled = self._recorder.record(
                SettledRequest(
                    self._intake.labels(client, model, done),
                    model,
                    done,
                    settlement,
                    self._factors.assess(settlement.charges),
                    conditions,
                    (self._now_ns - done.end_ns) / 1e9,
                    phases,
                )
            )
            client.accounted += 1
        del client.waiting[request]  # last: a failure before this line is counted as an error
        if settled is not None and done.want:
            client.results.append(settled)

    def _answer(self, client: Client) -> None:
        settled, client.results = client.results, []
        for start in range(0, len(settled), _MAX_SETTLEMENTS):
            place = None if client.factors_sent == self._factors.changes else self._factors.facts()
            client.factors_sent = self._factors.changes
            client.post(Settlements(settled[start : start + _MAX_SETTLEMENTS], client.accounted, place))
        if client.accounted != client.reported:
            client.reported = client.accounted
            client.post(Settlements([], client.accounted))
        if client.unsettled:
            return
        if client.flushes:
            self.flushes += 1
            client.post(Flushed(client.flushes[-1]))
            client.flushes.clear()
        if client.finished and not client.shares:
            self._intake.forget(client)

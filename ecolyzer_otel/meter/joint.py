"""Calls that served several requests: their joules are divided among the requests that they served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Final, cast

from ecolyzer_otel.ledger import Settlement
from ecolyzer_otel.meter.client import Client
from ecolyzer_otel.meter.factors import CurrentFactors
from ecolyzer_otel.meter.intake import Intake
from ecolyzer_otel.meter.record import Recorder
from ecolyzer_otel.meter.settled import joint_call_message
from ecolyzer_otel.meter.shares import JointShares, add_shares

__all__ = ["JointCalls"]

#: A share waits this long, in seconds, for the record of the request that it belongs to.
_UNCLAIMED_SECONDS: Final = 10.0


class JointCalls:
    """Divides settled joint calls, and holds the shares until their requests are settled.

    Args:
        clients: the meter's workers.
        intake: gives the labels of a call.
        recorder: counts shares that no request receives.
        factors: the factors in use.
    """

    def __init__(
        self, clients: Sequence[Client], intake: Intake, recorder: Recorder, factors: CurrentFactors
    ) -> None:
        self._clients = clients
        self._intake = intake
        self._recorder = recorder
        self._factors = factors
        self._held: dict[str, float] = {}

    @property
    def held(self) -> Mapping[str, float]:
        """Active joules by sensor that the ledger has charged and that no request has received yet."""
        return self._held

    def divide(self, client: Client, call: int, settlement: Settlement) -> None:
        """Divide a settled call among the requests that it served."""
        done, model = client.joint_calls.pop(call)
        client.parts.pop(call, None)
        labels = self._intake.labels(client, model, done)
        for member, active, idle in settlement.members:
            shares = client.shares.setdefault(cast("int", member), JointShares())
            shares.add(settlement, active, idle)
            shares.labels, shares.since = labels, monotonic()
        for charge in settlement.charges:
            self._held[charge.sensor] = self._held.get(charge.sensor, 0.0) + charge.active
        if done.want:
            client.results.append(joint_call_message(done, settlement))

    def outstanding(self, client: Client, request: int) -> bool:
        """Returns whether a finished request still waits for calls that served it."""
        expected = client.waiting[request][0].joint
        shares = client.shares.get(request)
        return expected > (shares.calls if shares else 0)

    def claim(self, client: Client, request: int, settlement: Settlement) -> Settlement:
        """Returns the settlement of a request with its shares, which are no longer held."""
        shares = client.shares.pop(request, None)
        if shares is None or not shares.charges:
            return settlement
        self._release(shares)
        return add_shares(settlement, shares)

    def count_unclaimed(self, client: Client) -> None:
        """Count shares whose request will not be settled with them, because it is settled already or lost."""
        for request, shares in list(client.shares.items()):
            expected = request in client.waiting or request in client.open
            if not expected and (client.finished or monotonic() - shares.since > _UNCLAIMED_SECONDS):
                del client.shares[request]
                if shares.charges:
                    self._release(shares)
                    self._recorder.count_shares(shares, self._factors.assess(shares.charges).impact)

    def _release(self, shares: JointShares) -> None:
        for charge in shares.charges:
            self._held[charge.sensor] = max(0.0, self._held[charge.sensor] - charge.active)
        if not any(client.shares or client.joint_calls for client in self._clients):
            self._held.clear()  # the rest is rounding

"""A settled request, and the messages that report settlements to workers."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ecolyzer_otel.impact.ess import ess
from ecolyzer_otel.impact.sci import sci
from ecolyzer_otel.ledger import Settlement
from ecolyzer_otel.meter.impacts import Assessment
from ecolyzer_otel.meter.sampler import ThermalConditions
from ecolyzer_otel.wire.protocol import Done, Model, Settled

__all__ = ["SettledRequest", "joint_call_message", "settled_message"]


class SettledRequest(msgspec.Struct, frozen=True):
    """One settled request with all that metrics and spans show of it.

    A msgspec structure, because one is made for every request and its constructor runs in C.

    Attributes:
        labels: service, model, framework, operation, device and route.
        model: facts of the model.
        done: the request's record.
        settlement: its joules.
        assessment: its impact.
        conditions: temperatures and throttling; None where its worker does not ask for the settlement.
        lag_seconds: from its end to its settlement.
        phases: joules of its phases, active and idle, by name.
    """

    labels: tuple[str, ...]
    model: Model
    done: Done
    settlement: Settlement
    assessment: Assessment
    conditions: ThermalConditions | None
    lag_seconds: float
    phases: Mapping[str, float]


def settled_message(
    request: SettledRequest, conditions: ThermalConditions, effective: float | None, factor: float | None
) -> Settled:
    """Returns the settlement as its worker receives it, for the request's span.

    Args:
        request: the request.
        conditions: temperatures and throttling over its time.
        effective: effective parameters of its model; None if unknown.
        factor: quantization factor of its model; None if unknown.
    """
    done, settlement, assessment = request.done, request.settlement, request.assessment
    impact = assessment.impact
    score = None if effective is None else ess(effective, impact.operational_grams)
    uncertainty, low, high = assessment.uncertainty(settlement)
    tokens = sum(done.tokens) if done.tokens is not None and impact.embodied_grams is not None else 0
    own = conditions.own
    return Settled(
        id=done.id,
        unsettled="",
        active=settlement.active_joules,
        idle=settlement.idle_joules,
        uncertainty=settlement.uncertainty_joules,
        method=settlement.method,
        components={
            name: (active + idle, method) for name, (active, idle, method) in settlement.components.items()
        },
        operational_grams=impact.operational_grams,
        embodied_grams=impact.embodied_grams,
        onsite_liters=impact.onsite_liters,
        offsite_liters=impact.offsite_liters,
        celsius=own[0] if own else None,
        max_celsius=own[1] if own else None,
        ess=score,
        effective_parameters=effective,
        quantization_factor=factor,
        basis=settlement.basis,
        phases=dict(request.phases),
        uncertainty_grams=uncertainty,
        market_grams=impact.market_grams,
        marginal_grams=impact.marginal_grams,
        water_low=low,
        water_high=high,
        item_ess=None if score is None else score * done.items,
        sci_million_tokens=sci(impact.grams, 0.0, tokens / 1e6) if tokens else None,
        grams_per_kwh=assessment.grams_per_kwh,
        devices=conditions.devices,
        throttled=conditions.throttled,
        reasons=conditions.reasons,
    )


def joint_call_message(done: Done, settlement: Settlement) -> Settled:
    """Returns the settlement of a call that served several requests; it is no request and is not counted."""
    return Settled(
        id=done.id,
        unsettled="",
        active=settlement.active_joules,
        idle=settlement.idle_joules,
        uncertainty=settlement.uncertainty_joules,
        method=settlement.method,
        served=len(settlement.members),
    )

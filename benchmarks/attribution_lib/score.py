"""The scores of an attribution: per request against the truth, and the conservation of its ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .trace import Truth
from .world import Floats


@dataclass(frozen=True)
class Score:
    """Errors are of active joules, summed over sensors, unless said otherwise; ratios, not percent."""

    wape: float
    """Sum of absolute errors over the sum of true joules."""
    bias: float
    """Sum of joules over the true sum, minus 1."""
    median_ape: float
    p95_ape: float
    class_bias: Mapping[str, float]
    rank_correlation: float
    zero_rate: float
    """Part of the requests that drew energy and were charged none."""
    invalid: int
    """Negative or not-a-number joules or uncertainties."""
    missing: int
    coverage: float
    """Part of the requests whose truth lies within two uncertainties."""
    u_over_mae: float
    """Mean uncertainty over mean absolute error: 1.25 where errors are normal and it is right."""
    wape_total: float
    """WAPE of active + idle joules, the idle part as the truth divides it."""
    idle_bias: float
    wape_sensor: Mapping[str, float]
    residual: float
    """Worst sensor's |shares - measured| over measured, requests' sum against its share included."""
    integral_residual: float
    """Worst sensor's |measured - an independent sum over its readings| over that sum; nan if undefined."""
    requests_per_second: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def score(
    document: Mapping[str, Any], truth: Truth, result: Mapping[str, Any], replay_seconds: float | None = None
) -> Score:
    """Score a result of ``replay`` (or of ``oracle`` and the peers, which have no uncertainty and no sensors)."""
    charged: Mapping[str, Mapping[str, Any]] = result["requests"]
    active = np.array([float(charged.get(name, {}).get("active_joules") or 0.0) for name in truth.ids])
    idle = np.array([float(charged.get(name, {}).get("idle_joules") or 0.0) for name in truth.ids])
    u = np.array([float(charged.get(name, {}).get("uncertainty_joules", np.nan)) for name in truth.ids])
    real = np.sum(list(truth.active.values()), axis=0)
    real_idle = np.array([truth.requests[name].idle_joules for name in truth.ids])
    error = np.abs(active - real)
    reported = np.isfinite(u)
    ape = error / np.maximum(real, 1e-12)
    kinds = np.array(truth.kinds)
    ours, measured = _residuals(truth, result, active, idle)
    return Score(
        wape=float(error.sum() / real.sum()),
        bias=float(active.sum() / real.sum() - 1),
        median_ape=float(np.median(ape)),
        p95_ape=float(np.quantile(ape, 0.95)),
        class_bias={
            str(kind): float(active[kinds == kind].sum() / real[kinds == kind].sum() - 1)
            for kind in np.unique(kinds)
        },
        rank_correlation=_spearman(active, real),
        zero_rate=float(np.mean((real > 0) & ~(active > 0))),
        invalid=int(sum(np.sum(~np.isfinite(v) | (v < 0)) for v in (active, idle, u[reported]))),
        missing=sum(name not in charged for name in truth.ids),
        coverage=float(np.mean(error[reported] <= 2 * u[reported] + 1e-12)) if reported.any() else float("nan"),
        u_over_mae=float(u[reported].mean() / max(error[reported].mean(), 1e-12))
        if reported.any()
        else float("nan"),
        wape_total=float(np.abs(active + idle - real - real_idle).sum() / (real + real_idle).sum()),
        idle_bias=float(idle.sum() / real_idle.sum() - 1) if real_idle.sum() > 0 else float("nan"),
        wape_sensor=_by_sensor(truth, charged),
        residual=ours,
        integral_residual=measured,
        requests_per_second=len(truth.ids) / replay_seconds if replay_seconds else float("nan"),
    )


def _by_sensor(truth: Truth, charged: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    out = {}
    for sensor, real in truth.active.items():
        got = np.array(
            [
                float(charged.get(name, {}).get("sensors", {}).get(sensor, {}).get("active", 0.0))
                for name in truth.ids
            ]
        )
        out[sensor] = float(np.abs(got - real).sum() / max(real.sum(), 1e-12))
    return out


def _residuals(truth: Truth, result: Mapping[str, Any], active: Floats, idle: Floats) -> tuple[float, float]:
    sensors: Mapping[str, Mapping[str, float]] = result.get("sensors", {})
    if not sensors:
        return float("nan"), float("nan")
    ours, measured = 0.0, float("nan")
    for sensor, shares in sensors.items():
        total = max(abs(shares["measured_joules"]), 1e-9)
        parts = sum(shares[name] for name in ("requests", "process", "host", "idle", "pending"))
        ours = max(ours, abs(parts - shares["measured_joules"]) / total)
        integral = truth.integral_joules[sensor]
        if integral is not None:
            off = abs(shares["measured_joules"] - integral) / max(integral, 1e-9)
            measured = off if np.isnan(measured) else max(measured, off)
    everything = max(sum(shares["measured_joules"] for shares in sensors.values()), 1e-9)
    ours = max(ours, abs(sum(shares["requests"] for shares in sensors.values()) - active.sum()) / everything)
    # Idle joules of requests are a part of the idle share, never more than it.
    ours = max(ours, (idle.sum() - sum(shares["idle"] for shares in sensors.values())) / everything)
    return float(ours), float(measured)


def _spearman(a: Floats, b: Floats) -> float:
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(np.argsort(np.argsort(a)), np.argsort(np.argsort(b)))[0, 1])

"""Figures of whole devices: where the joules of each sensor went, and the impact of all of them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ecolyzer_otel.common.metrics import Metric, MetricSpec
from ecolyzer_otel.report.observations import Observations, SiteTotal
from ecolyzer_otel.report.ranges import NOT_CONFIGURED, UNKNOWN, Amount, Uncertainties, absent, quadrature, spread

__all__ = ["SHARES", "Device", "devices", "site", "site_known", "water_amounts"]

SHARES: Final = ("requests", "process", "host", "idle")


@dataclass(frozen=True, slots=True)
class Device:
    """Where the joules of one sensor went. ``shares`` are joules by requests, process, host, idle.

    ``methods`` are joules by method; ``uncertainty`` is relative, one standard uncertainty.
    """

    host: str
    device: str
    component: str
    shares: Mapping[str, float]
    methods: Mapping[str, float]
    uncertainty: float | None

    @property
    def joules(self) -> float:
        """What was measured: all four shares."""
        return math.fsum(self.shares.values())


def site_known(seen: Observations, spec: MetricSpec) -> bool:
    """Whether PUE or WUE of some meter is a figure of its site, and not the default: the machine alone."""
    gauges = seen.gauges.get(spec.stem, {})
    return any(not series[2].startswith("default") for series in gauges)


def devices(seen: Observations) -> list[Device]:
    """The devices of each host, meters' lives taken together, by descending energy."""
    shares: dict[tuple[str, str, str], dict[str, float]] = defaultdict(lambda: dict.fromkeys(SHARES, 0.0))
    methods: dict[tuple[str, str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    names = ("meter", "device", "component", "method", "share")
    for (meter, device, component, method, share), joules in seen.by(Metric.DEVICE_ENERGY, *names).items():
        key = seen.host(meter), device, component
        shares[key][share] = shares[key].get(share, 0.0) + joules
        methods[key][method] += joules
    ratios: dict[tuple[str, str, str], float] = {}
    for (meter, sensor, method), gauge in seen.gauges[Metric.SENSOR_UNCERTAINTY.stem].items():
        ratios[seen.host(meter), sensor, method] = gauge.mean
    made = []
    for key, parts in shares.items():
        known = {method: ratios[key[0], key[1], method] for method in methods[key] if (*key[:2], method) in ratios}
        joules = math.fsum(methods[key][method] for method in known)
        weighted = math.fsum(methods[key][method] * ratio for method, ratio in known.items())
        ratio = weighted / joules if joules > 0.0 else next(iter(known.values()), None)
        made.append(Device(*key, dict(parts), dict(methods[key]), ratio))
    return sorted(made, key=lambda one: (-one.joules, one.host, one.device))


def site(seen: Observations, doubt: Uncertainties, embodied: bool, market: bool) -> dict[str, Amount]:
    """Energy and impact of all that the devices drew, whoever it was for."""
    joules: dict[tuple[str, str], float] = defaultdict(float)
    for (meter, component), value in seen.by(Metric.DEVICE_ENERGY, "meter", "component").items():
        joules[meter, component] += value
    if not joules:
        names = ("co2e_operational", "co2e_market", "co2e_embodied")
        return (
            dict.fromkeys(("energy", "facility_energy"), absent("J", UNKNOWN))
            | dict.fromkeys(names, absent("g", UNKNOWN))
            | dict.fromkeys(("water", "water_onsite", "water_offsite"), absent("L", UNKNOWN))
        )
    gain = doubt.gain(joules)
    grams, offsite = _per_meter(seen, SiteTotal.GRAMS), _per_meter(seen, SiteTotal.OFFSITE_LITERS)
    onsite = math.fsum(_per_meter(seen, SiteTotal.ONSITE_LITERS).values())
    facility = math.fsum(_per_meter(seen, SiteTotal.JOULES).values())
    contract = math.fsum(_per_meter(seen, SiteTotal.MARKET_GRAMS).values())
    made = {
        "energy": spread(math.fsum(joules.values()), "J", gain, "sensors' gain"),
        "facility_energy": spread(facility, "J", gain, "times PUE, taken as exact; sensors' gain")
        if facility
        else absent("J", UNKNOWN),
        "co2e_operational": spread(
            math.fsum(grams.values()), "g", quadrature(gain, doubt.grid(grams)),
            "location-based; energy and grid intensity",
        ) if grams else absent("g", UNKNOWN),
        "co2e_market": spread(contract, "g", gain, "market-based; energy")
        if market
        else absent("g", NOT_CONFIGURED),
        "co2e_embodied": _embodied(seen, embodied),
    }  # fmt: skip
    if not offsite:
        return made | dict.fromkeys(("water", "water_onsite", "water_offsite"), absent("L", UNKNOWN))
    return made | water_amounts(onsite, offsite, gain, doubt, cooled=site_known(seen, Metric.WUE))


def _embodied(seen: Observations, configured: bool) -> Amount:
    """All that fell due while the meters ran, whether a request was in flight or not."""
    grams = seen.total(Metric.EMBODIED)
    if grams is None:
        return absent("g", NOT_CONFIGURED if not configured else UNKNOWN)
    return Amount(grams, "g", basis="embodied, amortised by time over the configured lifetime")


def _per_meter(seen: Observations, stem: str) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for series, value in seen.totals.get(stem, {}).items():
        sums[series[0]] += value
    return dict(sums)


def water_amounts(
    onsite: float, offsite: Mapping[str, float], gain: float | None, doubt: Uncertainties, *, cooled: bool
) -> dict[str, Amount]:
    """On-site, off-site (by meter) and all litres, with the range of the water intensity and of the energy.

    ``cooled``: whether a WUE is known; without, water on site is unknown and the sum is of what is off site alone.
    """
    away, ends = math.fsum(offsite.values()), doubt.water(offsite)
    basis = "energy and the range of the water intensity" + ("" if cooled else "; off site alone")
    ratio = gain if ends is not None or not away else None
    whole = None if ends is None else (onsite + ends[0], onsite + ends[1])
    return {
        "water": spread(onsite + away, "L", ratio, basis, whole),
        "water_onsite": spread(onsite, "L", gain, "WUE taken as exact; energy")
        if cooled
        else absent("L", NOT_CONFIGURED),
        "water_offsite": spread(away, "L", ratio, basis, ends),
    }

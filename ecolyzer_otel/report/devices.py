"""Figures of whole devices: the shares of each sensor's joules, and the impact of all of them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ecolyzer_otel.common.metrics import Metric, MetricSpec
from ecolyzer_otel.report.observations import Observations, SiteTotal
from ecolyzer_otel.report.ranges import (
    NOT_CONFIGURED,
    UNKNOWN,
    Amount,
    Uncertainties,
    absent,
    quadrature,
    with_range,
)

__all__ = ["SHARES", "Configured", "Device", "devices", "site", "site_factor_configured", "water_amounts"]

SHARES: Final = ("requests", "process", "host", "idle")


@dataclass(frozen=True, slots=True)
class Device:
    """The joules of one sensor. ``shares`` are joules by requests, process, host, idle.

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
        """The joules that the sensor measured: the sum of all four shares."""
        return math.fsum(self.shares.values())


def site_factor_configured(observed: Observations, spec: MetricSpec) -> bool:
    """Whether some meter's PUE or WUE is a figure of its site, and not the default (the machine alone)."""
    gauges = observed.gauges.get(spec.stem, {})
    return any(not series[2].startswith("default") for series in gauges)


def devices(observed: Observations) -> list[Device]:
    """The devices of each host by descending energy; restarts of a meter are summed."""
    shares: dict[tuple[str, str, str], dict[str, float]] = defaultdict(lambda: dict.fromkeys(SHARES, 0.0))
    methods: dict[tuple[str, str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    names = ("meter", "device", "component", "method", "share")
    for (meter, device, component, method, share), joules in observed.by(Metric.DEVICE_ENERGY, *names).items():
        key = observed.host(meter), device, component
        shares[key][share] = shares[key].get(share, 0.0) + joules
        methods[key][method] += joules
    ratios: dict[tuple[str, str, str], float] = {}
    for (meter, sensor, method), gauge in observed.gauges[Metric.SENSOR_UNCERTAINTY.stem].items():
        ratios[observed.host(meter), sensor, method] = gauge.mean
    result = []
    for key, parts in shares.items():
        ratios_by_method = {
            method: ratios[key[0], key[1], method] for method in methods[key] if (*key[:2], method) in ratios
        }
        joules = math.fsum(methods[key][method] for method in ratios_by_method)
        weighted = math.fsum(methods[key][method] * ratio for method, ratio in ratios_by_method.items())
        ratio = weighted / joules if joules > 0.0 else next(iter(ratios_by_method.values()), None)
        result.append(Device(*key, dict(parts), dict(methods[key]), ratio))
    return sorted(result, key=lambda one: (-one.joules, one.host, one.device))


@dataclass(frozen=True, slots=True)
class Configured:
    """Which optional factors were configured: embodied emissions, a contractual (market-based) factor."""

    embodied: bool
    market: bool


def site(observed: Observations, uncertainties: Uncertainties, configured: Configured) -> dict[str, Amount]:
    """Energy and impact of all energy of the devices, for whatever purpose it was used."""
    joules: dict[tuple[str, str], float] = defaultdict(float)
    for (meter, component), value in observed.by(Metric.DEVICE_ENERGY, "meter", "component").items():
        joules[meter, component] += value
    if not joules:
        names = ("co2e_operational", "co2e_market", "co2e_embodied")
        return (
            dict.fromkeys(("energy", "facility_energy"), absent("J", UNKNOWN))
            | dict.fromkeys(names, absent("g", UNKNOWN))
            | dict.fromkeys(("water", "water_onsite", "water_offsite"), absent("L", UNKNOWN))
        )
    gain = uncertainties.gain(joules)
    grams, offsite = _per_meter(observed, SiteTotal.GRAMS), _per_meter(observed, SiteTotal.OFFSITE_LITERS)
    onsite = math.fsum(_per_meter(observed, SiteTotal.ONSITE_LITERS).values())
    facility = math.fsum(_per_meter(observed, SiteTotal.JOULES).values())
    contract = math.fsum(_per_meter(observed, SiteTotal.MARKET_GRAMS).values())
    result = {
        "energy": with_range(math.fsum(joules.values()), "J", gain, "sensors' gain"),
        "facility_energy": with_range(facility, "J", gain, "times PUE, taken as exact; sensors' gain")
        if facility
        else absent("J", UNKNOWN),
        "co2e_operational": with_range(
            math.fsum(grams.values()), "g", quadrature(gain, uncertainties.grid(grams)),
            "location-based; energy and grid intensity",
        ) if grams else absent("g", UNKNOWN),
        "co2e_market": with_range(contract, "g", gain, "market-based; energy")
        if configured.market
        else absent("g", NOT_CONFIGURED),
        "co2e_embodied": _embodied(observed, configured),
    }  # fmt: skip
    if not offsite:
        return result | dict.fromkeys(("water", "water_onsite", "water_offsite"), absent("L", UNKNOWN))
    return result | water_amounts(
        onsite, offsite, gain, uncertainties, cooled=site_factor_configured(observed, Metric.WUE)
    )


def _embodied(observed: Observations, configured: Configured) -> Amount:
    """The embodied emissions amortised while the meters ran, whether or not a request was in flight."""
    grams = observed.total(Metric.EMBODIED)
    if grams is None:
        return absent("g", NOT_CONFIGURED if not configured.embodied else UNKNOWN)
    return Amount(grams, "g", basis="embodied, amortised by time over the configured lifetime")


def _per_meter(observed: Observations, stem: str) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for series, value in observed.totals.get(stem, {}).items():
        sums[series[0]] += value
    return dict(sums)


def water_amounts(
    onsite: float, offsite: Mapping[str, float], gain: float | None, uncertainties: Uncertainties, *, cooled: bool
) -> dict[str, Amount]:
    """On-site, off-site and all litres, with the range of the water intensity and of the energy.

    ``offsite`` is by meter. ``cooled``: whether a WUE is configured; without one, water on site is absent and
    the sum is that of water off site alone.
    """
    offsite_liters, ends = math.fsum(offsite.values()), uncertainties.water(offsite)
    basis = "energy and the range of the water intensity" + ("" if cooled else "; off site alone")
    ratio = gain if ends is not None or not offsite_liters else None
    total_ends = None if ends is None else (onsite + ends[0], onsite + ends[1])
    return {
        "water": with_range(onsite + offsite_liters, "L", ratio, basis, total_ends),
        "water_onsite": with_range(onsite, "L", gain, "WUE taken as exact; energy")
        if cooled
        else absent("L", NOT_CONFIGURED),
        "water_offsite": with_range(offsite_liters, "L", ratio, basis, ends),
    }

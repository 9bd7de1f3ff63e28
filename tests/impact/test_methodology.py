"""The worked examples of docs/methodology.md, recomputed with the package's own functions."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from ecolyzer_otel.impact.embodied import Embodied, time_share_grams
from ecolyzer_otel.impact.ess import EssWindow, effective_parameters, ess
from ecolyzer_otel.impact.impact import Impact, compute_impact
from ecolyzer_otel.impact.place import SiteSettings, resolve_place
from ecolyzer_otel.impact.sci import sci
from ecolyzer_otel.ledger import Charge, Record
from ecolyzer_otel.ledger.account import Account
from ecolyzer_otel.ledger.batches import batch_shares
from ecolyzer_otel.ledger.individuals import Individuals
from ecolyzer_otel.ledger.intensity import Intensity
from ecolyzer_otel.ledger.live import Live
from ecolyzer_otel.ledger.replay import replay
from ecolyzer_otel.ledger.sensor_ledger import _share_uncertainty
from ecolyzer_otel.meter.impacts import assess
from ecolyzer_otel.meter.temperatures import Temperatures
from ecolyzer_otel.sensors.modelled import TDP_POINTS, PowerModel

PAGE = Path(__file__).parents[2] / "docs" / "methodology.md"
Inputs = dict[str, str]


def examples() -> dict[str, tuple[Inputs, Inputs]]:
    """Inputs and results of every ``example: NAME`` block, as texts."""
    found = {}
    for name, body in re.findall(r"```text\nexample: (\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S):
        lines = re.findall(r"^(=> )?([\w=.]+) = (\S+)", body, re.M)
        given = {key: value for arrow, key, value in lines if not arrow}
        found[name] = given, {key: value for arrow, key, value in lines if arrow}
    return found


def ledger(given: Inputs) -> dict[str, float]:
    second = 1_000_000_000

    def request(name: str, end_ns: int) -> dict[str, object]:
        cpu_ns = round(float(given[f"{name}_cpu"]) * second)
        return {"id": name, "pid": 1, "start_ns": 0, "end_ns": end_ns, "cpu_ns": cpu_ns}

    result = replay(
        {
            "version": 1,
            "sensors": [
                {
                    "id": "cpu0",
                    "component": "cpu",
                    "idle_watts": float(given["W"]),
                    "samples": [[0, 0.0], [second, float(given["E"])]],
                }
            ],
            "activity": {
                "host_cpu": [[0, 0.0], [second, float(given["C"])]],
                "processes": {"1": {"cpu": [[0, 0.0], [second, float(given["process_cpu"])]]}},
            },
            "requests": [request("a", second), request("b", second // 2)],
        }
    )
    shares = result["sensors"]["cpu0"]
    requests = {
        f"{name}_{kind}": one[kind]
        for name, one in result["requests"].items()
        for kind in ("active_joules", "idle_joules")
    }
    return {**requests, "process": shares["process"], "host": shares["host"], "idle": shares["idle"]}


def told_apart(given: Inputs) -> dict[str, float]:
    intensity = Intensity(learn_idle=False)
    intensity.spread = float(given["spread"]) ** 2
    individuals = Individuals(intensity)
    members, live = [], []
    for name in ("a", "b"):
        column = intensity.column(name)
        intensity.watts[column], intensity.covariance[column][column] = float(given[f"{name}_watts"]), 0.0
        account = Account()
        account.column = column
        members.append((account, float(given[f"{name}_seconds"])))
        live.append(Live(Record(id=name, pid=1, start_ns=0, end_ns=1)))
    squares = {account.column: intensity.scale(account.column) ** 2 for account, _ in members}
    individuals.observe(members, live, 1, float(given["E"]), 0.0, squares)
    return {f"{name}_joules": account.watts * s for name, (account, s) in zip("ab", members, strict=True)}


def batch(given: Inputs) -> dict[str, float]:
    weights = [float(given["a_weight"]), float(given["b_weight"])]
    shares = batch_shares(float(given["E"]), float(given["fixed"]), weights)
    return {"a_joules": shares[0], "b_joules": shares[1]}


def operational(given: Inputs) -> dict[str, float]:
    place = resolve_place(given["zone"])
    impact = compute_impact(float(given["joules"]), place)
    return {
        "pue": place.pue,
        "grams_per_kwh": place.grams_per_kwh,
        "operational_grams": impact.operational_grams,
    }


def water(given: Inputs) -> dict[str, float]:
    place = resolve_place("US", SiteSettings(pue=float(given["pue"]), wue=float(given["wue"])))
    impact = compute_impact(float(given["joules"]), replace(place, ewif=float(given["ewif"])))
    return {
        "onsite_liters": impact.onsite_liters,
        "offsite_liters": impact.offsite_liters,
        "liters": impact.liters,
    }


def score(given: Inputs) -> dict[str, float | None]:
    grams = compute_impact(float(given["joules"]), resolve_place(given["zone"])).operational_grams
    return {"operational_grams": grams, "ess": ess(parameters(given, given["preset"]), grams)}


def gauge(given: Inputs) -> dict[str, float | None]:
    window = EssWindow()
    p = parameters(given, given["preset"])
    window.add(1000.0, p, int(given["requests"]), int(given["items"]), float(given["grams"]))
    return {f"per_{per}": window.value(1001.0, per) for per in ("request", "item")}


def quantization(given: Inputs) -> dict[str, float]:
    return {
        f"effective_parameters_{preset.replace('-', '_')}": parameters(given, preset)
        for preset in ("paper-tool", "bits", "int4=0.2")
    }


def modelled_power(given: Inputs) -> dict[str, float]:
    watts = float(given["tdp"]) * int(given["threads_here"]) / int(given["threads"])
    model = PowerModel(
        points=tuple((u, part * watts) for u, part in TDP_POINTS), description="", relative_uncertainty=0.2
    )
    return {"watts": model.watts(float(given["utilization"]))}


def share_by_activity(given: Inputs) -> dict[str, float]:
    return {"uncertainty_of_share": _share_uncertainty(float(given["share"]))}


def temperature(given: Inputs) -> dict[str, float]:
    thermal = Temperatures()
    for reading in given["readings"].split(","):
        t, celsius = reading.split(":")
        thermal.add("gpu0", int(t) * 10**9, float(celsius))
    mean, highest = thermal.over(["gpu0"], int(given["start"]) * 10**9, int(given["end"]) * 10**9) or (0.0, 0.0)
    return {"mean": mean, "highest": highest}


def periods(given: Inputs) -> dict[str, float | None]:
    places = [resolve_place(given["first_zone"]), resolve_place(given["second_zone"])]
    first, second = float(given["first_joules"]), float(given["second_joules"])
    charge = Charge("cpu0", "cpu", first + second, 0.0, "measured", 0.0, 1, ((0, first),))
    bill = assess([charge], places.__getitem__, Embodied())
    return {"operational_grams": bill.impact.operational_grams, "grams_per_kwh": bill.grams_per_kwh}


def market(given: Inputs) -> dict[str, float | None]:
    place = resolve_place("FR", SiteSettings(pue=float(given["pue"]), market=float(given["factor"])))
    return {"market_grams": compute_impact(float(given["joules"]), place).market_grams}


def reservoirs(given: Inputs) -> dict[str, float]:
    place = resolve_place(given["zone"])
    without = resolve_place(given["zone"], SiteSettings(reservoir_evaporation=False))
    low, high = place.water_low, place.water_high
    return {"with_reservoirs": place.ewif, "without": without.ewif, "low": low, "high": high}


def software_carbon_intensity(given: Inputs) -> dict[str, float]:
    kilograms, years = float(given["kilograms"]), float(given["lifetime"])
    made = time_share_grams(kilograms, years, float(given["seconds"]), float(given["reserved"]))
    score = sci(float(given["operational_grams"]), made, float(given["requests"]))
    return {"embodied_grams": made, "sci_per_request": score}


def uncertainty(given: Inputs) -> dict[str, float]:
    impact = Impact(float(given["operational_grams"]), float(given["embodied_grams"]), 0.0, 0.0)
    doubts = [float(given[name]) for name in ("energy", "intensity", "embodied")]
    return {"uncertainty_grams": impact.uncertainty_grams(*doubts)}


def liters(given: Inputs) -> dict[str, float]:
    place = replace(
        resolve_place("FR", SiteSettings(wue=float(given["wue"]), ewif=float(given["ewif"]))),
        water_low=float(given["low_ewif"]),
        water_high=float(given["high_ewif"]),
    )
    impact = compute_impact(3.6e6, place)
    low, high = impact.range_liters(float(given["energy"]), place)
    return {"liters": impact.liters, "low_liters": low, "high_liters": high}


def parameters(given: Inputs, preset: str) -> float:
    return effective_parameters(int(given["parameters"]), given["dtype"], preset)


RECOMPUTED: dict[str, Callable[[Inputs], dict[str, float]]] = {
    "ledger": ledger,
    "told_apart": told_apart,
    "batch": batch,
    "operational": operational,
    "water": water,
    "ess": score,
    "ess_gauge": gauge,
    "quantization": quantization,
    "modelled_power": modelled_power,
    "share_by_activity": share_by_activity,
    "temperature": temperature,
    "periods": periods,
    "market": market,
    "reservoirs": reservoirs,
    "sci": software_carbon_intensity,
    "uncertainty": uncertainty,
    "liters": liters,
}


def test_every_example_of_the_page_is_recomputed():
    assert examples().keys() == RECOMPUTED.keys()
    assert PAGE.read_text(encoding="utf-8").count("```") == 2 * len(RECOMPUTED)


@pytest.mark.parametrize("name", RECOMPUTED)
def test_worked_example(name):
    given, printed = examples()[name]
    computed = RECOMPUTED[name](given)
    assert computed.keys() == printed.keys()
    for key, text in printed.items():
        half_a_unit = float(Decimal(1).scaleb(Decimal(text).as_tuple().exponent)) / 2
        assert computed[key] == pytest.approx(float(text), abs=half_a_unit * 1.0001, rel=0), key

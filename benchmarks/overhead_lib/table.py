"""The figures as a text table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from overhead_lib.variants import VARIANTS
from overhead_lib.workloads import WORKLOADS

__all__ = ["BUDGETS", "lines", "verdict"]

#: The most that ours may add to a call, in bare spans of the same workload.
BUDGETS: Final = {"leaf": 0.25, "container": 1.2}
_HEAD: Final = (
    f"{'':34}{'added CPU, us':>14}{'25-75 %':>17}{'x span':>7}{'95 %':>14}"
    f"{'paced +us':>11}{'x span':>7}{'p99 +us':>9}{'behind us':>10}{'meter us':>9}{'blocks':>8}{'kept B':>8}"
)


def _number(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else f"{value:{form}}"


def _pair(values: list[float] | None, form: str = ".2f") -> str:
    return "-" if values is None else f"{values[0]:{form}} {values[1]:{form}}"


def _micro(value: float) -> str:
    """Microseconds; large values without decimals."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.2f}"


def _line(name: str, row: Mapping[str, Any]) -> str:
    cpu, paced = row["cpu_us"], row["paced_us"]
    ratio, paced_ratio = row.get("cpu_ratio") or {}, row.get("paced_ratio") or {}
    serving, left = row.get("serving") or {}, row.get("allocations") or {}
    quartiles = " ".join(_micro(value) for value in cpu["quartiles"])
    return (
        f"  {VARIANTS[name].title:32}{_micro(cpu['median']):>14}{quartiles:>17}{_number(ratio.get('ratio')):>7}"
        f"{_pair(ratio.get('interval')):>14}{_micro(paced['median']):>11}{_number(paced_ratio.get('ratio')):>7}"
        f"{_micro(row['paced_p99_us']):>9}{_number(serving.get('behind_us'), '.1f'):>10}"
        f"{_number(serving.get('meter_us'), '.1f'):>9}{_number(left.get('held_blocks'), '.1f'):>8}"
        f"{_number(left.get('kept_bytes'), '.0f'):>8}"
    )


def verdict(row: Mapping[str, Any], budget: float, key: str) -> str:
    """Whether a ratio is within its budget; marked as uncertain if the budget lies in its interval."""
    ratio = row.get(key)
    if not ratio:
        return "not distinguishable from noise"
    low, high = ratio["interval"]
    sure = "" if high <= budget or low > budget else f", uncertain ({low:.2f} to {high:.2f})"
    return ("within" if ratio["ratio"] <= budget else "OVER") + f" at {ratio['ratio']:.2f}{sure}"


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The table, the cost of the parts, and the verdicts of ours against its budgets."""
    for workload, rows in result["workloads"].items():
        about = WORKLOADS[workload]
        bare = next(iter(rows.values()))
        yield f"\n{workload} ({about.kind}): {about.about}; bare {_micro(bare['bare_cpu_us'])} us of CPU"
        yield _HEAD
        yield from (_line(name, row) for name, row in rows.items())
    if result.get("floor"):
        yield "\nParts of a measured call, each in its own loop, ns:"
        yield from (f"  {name:34}{ns:8.0f}" for name, ns in result["floor"].items())
    yield "\nOurs against its budget, in bare spans (start_span, end):"
    for workload, rows in result["workloads"].items():
        budget = BUDGETS[WORKLOADS[workload].kind]
        for name in (one for one in rows if one.startswith("ours")):
            cpu, paced = (verdict(rows[name], budget, key) for key in ("cpu_ratio", "paced_ratio"))
            yield f"  {workload:10}{VARIANTS[name].title:30} at most {budget:4}: CPU {cpu}; paced wall {paced}"
    yield ""
    for names, which in _packages(result["versions"]).items():
        yield f"{which}: {names}"
    yield from (f"left out: {line}" for line in result["left_out"])


def _packages(versions: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The variants that ran with each set of packages."""
    sets: dict[str, list[str]] = {}
    for variant, packages in versions.items():
        sets.setdefault(", ".join(f"{name} {version}" for name, version in packages.items()), []).append(variant)
    return {names: ", ".join(which) for names, which in sets.items()}

"""The picture: the CPU time that each variant adds to the caller, by workload."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

from overhead_lib.table import BUDGETS
from overhead_lib.variants import VARIANTS
from overhead_lib.workloads import WORKLOADS

#: Colours of Okabe and Ito, and a distinct marker for each variant, so that colour is not needed.
_STYLES: Final = {
    "ours": ("#009E73", "o"), "ours-1": ("#0072B2", "s"), "ours-0.1": ("#56B4E9", "D"), "ours-0": ("#004d38", "v"),
    "span": ("#000000", "|"), "span-current": ("#555555", "+"), "span-six": ("#888888", "x"),
    "codecarbon": ("#D55E00", "P"), "zeus": ("#E69F00", "^"), "openlit": ("#CC79A7", "X"),
    "openllmetry": ("#8a3a6b", "*"),
}  # fmt: skip
_LEAST: Final = 0.1


def draw(result: Mapping[str, Any], path: Path) -> Path:
    """Write the picture; values below the axis are hollow marks on its left edge."""
    workloads = result["workloads"]
    present = [name for name in _STYLES if any(name in rows for rows in workloads.values())]
    step = 1 / (len(present) + 1.5)
    figure, axis = plt.subplots(figsize=(10, 0.75 + 0.11 * (len(present) + 1.5) * len(workloads)))
    for place, (workload, rows) in enumerate(workloads.items()):
        if place % 2:
            axis.axhspan(place - 0.5, place + 0.5, color="#f4f4f4", linewidth=0)
        _budget(axis, place, rows, BUDGETS[WORKLOADS[workload].kind])
        for index, name in enumerate(present):
            if name in rows:
                _mark(axis, place + (index + 1) * step - 0.5, rows[name]["cpu_us"], *_STYLES[name])
    labels = [f"{name}\n{_bare(rows)}" for name, rows in workloads.items()]
    axis.set_yticks(range(len(workloads)), labels, fontsize=9)
    axis.set_ylim(len(workloads) - 0.5, -0.5)
    axis.set_xscale("log")
    axis.set_xlim(left=_LEAST * 0.9)
    axis.set_xlabel("added to the caller's CPU time per call, microseconds (median over rounds, 25 to 75 %)")
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    handles = [
        Line2D([], [], color=_STYLES[name][0], marker=_STYLES[name][1], linestyle="", label=VARIANTS[name].title)
        for name in present
    ]
    handles.append(Line2D([], [], color="#009E73", linewidth=5, alpha=0.25, label="our budget"))
    axis.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=3, frameon=False, fontsize=9)
    figure.tight_layout()
    os.makedirs(path.parent, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
    return path


def _bare(rows: Mapping[str, Any]) -> str:
    micros = next(iter(rows.values()))["bare_cpu_us"]
    return (
        f"{micros / 1000:.1f} ms" if micros >= 1000 else f"{micros:.0f} µs" if micros >= 10 else f"{micros:.2g} µs"
    )


def _budget(axis: Any, place: int, rows: Mapping[str, Any], budget: float) -> None:
    """Shade the budget of ours: a multiple of the bare span of the same workload."""
    span = rows["span"]["cpu_us"]["median"] if "span" in rows else 0.0
    if span > 0:
        axis.fill_betweenx(
            (place - 0.5, place + 0.5), _LEAST * 0.9, budget * span, color="#009E73", alpha=0.12, lw=0
        )


def _mark(axis: Any, height: float, spread: Mapping[str, Any], color: str, marker: str) -> None:
    low, high = spread["quartiles"]
    middle = spread["median"]
    axis.plot([max(low, _LEAST), max(high, _LEAST)], [height, height], color=color, linewidth=1.4, alpha=0.7)
    hollow = {"markerfacecolor": "white"} if middle < _LEAST else {}
    axis.plot(max(middle, _LEAST), height, color=color, marker=marker, markersize=6, linestyle="", **hollow)

"""One picture of the table: per scenario a bar for the ledger, one for the oracle, and one thin bar per peer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

LEDGER, ORACLE = "#0b6e4f", "#b8c4bb"
COLUMNS = 3


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Write the picture; errors are on a logarithmic axis, since peers differ by orders of magnitude."""
    peers = list(rows[0]["peers_wape"])
    colors = plt.get_cmap("tab10").colors  # type: ignore[attr-defined]
    per = -(-len(rows) // COLUMNS)
    bars = len(peers) + 4
    figure, axes = plt.subplots(1, COLUMNS, figsize=(17, max(3.0, 0.62 * per + 1.4)), sharex=True, squeeze=False)
    for column, axis in enumerate(axes[0]):
        part = rows[column * per : (column + 1) * per]
        for i, row in enumerate(part):
            for value, place, height, color in _bars(row, peers, colors):
                axis.barh(
                    i + (place - bars / 2) / (bars + 1.5), value, height / (bars + 1.5), color=color, align="edge"
                )
        axis.set_yticks(range(len(part)), [row["scenario"] for row in part], fontsize=9)
        axis.set_ylim(per - 0.4, -0.6)
        axis.set_xscale("log")
        axis.set_xlim(0.2, 1000)
        axis.set_xticks([1, 10, 100, 1000], ["1 %", "10 %", "100 %", "1000 %"])
        axis.grid(axis="x", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    handles = [plt.Rectangle((0, 0), 1, 1, color=c) for c in (LEDGER, ORACLE, *colors[: len(peers)])]
    figure.legend(
        handles, ["this ledger", "class-mean oracle", *peers], loc="lower center", ncols=len(handles), frameon=False
    )
    figure.suptitle("Error of the active joules of each request (sum of |error| / sum of truth; shorter is better)")
    figure.tight_layout(rect=(0, 0.9 / (0.62 * per + 3), 1, 0.99))
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _bars(
    row: Mapping[str, Any], peers: Sequence[str], colors: Sequence[Any]
) -> list[tuple[float, float, float, Any]]:
    """(percent, place, height, colour) of each bar, the ledger's and the oracle's twice as high as a peer's."""
    out = [(100 * row["wape"], 0.0, 2.0, LEDGER)] if "wape" in row else []
    out.append((100 * row["oracle_wape"], 2.0, 2.0, ORACLE))
    out += [(100 * row["peers_wape"][name], 4.0 + i, 1.0, colors[i]) for i, name in enumerate(peers)]
    return out

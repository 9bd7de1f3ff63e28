"""The plots as SVG, without dates and random ids: the same figures give the same bytes.

Colours: Okabe and Ito (2008), distinct for all common kinds of colour blindness; shares also differ in lightness.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from ecolyzer_otel.common.metrics import Metric
from ecolyzer_otel.report.blocks import display_name
from ecolyzer_otel.report.devices import SHARES, Device
from ecolyzer_otel.report.figures import Row
from ecolyzer_otel.report.observations import Observations, SiteTotal
from ecolyzer_otel.report.ranges import Amount
from ecolyzer_otel.report.sections import Findings
from ecolyzer_otel.report.units import clean, scaled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw"]

_COLOURS: Final = {"requests": "#0072B2", "process": "#E69F00", "host": "#009E73", "idle": "#C7C7C7"}
_GRAMS: Final = "#D55E00"
_DARK: Final = "#333333"
_WIDTH: Final = 7.4  # inches: the text width of A4
_MAX_BARS: Final = 10
_STYLE: Final[dict[str, Any]] = {
    "svg.fonttype": "none",  # text stays text: searchable, and small
    "svg.hashsalt": "ecolyzer",
    "text.parse_math": False,  # the name of a model may be $x$
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": _DARK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "xtick.color": _DARK,
    "ytick.color": _DARK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
#: No metadata: it would contain the date and URLs.
_METADATA: Final[dict[str, Any]] = {"Date": None, "Creator": None, "Format": None, "Type": None}


def draw(found: Findings) -> dict[str, str]:
    """Draw the plots, by name, as SVG elements; a plot without enough figures is left out."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    style: Any = _STYLE  # matplotlib types the settings of its own version only
    makers: dict[str, Callable[[Canvas], bool]] = {
        "timeline": lambda figure: _timeline(figure, found.observed),
        "devices": lambda figure: _devices(figure, found.tables.devices[:_MAX_BARS]),
        "models": lambda figure: _models(figure, found.tables.rows["model"][:_MAX_BARS]),
    }
    elements = {}
    for name, make in makers.items():
        # A separate canvas and a context leave the global state of matplotlib unchanged.
        with mpl.rc_context(style), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names with characters that the font lacks
            figure = Canvas(layout="constrained")
            if make(figure):
                elements[name] = _svg(figure, name)
    return elements


def _svg(figure: Figure, name: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=_METADATA)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # One page holds several plots: their ids and styles must not collide.
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = text.replace('<style type="text/css">*{', f'<style type="text/css">#plot-{name} *{{')
    return text.replace("<svg ", f'<svg id="plot-{name}" role="img" ', 1).strip()


def _timeline(figure: Figure, observed: Observations) -> bool:
    starts = sorted(observed.bins)
    if len(starts) < 2:
        return False
    starts = [
        starts[0] + index * observed.bin_s for index in range(round((starts[-1] - starts[0]) / observed.bin_s) + 1)
    ]
    energy = {share: _series(observed, starts, Metric.DEVICE_ENERGY.stem, share) for share in SHARES}
    grams = _series(observed, starts, SiteTotal.GRAMS)
    charged = _series(observed, starts, Metric.CO2E.stem, "operational")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    figure.set_size_inches(_WIDTH, 4.3)
    times = [datetime.fromtimestamp(start + observed.bin_s / 2, timezone.utc) for start in starts]
    width = observed.bin_s / 86400.0 * 0.88
    each = {86400.0: "day", 3600.0: "hour"}.get(observed.bin_s, f"{observed.bin_s / 60:.0f} min")
    totals = [math.fsum(values) for values in zip(*energy.values(), strict=True)]
    size, name = scaled(max(totals), "Wh")
    bottom = [0.0] * len(starts)
    for share in SHARES:
        heights = [value / size for value in energy[share]]
        upper.bar(times, heights, width, bottom, color=_COLOURS[share], label=share)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    upper.set_ylabel(f"{name} per {each}")
    upper.legend(ncols=4, loc="lower left", bbox_to_anchor=(-0.01, 0.99), handlelength=1.0, columnspacing=1.4)
    size, name = scaled(max([*grams, *charged]), "g")
    lower.bar(times, [g / size for g in grams], width, color="#f0c3a3", label="whole devices")
    lower.bar(times, [g / size for g in charged], width, color=_GRAMS, label="charged to requests")
    lower.set_ylabel(f"{name} CO₂e per {each}")
    lower.legend(ncols=2, loc="lower left", bbox_to_anchor=(-0.01, 0.98), handlelength=1.0)
    for axes in (upper, lower):
        axes.grid(visible=False, axis="x")
    _dates(lower, observed.bin_s)
    return max(totals) > 0.0


def _series(observed: Observations, starts: Sequence[float], stem: str, label_value: str = "") -> list[float]:
    return [observed.in_bin(start, stem, label_value) for start in starts]


def _dates(axes: Axes, bin_s: float) -> None:
    """Set few ticks, each with a complete label."""
    from matplotlib import dates
    from matplotlib.ticker import FuncFormatter

    def shown(value: float, _: object) -> str:
        moment = untyped.num2date(value, tz=timezone.utc)
        day = f"{moment.day} {moment:%b}"
        return day if bin_s >= 86400.0 else f"{day}\n{moment:%H:%M}" if bin_s >= 3600.0 else f"{moment:%H:%M}"

    untyped: Any = dates
    axes.xaxis.set_major_locator(untyped.AutoDateLocator(tz=timezone.utc, minticks=3, maxticks=9))
    axes.xaxis.set_major_formatter(FuncFormatter(shown))


def _devices(figure: Figure, devices: Sequence[Device]) -> bool:
    devices = [one for one in devices if one.joules > 0.0]
    if not devices:
        return False
    figure.set_size_inches(_WIDTH, 0.9 + 0.34 * len(devices))
    axes = figure.subplots()
    many = len({one.host for one in devices}) > 1
    names = [_short(f"{one.host} · {one.device}" if many else one.device) for one in devices]
    rows = list(range(len(devices)))
    left = [0.0] * len(devices)
    for share in SHARES:
        parts = [100.0 * one.shares.get(share, 0.0) / one.joules for one in devices]
        axes.barh(rows, parts, 0.68, left, color=_COLOURS[share], label=share)
        for row, part, begin in zip(rows, parts, left, strict=True):
            if part >= 6.0:
                ink = "white" if share in ("requests", "host") else _DARK
                axes.text(begin + part / 2, row, f"{part:.0f} %", ha="center", va="center", color=ink, fontsize=8)
        left = [begin + part for begin, part in zip(left, parts, strict=True)]
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("part of the device's energy in %")
    axes.grid(visible=False, axis="y")
    axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(-0.01, 0.98), handlelength=1.0, columnspacing=1.4)
    return True


def _models(figure: Figure, rows: Sequence[Row]) -> bool:
    rows = [row for row in rows if row.value("energy") and row.value("co2e_per_request")]
    if not rows:
        return False
    figure.set_size_inches(_WIDTH, 0.9 + 0.34 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True)
    places = list(range(len(rows)))
    size, name = scaled(max(row.value("energy") or 0.0 for row in rows), "Wh")
    _bars(left, places, [row.amounts["energy"] for row in rows], size, _COLOURS["requests"])
    left.set_xlabel(f"energy in {name}")
    left.set_yticks(places, [_short(display_name(row.labels["model"], "(unnamed)")) for row in rows])
    left.invert_yaxis()
    grams = [row.amounts["co2e_per_request"] for row in rows]
    size, name = scaled(max(one.value or 0.0 for one in grams), "g")
    for place, one in zip(places, grams, strict=True):
        value = (one.value or 0.0) / size
        ends = [[value - (one.low or 0.0) / size], [(one.high or 0.0) / size - value]] if one.low else None
        right.errorbar([value], [place], xerr=ends, fmt="o", color=_GRAMS, ecolor=_DARK, capsize=3, markersize=5)
    right.tick_params(left=False)
    right.set_xscale("log")
    right.set_xlabel(f"{name} CO₂e per request (logarithmic)")
    _decades(right)
    for axes in (left, right):
        axes.grid(visible=False, axis="y")
    return True


def _bars(axes: Axes, places: Sequence[int], amounts: Sequence[Amount], size: float, colour: str) -> None:
    values = [(one.value or 0.0) / size for one in amounts]
    axes.barh(places, values, 0.68, color=colour)
    for place, value, one in zip(places, values, amounts, strict=True):
        if one.low and one.high:
            ends = [[value - one.low / size], [one.high / size - value]]
            axes.errorbar([value], [place], xerr=ends, fmt="none", ecolor=_DARK, capsize=3)


def _decades(axes: Axes) -> None:
    """Set plain numbers as ticks of a logarithmic axis that covers at least one decade, so that some are shown."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_xlim()
    if high / low < 10.0:
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(10.0), middle * math.sqrt(10.0)
        axes.set_xlim(low, high)
    few = math.log10(high / low) < 2.0
    axes.xaxis.set_major_locator(LogLocator(10.0, subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _short(text: str) -> str:
    return clean(text, 34)

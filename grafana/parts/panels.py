"""The kinds of panel of the dashboards, with common settings.

Units are Grafana's own identifiers. All of them scale automatically (``joule`` shows 3.2 µJ and 4.1 MJ, ``watth``
12 kWh and 1.2 MWh); grafana/previews/units.mjs prints each from 1e-9 to 1e12.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    tempo,
    text,
    timeseries,
)
from grafana_foundation_sdk.models import common as models
from grafana_foundation_sdk.models import dashboard as board
from grafana_foundation_sdk.models import heatmap as heat_models
from grafana_foundation_sdk.models import tempo as tempo_models
from grafana_foundation_sdk.models import text as text_models

JOULES, WATTS, WATT_HOURS, GRAMS, LITERS = "joule", "watt", "watth", "massg", "litre"
CO2E = "si:gCO2e"
SECONDS, RATIO, CELSIUS, NUMBER, PER_SECOND = "s", "percentunit", "celsius", "sishort", "reqps"

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
TRACES = models.DataSourceRef(type_val="tempo", uid="${traces}")
_CALM, _WARN, _BAD = "green", "orange", "red"
#: Widths in pixels of label columns whose default is too narrow or too wide.
_WIDTHS = {"model": 230, "framework": 160, "device": 90, "dtype": 80, "component": 100, "year": 70, "unit": 110}


@dataclass(frozen=True, slots=True)
class Query:
    """One expression and the legend of its results; ``exemplars``: query those of its histogram, too."""

    expr: str
    legend: str = "__auto"
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a table: header, expression and unit; ``gauge`` draws it as a bar from 0 to 1."""

    head: str
    expr: str
    unit: str
    gauge: bool = False
    #: Levels at which the colour changes to orange and red.
    levels: tuple[float, float] | None = None
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """The settings that differ between panels of one kind."""

    unit: str = NUMBER
    height: int = 8
    #: Of 24 columns.
    width: int = 12
    #: Text that is shown instead of "No data".
    empty: str = "No data"
    #: Levels of orange and red; a single one is red.
    levels: tuple[float, ...] = ()
    stack: bool = False
    logarithmic: bool = False
    minimum: float | None = 0
    maximum: float | None = None
    #: Minimum for the upper end of the axis.
    reach: float | None = None
    decimals: int | None = None
    #: Series drawn as dashed lines without fill, by name.
    dashed: tuple[str, ...] = ()
    #: Colours by the name of the series.
    colors: dict[str, str] = field(default_factory=dict)
    #: Units by the name of the series, where they differ.
    units: dict[str, str] = field(default_factory=dict)


def _thresholds(levels: Sequence[float]) -> dashboard.ThresholdsConfig:
    colors = {1: (_BAD,), 2: (_WARN, _BAD)}.get(len(levels), ())
    steps = [board.Threshold(value=None, color=_CALM)]
    steps += [board.Threshold(value=level, color=color) for level, color in zip(levels, colors, strict=True)]
    return dashboard.ThresholdsConfig().mode(board.ThresholdsMode.ABSOLUTE).steps(steps)


def _set(name: str, value: object) -> board.DynamicConfigValue:
    return board.DynamicConfigValue(id_val=name, value=value)


def _common(panel: Any, title: str, description: str, look: Look) -> Any:
    panel.title(title).description(description).datasource(DATASOURCE)
    panel.span(look.width).height(look.height).unit(look.unit).no_value(look.empty)
    panel.thresholds(_thresholds(look.levels))
    if look.decimals is not None:
        panel.decimals(look.decimals)
    return panel


def _targets(panel: Any, queries: Sequence[Query], *, instant: bool, kind: str = "time_series") -> Any:
    for number, query in enumerate(queries):
        target = prometheus.Dataquery().expr(query.expr).ref_id(chr(ord("A") + number)).legend_format(query.legend)
        target.format(kind)
        target = target.instant() if instant else target.range()
        if query.exemplars:
            target.exemplar(True)
        panel.with_target(target.datasource(DATASOURCE))
    return panel


def number(title: str, description: str, queries: Query | Sequence[Query], look: Look) -> Any:
    """One or a few figures, of the complete time range."""
    queries = [queries] if isinstance(queries, Query) else queries
    panel = _common(stat.Panel(), title, description, look)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    panel.graph_mode(models.BigValueGraphMode.NONE)
    panel.color_mode(models.BigValueColorMode.VALUE)
    panel.text(common.VizTextDisplayOptions().title_size(14).value_size(32))
    panel.text_mode(models.BigValueTextMode.VALUE if len(queries) == 1 else models.BigValueTextMode.VALUE_AND_NAME)
    if not look.levels:
        panel.color_scheme(dashboard.FieldColor().mode(board.FieldColorModeId.FIXED).fixed_color("text"))
    _units(panel, look)
    return _targets(panel, queries, instant=True)


def lines(title: str, description: str, queries: Query | Sequence[Query], look: Look) -> Any:
    """Values over time."""
    queries = [queries] if isinstance(queries, Query) else queries
    panel = _common(timeseries.Panel(), title, description, look)
    panel.draw_style(models.GraphDrawStyle.LINE).line_width(1 if look.stack else 2)
    panel.line_interpolation(models.LineInterpolation.LINEAR).show_points(models.VisibilityMode.NEVER)
    panel.fill_opacity(30 if look.stack else 0).span_nulls(False)
    if look.stack:
        panel.stacking(common.StackingConfig().mode(models.StackingMode.NORMAL).group("A"))
    if look.logarithmic:
        panel.scale_distribution(common.ScaleDistributionConfig().type(models.ScaleDistribution.LOG).log(10))
    elif look.minimum is not None:
        panel.min(look.minimum)
    if look.maximum is not None:
        panel.max(look.maximum)
    if look.reach is not None:
        panel.axis_soft_max(look.reach)
    if look.levels:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(models.GraphThresholdsStyleMode.DASHED))
    # Beside the lines in wide panels; below them, a table of many models would cover the lines.
    wide = look.width >= 12
    panel.legend(
        common.VizLegendOptions()
        .display_mode(models.LegendDisplayMode.TABLE if wide else models.LegendDisplayMode.LIST)
        .placement(models.LegendPlacement.RIGHT if wide else models.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull"] if wide else [])
    )
    panel.tooltip(
        common.VizTooltipOptions().mode(models.TooltipDisplayMode.MULTI).sort(models.SortOrder.DESCENDING)
    )
    for name, color in look.colors.items():
        panel.override_by_name(name, [_set("color", {"mode": "fixed", "fixedColor": color})])
    for name in look.dashed:
        panel.override_by_name(
            name,
            [
                _set("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}),
                _set("custom.fillOpacity", 0),
                _set("custom.stacking", {"mode": "none", "group": name}),
            ],
        )
    _units(panel, look)
    return _targets(panel, queries, instant=False)


def _units(panel: Any, look: Look) -> None:
    for name, unit in look.units.items():
        panel.override_by_name(name, [_set("unit", unit)])


def bars(title: str, description: str, query: Query, look: Look) -> Any:
    """One bar per result."""
    panel = _common(bargauge.Panel(), title, description, look)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    panel.orientation(models.VizOrientation.HORIZONTAL).display_mode(models.BarGaugeDisplayMode.GRADIENT)
    panel.show_unfilled(True).min(0)
    if not look.levels:
        panel.color_scheme(dashboard.FieldColor().mode(board.FieldColorModeId.CONTINUOUS_GR_YL_RD))
    if look.maximum is not None:
        panel.max(look.maximum)
    return _targets(panel, [query], instant=True)


def sheet(
    title: str,
    description: str,
    by: Sequence[str],
    columns: Sequence[Column],
    look: Look,
    *,
    sort: str = "",
    links: dict[str, tuple[str, str]] | None = None,
) -> Any:
    """A table with a row for each combination of the labels ``by`` and a column for each figure.

    ``links`` are (title, address) by label.
    """
    panel = _common(table.Panel(), title, description, look)
    panel.show_header(True).cell_height(models.TableCellHeight.SM).min_width(80)
    _targets(panel, [Query(column.expr) for column in columns], instant=True, kind="table")
    heads = {label: label.replace("_", " ").capitalize() for label in by}
    values = ["Value"] if len(columns) == 1 else [f"Value #{chr(ord('A') + n)}" for n in range(len(columns))]
    names = heads | dict(zip(values, (column.head for column in columns), strict=True))
    order = {name: position for position, name in enumerate(names)}
    panel.transformations(
        [
            board.DataTransformerConfig(id_val="merge", options={}),
            board.DataTransformerConfig(
                id_val="organize",
                options={"excludeByName": {"Time": True}, "indexByName": order, "renameByName": names},
            ),
        ]
    )
    for label, head in heads.items():
        # Years and versions are strings, not numbers with a unit prefix.
        changes = [_set("unit", "string"), _set("noValue", "-")]
        if label in _WIDTHS:
            changes.append(_set("custom.width", _WIDTHS[label]))
        panel.override_by_name(head, changes)
    for column in columns:
        changes = [_set("unit", column.unit), _set("noValue", "-")]
        if column.decimals is not None:
            changes.append(_set("decimals", column.decimals))
        if column.gauge:
            changes += [
                _set("custom.cellOptions", {"type": "gauge", "mode": "gradient"}),
                _set("min", 0),
                _set("max", 1),
            ]
        elif column.levels:
            changes.append(_set("custom.cellOptions", {"type": "color-text"}))
        if column.levels or column.gauge:
            levels = column.levels or ()
            steps = [{"value": None, "color": _CALM}]
            steps += [{"value": level, "color": color} for level, color in zip(levels, (_WARN, _BAD), strict=False)]
            changes.append(_set("thresholds", {"mode": "absolute", "steps": steps}))
        panel.override_by_name(column.head, changes)
    for label, (name, address) in (links or {}).items():
        panel.override_by_name(heads[label], [_set("links", [{"title": name, "url": address}])])
    if sort:
        panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
    return panel


def heat(title: str, description: str, expr: str, look: Look) -> Any:
    """Requests in each bucket of a histogram over time; exemplars link to traces."""
    panel = _common(heatmap.Panel(), title, description, look)
    panel.calculate(False).cell_gap(1).show_legend()
    panel.y_axis(heatmap.YAxisConfig().unit(look.unit).axis_placement(models.AxisPlacement.LEFT))
    panel.cell_values(heatmap.CellValues().unit("short").decimals(0))
    panel.color(
        heatmap.HeatmapColorOptions()
        .mode(heat_models.HeatmapColorMode.SCHEME)
        .scheme("Spectral")
        .reverse(False)
        .steps(64)
        .exponent(0.5)
        .fill("dark-orange")
        .scale(heat_models.HeatmapColorScale.EXPONENTIAL)
    )
    panel.exemplars_color("rgba(255,255,255,0.9)")
    return _targets(panel, [Query(expr, "{{le}}", exemplars=True)], instant=False, kind="heatmap")


def states(title: str, description: str, query: Query, look: Look, texts: dict[str, tuple[str, str]]) -> Any:
    """States over time; ``texts`` has (text, colour) by value."""
    panel = _common(statetimeline.Panel(), title, description, look)
    panel.merge_values(True).show_value(models.VisibilityMode.AUTO).row_height(0.8)
    panel.mappings(
        [
            board.ValueMap(
                options={
                    value: board.ValueMappingResult(text=word, color=color, index=index)
                    for index, (value, (word, color)) in enumerate(texts.items())
                },
            )
        ]
    )
    panel.legend(
        common.VizLegendOptions()
        .show_legend(False)
        .display_mode(models.LegendDisplayMode.LIST)
        .placement(models.LegendPlacement.BOTTOM)
        .calcs([])
    )
    return _targets(panel, [query], instant=False)


def markdown_panel(title: str, markdown: str, *, width: int = 24, height: int = 4) -> Any:
    """A Markdown text."""
    panel = text.Panel().title(title).content(markdown).mode(text_models.TextMode.MARKDOWN)
    return panel.span(width).height(height)


def traces(title: str, description: str, search: str, look: Look) -> Any:
    """Spans that a TraceQL search finds."""
    panel = _common(table.Panel(), title, description, look).datasource(TRACES)
    query = tempo.Dataquery()
    query.ref_id("A").query_type("traceql").query(search).limit(20).table_type(
        tempo_models.SearchTableType.SPANS
    ).datasource(TRACES)
    return panel.with_target(query)

"""Shared by all dashboards: variables, links, annotations, rows, and the conversion to JSON.

Each dashboard has a module with one function per row. Such a function is a table of panels, and may be long.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as board

from parts.panels import DATASOURCE

#: Label matchers of panels by model.
MODELS = 'job=~"$job", service=~"$service", model=~"$model"'
#: Label matchers of panels by meter, and by device.
METERS = 'job=~"$job", instance=~"$instance"'
DEVICES = f'{METERS}, device=~"$device"'

#: Label and query of each variable, by name.
_VARIABLES = {
    "job": ("Job", "label_values(ecolyzer_build_info, job)"),
    "instance": ("Meter", 'label_values(ecolyzer_build_info{job=~"$job"}, instance)'),
    "service": ("Service", 'label_values(ecolyzer_requests_total{job=~"$job"}, service)'),
    "model": ("Model", 'label_values(ecolyzer_requests_total{job=~"$job", service=~"$service"}, model)'),
    "device": ("Device", f"label_values(ecolyzer_device_power_watts{{{METERS}}}, device)"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A row with its panels. A collapsed row is not queried until it is opened; one without title has no header."""

    title: str
    panels: Sequence[Any]
    collapsed: bool = False


def make(
    uid: str,
    title: str,
    description: str,
    variables: Iterable[str],
    rows: Iterable[Row],
    *,
    traces: bool = False,
    span: str = "now-1h",
    extra_variables: Sequence[Any] = (),
) -> str:
    """The JSON text of one dashboard.

    Args:
        uid: its identifier in links.
        title: its title, without the product's name.
        about: its description, one sentence.
        variables: names of variables, in order.
        rows: its rows, in order.
        traces: whether it has panels of traces.
        span: the initial time range, up to now.
        extra_variables: variables beside those of this module.
    """
    built = (
        dashboard.Dashboard(f"Ecolyzer / {title}").uid(uid).description(description).tags(["ecolyzer"]).readonly()
    )
    built.timezone("browser").time(span, "now").refresh("30s").tooltip(board.DashboardCursorSync.CROSSHAIR)
    built.with_variable(_datasource("datasource", "Prometheus", "prometheus"))
    if traces:
        built.with_variable(_datasource("traces", "Traces", "tempo"))
    for name in variables:
        built.with_variable(_variable(name))
    for one in extra_variables:
        built.with_variable(one)
    built.link(
        dashboard.DashboardLink("Ecolyzer")
        .type(board.DashboardLinkType.DASHBOARDS)
        .tags(["ecolyzer"])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
        .icon("external link")
        .tooltip("The other dashboards")
        .target_blank(False)
    )
    if uid != "ecolyzer-runbooks":
        built.annotation(_alerts())
    for row in rows:
        header = dashboard.Row(row.title).collapsed(row.collapsed)
        if row.title and not row.collapsed:
            built.with_row(header)
        for panel in row.panels:
            if row.collapsed:
                header.with_panel(panel)
            else:
                built.with_panel(panel)
        if row.collapsed:
            built.with_row(header)
    document = json.loads(json.dumps(built.build(), cls=JSONEncoder))
    return json.dumps(_normal(document), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _datasource(name: str, label: str, kind: str) -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable(name).label(label).type(kind)


def _variable(name: str) -> dashboard.QueryVariable:
    label, query = _VARIABLES[name]
    built = dashboard.QueryVariable(name).label(label).datasource(DATASOURCE)
    built.query({"query": query, "refId": f"{name}-values"}).definition(query)
    built.refresh(board.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(board.VariableSort.ALPHABETICAL_ASC)
    built.multi(True).include_all(True).all_value(".*")
    return built.current(board.VariableOption(text="All", value="$__all", selected=True))


def _alerts() -> dashboard.AnnotationQuery:
    target = {
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "expr": 'ALERTS{alertname=~"Ecolyzer.*", alertstate="firing"}',
        "refId": "Anno",
    }
    built = dashboard.AnnotationQuery().name("Alerts").datasource(DATASOURCE).enable(True).icon_color("red")
    built.expr(target["expr"]).step("60s").title_format("{{alertname}}").tag_keys("severity,service,model,device")
    return built.text_format("{{instance}}")


def _normal(document: dict[str, Any]) -> dict[str, Any]:
    """Set what the SDK leaves open: ids of panels; show links and annotations directly, not in a menu."""
    number = 0
    for panel in document["panels"]:
        for one in (panel, *panel.get("panels", ())):
            number += 1
            one["id"] = number
    for link in document.get("links", ()):
        link.pop("placement", None)
    for annotation in document.get("annotations", {}).get("list", ()):
        annotation.pop("placement", None)
    return document

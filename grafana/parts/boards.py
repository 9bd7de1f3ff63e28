"""What all dashboards have in common: variables, links, annotations, and how they are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as board

from parts.panels import DATASOURCE

#: What a panel of models is about.
MODELS = 'job=~"$job", service=~"$service", model=~"$model"'
#: What a panel of meters is about, and one of their devices.
METERS = 'job=~"$job", instance=~"$instance"'
DEVICES = f'{METERS}, device=~"$device"'

#: Name, label, query and what it means.
_VARIABLES = {
    "job": ("Job", "label_values(ecolyzer_build_info, job)"),
    "instance": ("Meter", 'label_values(ecolyzer_build_info{job=~"$job"}, instance)'),
    "service": ("Service", 'label_values(ecolyzer_requests_total{job=~"$job"}, service)'),
    "model": ("Model", 'label_values(ecolyzer_requests_total{job=~"$job", service=~"$service"}, model)'),
    "device": ("Device", f"label_values(ecolyzer_device_power_watts{{{METERS}}}, device)"),
}


def rows(title: str, panels: Sequence[Any], *, collapsed: bool = False) -> tuple[str, Sequence[Any], bool]:
    """A row with its panels; a collapsed one is not queried until it is opened."""
    return title, panels, collapsed


def make(
    uid: str,
    title: str,
    about: str,
    variables: Iterable[str],
    contents: Iterable[tuple[str, Sequence[Any], bool]],
    *,
    traces: bool = False,
    span: str = "now-1h",
    more: Sequence[Any] = (),
) -> str:
    """The JSON text of one dashboard.

    Args:
        uid: its identifier in links.
        title: its title, without the product's name.
        about: one sentence.
        variables: names of variables, in order.
        contents: rows.
        traces: whether it has panels of traces.
        span: the time range at first.
        more: further variables.
    """
    built = dashboard.Dashboard(f"Ecolyzer / {title}").uid(uid).description(about).tags(["ecolyzer"]).readonly()
    built.timezone("browser").time(span, "now").refresh("30s").tooltip(board.DashboardCursorSync.CROSSHAIR)
    built.with_variable(_datasource("datasource", "Prometheus", "prometheus"))
    if traces:
        built.with_variable(_datasource("traces", "Traces", "tempo"))
    for name in variables:
        built.with_variable(_variable(name))
    for one in more:
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
    for name, panels, collapsed in contents:
        row = dashboard.Row(name).collapsed(collapsed)
        if name and not collapsed:
            built.with_row(row)
        for panel in panels:
            if collapsed:
                row.with_panel(panel)
            else:
                built.with_panel(panel)
        if collapsed:
            built.with_row(row)
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
    """What the SDK leaves open: numbers of panels, links and annotations in sight rather than in a menu."""
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

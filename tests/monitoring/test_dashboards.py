"""What the committed dashboards are, without a server: generated, complete, and clear to a newcomer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ecolyzer_otel.names import METRICS

from .tools import ROOT

DASHBOARDS = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
RULES = sorted((ROOT / "grafana" / "prometheus" / "rules").glob("*.yml"))
NAMES = {"fleet", "models", "requests", "hardware", "quality", "runbooks"}
#: Panels that Grafana has built in since version 9.
TYPES = {"row", "stat", "timeseries", "table", "heatmap", "bargauge", "state-timeline", "text"}
#: Units that scale by themselves from 1e-9 to 1e12 (grafana/previews/units.mjs), and those that need not.
SCALING = {"joule", "watt", "watth", "massg", "litre", "sishort", "s"}
FIXED = {"percentunit", "celsius", "reqps", "none", "string", "suffix:g/kWh"}
#: Not of this project.
FOREIGN = {"scrape_samples_scraped", "scrape_duration_seconds", "ALERTS"}
#: A series that a rule records.
RECORDED = re.compile(r"\b[a-z_]+:ecolyzer_\w+:\w+")
#: Metrics that no panel and no rule shows, and why.
NOT_SHOWN: dict[str, str] = {}


def board(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def panels(path: Path) -> Iterator[dict[str, Any]]:
    for panel in board(path)["panels"]:
        yield panel
        yield from panel.get("panels", ())


def shown(path: Path) -> list[dict[str, Any]]:
    return [panel for panel in panels(path) if panel["type"] != "row"]


def expressions() -> Iterator[str]:
    """Of every panel, variable, annotation and rule."""
    for path in DASHBOARDS:
        for panel in panels(path):
            yield from (target["expr"] for target in panel.get("targets", ()) if "expr" in target)
        for variable in board(path)["templating"]["list"]:
            if variable["type"] == "query":
                yield variable["query"]["query"]
        yield from (one["expr"] for one in board(path).get("annotations", {}).get("list", ()))
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from (rule["expr"] for rule in group["rules"])


def metrics_in(expr: str) -> set[str]:
    """Names of metrics in a query; a pattern of names is every name that it fits."""
    found = set()
    for pattern in re.findall(r'__name__=~"([^"]+)"', expr):
        found |= {spec.prometheus_name for spec in METRICS if re.fullmatch(pattern, spec.prometheus_name)}
    # Neither label values nor recorded series.
    plain = re.sub(r'"[^"]*"', "", expr)
    plain = re.sub(r"\b\w+:[\w:]+", "", plain)
    for name in re.findall(r"\b(?:ecolyzer|scrape)_\w+|\bALERTS\b", plain):
        found.add(re.sub(r"_(bucket|sum|count)$", "", name))
    return found


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Grafana's SDK needs Python 3.11")
def test_what_is_committed_is_what_the_generator_writes() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "grafana" / "generate.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Grafana's SDK needs Python 3.11")
def test_links_lead_to_the_grafana_that_is_named() -> None:
    asked = "import generate; print(''.join(generate.files('https://grafana.example').values()))"
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, timeout=240, cwd=ROOT / "grafana"
    )
    assert done.returncode == 0, done.stderr
    assert "https://grafana.example/d/ecolyzer-runbooks/" in done.stdout
    assert "127.0.0.1:3000/d/" not in done.stdout


def test_all_dashboards_are_there_under_uids_of_their_own() -> None:
    assert {path.stem for path in DASHBOARDS} == NAMES
    assert {board(path)["uid"] for path in DASHBOARDS} == {f"ecolyzer-{name}" for name in NAMES}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_of_the_kind_that_provisioning_loads_and_fits_the_others(path: Path) -> None:
    found = board(path)
    assert found["schemaVersion"] == 42
    assert found["editable"] is False
    assert found["tags"] == ["ecolyzer"]
    assert found["title"].startswith("Ecolyzer / ")
    assert found["description"].endswith(".")
    assert "__inputs" not in found
    assert found["links"][0]["includeVars"]
    variables = [variable["name"] for variable in found["templating"]["list"]]
    assert variables[0] == "datasource"
    text = path.read_text()
    sources = set(re.findall(r'"uid": "(?!ecolyzer-)([^"]+)"', text))
    assert sources <= {"${datasource}", "${traces}"}, "a fixed data source is somebody else's"
    for name in ("datasource", "traces"):
        assert (f"${{{name}}}" in text) <= (name in variables)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_have_numbers_and_places_of_their_own(path: Path) -> None:
    numbers = [panel["id"] for panel in panels(path)]
    assert numbers == list(range(1, len(numbers) + 1))
    taken: set[tuple[int, int]] = set()
    for panel in board(path)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_stranger_understands_each_panel(path: Path) -> None:
    titles = [panel["title"] for panel in shown(path)]
    assert len(set(titles)) == len(titles)
    for panel in shown(path):
        assert panel["type"] in TYPES
        if panel["type"] == "text":
            assert panel["options"]["content"].startswith(f"# {panel['title']}")
            continue
        about = panel["description"]
        assert len(about) > 40, panel["title"]
        assert about.endswith((".", "}")), about
        assert panel["fieldConfig"]["defaults"]["noValue"], "what is shown when nothing is known"
        assert panel["targets"], panel["title"]
        if panel["type"] == "timeseries":
            assert panel["options"]["legend"]["showLegend"]
        # At least one name of what it asks is there for whoever reads on.
        exprs = [target.get("expr", "") for target in panel["targets"]]
        asked = set().union(*map(metrics_in, exprs)) | {name for expr in exprs for name in RECORDED.findall(expr)}
        named = set(re.findall(r"\b(?:ecolyzer|scrape)_\w+", about)) | set(RECORDED.findall(about))
        assert asked & named or not asked, panel["title"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_units_are_right_at_every_scale(path: Path) -> None:
    for panel in shown(path):
        config = panel.get("fieldConfig", {"defaults": {}, "overrides": []})
        units = {config["defaults"].get("unit", "none")}
        units |= {one["value"] for over in config["overrides"] for one in over["properties"] if one["id"] == "unit"}
        for unit in units:
            # si: scales too, but eats a first letter that is a prefix; a blank after it is shown twice.
            custom = re.fullmatch(r"si:(\S+)", unit)
            assert unit in SCALING | FIXED or custom, (panel["title"], unit)
            assert custom is None or custom[1].startswith(
                ("g", "J", "L", "req/", "items", "tokens", "errors", "answers", "cores")
            ), unit
    assert not re.search(r"kilograms|kWh\b(?!.*factor)", "".join(expressions()))


def test_every_metric_of_the_catalogue_is_on_a_panel_or_in_a_rule() -> None:
    used = set().union(*(metrics_in(expr) for expr in expressions()))
    known = {spec.prometheus_name for spec in METRICS}
    assert used - known - FOREIGN == set(), "no such metric"
    assert known - used == set(NOT_SHOWN)


def test_recorded_series_that_are_shown_are_recorded() -> None:
    recorded = {
        rule["record"]
        for path in RULES
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    assert all(re.fullmatch(r"[a-z_]+:ecolyzer_[a-z0-9_]+:[a-z0-9_]+", name) for name in recorded)
    asked = {name for expr in expressions() for name in RECORDED.findall(expr)}
    assert asked <= recorded
    # Read by the tests of reference alone, or by nobody: not worth recording.
    unused = recorded - asked
    assert {name.rpartition(":")[2] for name in unused} <= {"rate5m", "rate1h", "ratio_rate5m", "ratio_rate1h"}


def test_links_between_dashboards_lead_somewhere() -> None:
    uids = {board(path)["uid"] for path in DASHBOARDS}
    links = {link for path in DASHBOARDS for link in re.findall(r"/d/([\w-]+)", path.read_text())}
    assert links
    assert links <= uids

"""Writes all generated files for Grafana, Prometheus and Kubernetes; they are committed.

    python grafana/generate.py                                   # write the files
    python grafana/generate.py --check                           # only list files that differ
    python grafana/generate.py --grafana-url https://g.example   # address of links in alerts

Needs Python 3.11 and the dependency group ``dashboards``; ``make dashboards`` provides both.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from parts.alerting import GRAFANA
from parts.fleet import fleet
from parts.hardware import hardware
from parts.kubernetes import documents
from parts.models import models
from parts.quality import quality
from parts.requests import requests
from parts.rules import rule_files
from parts.runbooks import PANELS, runbooks

ROOT = Path(__file__).parents[1]


def files(grafana: str = GRAFANA) -> dict[str, str]:
    """The texts of all generated files, by path from the root of the project."""
    dashboards = {
        "fleet.json": fleet(),
        "models.json": models(),
        "requests.json": requests(),
        "hardware.json": hardware(),
        "quality.json": quality(),
        "runbooks.json": runbooks(),
    }
    rules = rule_files(PANELS, grafana)
    found = {f"grafana/dashboards/{name}": text for name, text in dashboards.items()}
    found |= {f"grafana/prometheus/rules/{name}": text for name, text in rules.items()}
    manifests = documents(dashboards, rules, namespace="ecolyzer")
    return found | {f"deploy/kubernetes/{name}": text for name, text in manifests.items()}


def main() -> int:
    """The command; returns 1 if ``--check`` finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing, list files that differ")
    parser.add_argument(
        "--grafana-url", default=GRAFANA, metavar="URL", help=f"address of Grafana in alerts ({GRAFANA})"
    )
    options = parser.parse_args()
    made = files(options.grafana_url.rstrip("/"))
    stale = [name for name, text in made.items() if not _same(ROOT / name, text)]
    if options.check:
        for name in stale:
            print(f"{name} differs from the output of grafana/generate.py: run make dashboards")
        return 1 if stale else 0
    for name in stale:
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(made[name], encoding="utf-8")
        print(f"wrote {name}")
    return 0


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())

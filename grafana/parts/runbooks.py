"""The runbooks as a dashboard, so that the link in an alert opens wherever Grafana is."""

from __future__ import annotations

from pathlib import Path

from parts.alerts import NAMES
from parts.boards import make
from parts.panels import words

FOLDER = Path(__file__).parents[2] / "docs" / "runbooks"
#: Panels by alert, numbered as ``boards.make`` does: a link names the panel.
PANELS = {name: number for number, name in enumerate(NAMES, start=1)}


def runbooks() -> str:
    """The dashboard: one panel of text for each alert."""
    panels = [words(name, (FOLDER / f"{name}.md").read_text(encoding="utf-8"), height=16) for name in NAMES]
    return make(
        "ecolyzer-runbooks",
        "Runbooks",
        "What each alert means and what to do about it, the same texts as in docs/runbooks.",
        (),
        (("", panels, False),),
    )

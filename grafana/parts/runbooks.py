"""The runbooks as a dashboard, so that the links in alerts work in every Grafana."""

from __future__ import annotations

from pathlib import Path

from parts.alerts import NAMES
from parts.boards import Row, make
from parts.panels import markdown_panel

FOLDER = Path(__file__).parents[2] / "docs" / "runbooks"
#: Panel ids by alert, numbered as in ``boards.make``, because links contain them.
PANELS = {name: number for number, name in enumerate(NAMES, start=1)}


def runbooks() -> str:
    """The dashboard: one panel of text for each alert."""
    panels = [
        markdown_panel(name, (FOLDER / f"{name}.md").read_text(encoding="utf-8"), height=16) for name in NAMES
    ]
    return make(
        "ecolyzer-runbooks",
        "Runbooks",
        "What each alert means and what to do about it, the same texts as in docs/runbooks.",
        (),
        (Row("", panels),),
    )

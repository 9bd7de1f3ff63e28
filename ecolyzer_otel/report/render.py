"""Renders a report: HTML and Markdown from the same blocks, plots and data, and writes the files to a folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.report.plots import draw
from ecolyzer_otel.report.sections import Findings, Front, sections
from ecolyzer_otel.report.tidy import as_csv, as_json
from ecolyzer_otel.report.units import clean, moment
from ecolyzer_otel.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render", "write"]

#: Markdown's special characters: anywhere, or at the start of a line only; and the start of a numbered list.
_MARKS: Final = re.compile(r"([\\`*_\[\]|~$]|^[#+=-])")
_NUMBER: Final = re.compile(r"^(\d+)([.)])(?=\s|$)")
#: Texts that renderers turn into links by themselves.
_LINKS: Final = re.compile(r"(?i)(:)/(?=/)|(www)\.")
_BREAKS: Final = re.compile(r"[\n\r\t]+")


def render(found: Findings, front: Front) -> dict[str, str]:
    """Render all files of a report; returns their texts by name."""
    plots = draw(found)
    organisation = clean(front.organisation, 200)
    parts = sections(found, organisation, frozenset(plots))
    context: dict[str, Any] = {
        "title": clean(front.title, 200),
        "organisation": organisation,
        "sections": parts,
        "since": moment(found.observed.since),
        "until": moment(found.observed.until),
        "generated": moment(front.generated_s),
        "version": __version__,
        "versions": ", ".join(
            sorted({clean(one.get("version", "")) for one in found.observed.facts.values()} - {""})
        ),
        "source": clean(found.observed.source.where, 300),
        "kind": {"journal": "journal", "prometheus": "Prometheus"}[found.observed.source.kind],
        "service": None if found.observed.service is None else clean(found.observed.service),
    }
    files = {
        "report.html": _template("report.html.j2").render(context | {"plots": _as_markup(plots)}),
        "report.md": _template("report.md.j2").render(context),
        "figures.csv": as_csv(found),
        "figures.json": as_json(found, front),
    }
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return files | {f"{name}.svg": f"{head}{svg}\n" for name, svg in plots.items()}


def write(files: Mapping[str, str], folder: str) -> list[Path]:
    """Write all files into ``folder``, which is created if missing; files of an earlier report are replaced.

    Raises:
        ConfigError: the folder cannot be written.
    """
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (path / name).write_bytes(text.encode("utf-8", "replace"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError("--out", f"{folder} cannot be written ({reason})", "give another folder") from None
    return [path / name for name in files]


def _as_markup(plots: Mapping[str, str]) -> dict[str, Any]:
    """The plots as markup: SVG from :mod:`.plots`, in which every text is escaped already."""
    from markupsafe import Markup

    return {name: Markup(svg) for name, svg in plots.items()}  # noqa: S704


def _environment(html: bool) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("ecolyzer_otel.report"),
        autoescape=html,  # noqa: S701 - Markdown has its own escape function
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=None if html else _escape_markdown,
    )
    made.filters["plain"] = Plain
    return made


def _template(name: str) -> Any:
    return _environment(name.endswith(".html.j2")).get_template(name)


class Plain(str):
    """Text of a template that is Markdown, and not escaped."""


def _escape_markdown(value: Any) -> Any:
    """Escape a value for Markdown: it cannot add marks or HTML, or end a table cell."""
    if isinstance(value, Plain) or not isinstance(value, str):
        return value
    text = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _NUMBER.sub(r"\1\\\2", _MARKS.sub(r"\\\1", _BREAKS.sub(" ", text)))
    return _LINKS.sub(lambda link: ":&#47;" if link[1] else f"{link[2]}&#46;", text)

"""The report as HTML and Markdown, from the same blocks, and all files of it in a folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.report.plots import draw
from ecolyzer_otel.report.sections import Findings, sections
from ecolyzer_otel.report.tidy import as_csv, as_json
from ecolyzer_otel.report.units import clean, moment
from ecolyzer_otel.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["Front", "render", "write"]

#: Marks anywhere; those that are marks at the begin of a line only; and the begin of a numbered list.
_MARKS: Final = re.compile(r"([\\`*_\[\]|~$]|^[#+=-])")
_NUMBER: Final = re.compile(r"^(\d+)([.)])(?=\s|$)")
#: What renderers make links of on their own.
_LINKS: Final = re.compile(r"(?i)(:)/(?=/)|(www)\.")
_BREAKS: Final = re.compile(r"[\n\r\t]+")


@dataclass(frozen=True, slots=True)
class Front:
    """What stands on the title: all of it given by the one who asks for the report."""

    title: str
    organisation: str
    generated_s: float


def render(found: Findings, front: Front) -> dict[str, str]:
    """The texts of all files by name."""
    plots = draw(found)
    organisation = clean(front.organisation, 200)
    parts = sections(found, organisation, frozenset(plots))
    context: dict[str, Any] = {
        "title": clean(front.title, 200),
        "organisation": organisation,
        "sections": parts,
        "since": moment(found.seen.since),
        "until": moment(found.seen.until),
        "generated": moment(front.generated_s),
        "version": __version__,
        "versions": ", ".join(sorted({clean(one.get("version", "")) for one in found.seen.facts.values()} - {""})),
        "source": clean(found.seen.source.where, 300),
        "kind": {"journal": "journal", "prometheus": "Prometheus"}[found.seen.source.kind],
        "service": None if found.seen.service is None else clean(found.seen.service),
    }
    files = {
        "report.html": _template("report.html.j2").render(context | {"plots": _drawn(plots)}),
        "report.md": _template("report.md.j2").render(context),
        "figures.csv": as_csv(found),
        "figures.json": as_json(
            found, title=front.title, organisation=front.organisation, generated_s=front.generated_s
        ),
    }
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return files | {f"{name}.svg": f"{head}{svg}\n" for name, svg in plots.items()}


def write(files: Mapping[str, str], folder: str) -> list[Path]:
    """Write all files into ``folder``, which is made if need be; those of an earlier report are replaced.

    Raises:
        ConfigError: the folder cannot be written to.
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


def _drawn(plots: Mapping[str, str]) -> dict[str, Any]:
    """SVG of our own making, in which every text is escaped already."""
    from markupsafe import Markup

    return {name: Markup(svg) for name, svg in plots.items()}  # noqa: S704


def _environment(html: bool) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("ecolyzer_otel.report"),
        autoescape=html,  # noqa: S701 - Markdown has an escape of its own
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
    """Text of ours that Markdown shall read as it is."""


def _escape_markdown(value: Any) -> Any:
    """Every value that is put into Markdown: neither marks nor HTML nor a cell's end can come out of it."""
    if isinstance(value, Plain) or not isinstance(value, str):
        return value
    text = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _NUMBER.sub(r"\1\\\2", _MARKS.sub(r"\\\1", _BREAKS.sub(" ", text)))
    return _LINKS.sub(lambda link: ":&#47;" if link[1] else f"{link[2]}&#46;", text)

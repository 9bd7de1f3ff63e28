"""The content of a report, independent of its format: sections of paragraphs, tables and figures, all plain text.

The templates for HTML and Markdown render the same blocks and escape every text, so that names of models and routes
are always shown as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ecolyzer_otel.report.observations import Severity
from ecolyzer_otel.report.ranges import Amount
from ecolyzer_otel.report.units import amount, clean, count, digits, percent, scaled

__all__ = [
    "Block",
    "Bullets",
    "Callout",
    "Card",
    "Cards",
    "Cell",
    "Figure",
    "Formula",
    "Paragraph",
    "Section",
    "Table",
    "cell",
    "display_name",
    "inline",
]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its text, and a smaller text below (a range). ``absent``: the figure is missing."""

    text: str
    sub: str = ""
    absent: bool = False


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text."""

    text: str
    kind: Literal["paragraph"] = "paragraph"
    lead: bool = False


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list; items are (term, text), the term may be empty."""

    items: Sequence[tuple[str, str]]
    kind: Literal["bullets"] = "bullets"


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula, shown as typed, and its explanation."""

    text: str
    explains: str
    kind: Literal["formula"] = "formula"


@dataclass(frozen=True, slots=True)
class Callout:
    """A highlighted note."""

    severity: Severity
    text: str
    kind: Literal["callout"] = "callout"


@dataclass(frozen=True, slots=True)
class Card:
    """One key figure."""

    title: str
    value: Cell


@dataclass(frozen=True, slots=True)
class Cards:
    """Key figures side by side."""

    cards: Sequence[Card]
    kind: Literal["cards"] = "cards"


@dataclass(frozen=True, slots=True)
class Table:
    """A table. The first ``texts`` columns are text, the others numbers; ``strong`` rows are sums."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str
    texts: int = 1
    note: str = ""
    strong: frozenset[int] = frozenset()
    kind: Literal["table"] = "table"


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot by name, with a caption and a text alternative."""

    name: str
    caption: str
    alt: str
    kind: Literal["figure"] = "figure"


Block = Paragraph | Bullets | Formula | Callout | Cards | Table | Figure


@dataclass(slots=True)
class Section:
    """A numbered section."""

    anchor: str
    title: str
    blocks: list[Block] = field(default_factory=list)


def cell(figure: Amount, *, total: bool = True) -> Cell:
    """An amount with its range in a fitting unit; joules are shown as Wh if ``total``, else as J."""
    if figure.value is None:
        return Cell(figure.why or "unknown", absent=True)
    unit = figure.unit.partition("/")[0]
    if unit in ("requests", "items", "input tokens", "output tokens"):
        return Cell(count(figure.value))
    if figure.unit == "1":
        return Cell(percent(figure.value))
    unit = "Wh" if unit == "J" and total else unit
    if unit not in ("Wh", "J", "g", "L"):
        return Cell(digits(figure.value), _ends(figure, 1.0, ""))
    size, name = scaled(figure.value, unit)
    return Cell(amount(figure.value, unit), _ends(figure, size, name))


def _ends(figure: Amount, size: float, name: str) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f"{digits(figure.low / size)} to {digits(figure.high / size)}\u00a0{name}".rstrip("\u00a0")


def inline(figure: Amount, *, total: bool = True) -> str:
    """An amount in running text: ``1.23 kWh (95 % range 1.10 to 1.38 kWh)``."""
    shown = cell(figure, total=total)
    return f"{shown.text} (95\u00a0% range {shown.sub})" if shown.sub else shown.text


def display_name(text: str, empty: str) -> str:
    """A name reported by a service, made safe to show; ``empty`` if it is blank."""
    return clean(text) if text.strip() else empty

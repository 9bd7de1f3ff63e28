"""The observations of a period from a journal: exact, entry by entry."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.common.metrics import METRICS, MetricSpec
from ecolyzer_otel.export.journal_entries import Entry, Table, Tally, read_journal
from ecolyzer_otel.export.journal_files import find
from ecolyzer_otel.report.observations import Gatherer, Observations, Source, Span
from ecolyzer_otel.report.units import moment

__all__ = ["from_journal"]

_KEY: Final = "--journal"
_SPECS: Final = {spec.stem: spec for spec in METRICS}


def from_journal(folder: str, since: float, until: float, service: str | None = None) -> Observations:
    """The observations of a period from the journal in ``folder``.

    Raises:
        ConfigError: the folder holds no journal, or no entry of that period.
    """
    path, tally = Path(folder).expanduser(), Tally()
    gatherer = Gatherer(since, until, Source("journal", str(path.absolute())), service)
    try:
        for entry in read_journal(path, since, until, tally):
            _add_entry(gatherer, entry)
    except OSError as error:
        raise ConfigError(
            _KEY, f"{folder} cannot be read ({error.strerror})", "give the folder that ECOLYZER_JOURNAL names"
        ) from None
    if not tally.entries:
        raise ConfigError(_KEY, _no_entries(path, since, until), "give another period or folder")
    if tally.lines_skipped:
        reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(tally.skipped.items()))
        gatherer.note(
            "warning",
            f"{tally.lines_skipped} lines of the journal were skipped ({reasons}); their increments are missing "
            f"from all figures. {tally.entries} entries were read.",
        )
    return gatherer.observations()


def _no_entries(path: Path, since: float, until: float) -> str:
    days = sorted({file.day.isoformat() for file in find(path)})
    held = f"it holds {days[0]} to {days[-1]}" if days else "it holds no journal file"
    return f"{path} has no entries from {moment(since)} to {moment(until)}; {held}"


def _add_entry(gatherer: Gatherer, entry: Entry) -> None:
    meter, span = entry.life, Span(entry.from_s, entry.to_s)
    gatherer.cover(meter, span, entry.facts)
    for stem, table in entry.gauges.items():
        for spec, labels, numbers in _rows(stem, table, "gauge"):
            gatherer.gauge(meter, spec, labels, numbers[0], span)
    for stem, table in entry.counters.items():
        for spec, labels, numbers in _rows(stem, table, "counter"):
            gatherer.increment(meter, spec, labels, numbers[0], span)
    for stem, table in entry.histograms.items():
        for spec, labels, numbers in _rows(stem, table, "histogram"):
            if len(numbers) > 1 and numbers[0] > 0.0:
                gatherer.histogram(meter, spec, labels, "count", numbers[0])
                gatherer.histogram(meter, spec, labels, "sum", numbers[1])


def _rows(stem: str, table: Table, kind: str) -> list[tuple[MetricSpec, tuple[str, ...], tuple[float, ...]]]:
    """The rows of a metric in the label order of this version; a label that a line lacks is empty."""
    spec = _SPECS.get(stem)
    if spec is None or spec.type != kind:
        return []
    if table.labels == spec.labels:
        return [(spec, labels, numbers) for labels, numbers in table.rows]
    at = [table.labels.index(name) if name in table.labels else None for name in spec.labels]
    return [
        (spec, tuple("" if index is None else labels[index] for index in at), numbers)
        for labels, numbers in table.rows
    ]

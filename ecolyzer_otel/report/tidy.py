"""The figures as data, in base units and full precision: a tidy table (CSV), and all figures with notes (JSON)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any, Final

from ecolyzer_otel.report.figures import Row
from ecolyzer_otel.report.ranges import Amount
from ecolyzer_otel.report.sections import Findings, Front
from ecolyzer_otel.version import __version__

__all__ = ["COLUMNS", "as_csv", "as_json"]

COLUMNS: Final = (
    "scope", "service", "model", "framework", "operation", "device", "route", "quantity", "unit", "value", "low",
    "high", "basis", "source",
)  # fmt: skip
_LABELS: Final = COLUMNS[1:7]
#: Spreadsheets take a text with such a first character for a formula (OWASP, CSV injection).
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def as_csv(found: Findings) -> str:
    """The figures as CSV (RFC 4180), one per line; an absent figure has no value, and its reason in ``basis``."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    source = f"{found.observed.source.kind} {found.observed.source.where}"
    for scope, labels, quantity, amount in _lines(found):
        writer.writerow(
            [_escaped(scope), *(_escaped(labels.get(name, "")) for name in _LABELS), quantity, amount.unit]
            + ["" if number is None else repr(number) for number in (amount.value, amount.low, amount.high)]
            + [_escaped(amount.basis or amount.why), _escaped(source)]
        )
    return out.getvalue()


def _lines(found: Findings) -> Iterator[tuple[str, dict[str, str], str, Amount]]:
    for scope, rows in found.tables.rows.items():
        for row in rows:
            for quantity, amount in row.amounts.items():
                # The finest rows are for sums, so absent figures are left out of them.
                if amount.value is not None or scope != "series":
                    yield scope, dict(row.labels), quantity, amount
    for quantity, amount in found.tables.site.items():
        yield "devices", {}, quantity, amount
    for one in found.tables.devices:
        for share, joules in one.shares.items():
            basis = f"{one.host}, {one.component}, {'+'.join(sorted(one.methods))}"
            yield "device", {"device": one.device}, f"energy_{share}", Amount(joules, "J", basis=basis)
    for quantity, amount in found.projection.amounts.items():
        yield "projection_year", {}, quantity, amount


def _escaped(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def as_json(found: Findings, front: Front) -> str:
    """All figures, factors and notes of the report as JSON, and the timeline behind its plots."""
    observed, quality, projection = found.observed, found.quality, found.projection
    document = {
        "version": 1,
        "generator": f"ecolyzer-otel {__version__}",
        "generated": _iso(front.generated_s),
        "title": front.title,
        "organisation": front.organisation,
        "period": {"from": _iso(observed.since), "to": _iso(observed.until)},
        "service": observed.service,
        "source": asdict(observed.source),
        "meters": {meter: observed.facts.get(meter, {}) for meter in sorted(observed.spans)},
        "figures": {scope: [_row(row) for row in rows] for scope, rows in found.tables.rows.items()},
        "whole_devices": {quantity: asdict(amount) for quantity, amount in found.tables.site.items()},
        "devices": [asdict(one) | {"joules": one.joules} for one in found.tables.devices],
        "projection_year": {
            "amounts": {quantity: asdict(amount) for quantity, amount in projection.amounts.items()},
            "observed_seconds": projection.seconds,
            "whole_days": projection.days,
            "variation": projection.variation,
            "assumptions": list(projection.assumptions),
            "refused": projection.refused,
        },
        "factors": [
            asdict(one) | {"first_s": _iso(one.first_s), "last_s": _iso(one.last_s)} for one in found.factors
        ],
        "quality": {
            "covered": quality.covered,
            "first_reading": _iso(quality.begin),
            "last_reading": _iso(quality.end),
            "gaps": [[_iso(start), _iso(end)] for start, end in quality.gaps],
            "modelled": quality.modelled,
            "energy_by_method": [[*key, joules] for key, joules in sorted(quality.methods.items())],
            "requests_without_energy": [[*key, number] for key, number in sorted(quality.without_energy.items())],
            "sensor_errors": [[*key, number] for key, number in sorted(quality.sensor_errors.items())],
            "agreements": [asdict(one) | {"difference": one.difference} for one in quality.agreements],
            "notes": [asdict(note) for note in quality.notes],
        },
        "timeline": {
            "bin_seconds": observed.bin_s,
            "bins": [
                {"from": _iso(start), "growth": [[*key, value] for key, value in sorted(parts.items())]}
                for start, parts in sorted(observed.bins.items())
            ],
        },
    }
    return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _row(row: Row) -> dict[str, Any]:
    return {"labels": dict(row.labels)} | {quantity: asdict(amount) for quantity, amount in row.amounts.items()}


def _iso(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, timezone.utc).isoformat(timespec="seconds")

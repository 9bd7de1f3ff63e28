"""A user's own CSV file: one figure per zone, or figures by time. It is read again when it changes."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Final

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.live.endpoint import check_basis
from ecolyzer_otel.impact.live.figure import Figure, Problem, grams, instant, label
from ecolyzer_otel.impact.live.provider import OWN_FLOOR_SECONDS, LiveRequest, same_name
from ecolyzer_otel.impact.live.tokens import Secret

__all__ = ["CsvFile"]

#: A year of five-minute figures, with a margin.
_MAX_ROWS: Final = 120_000
_MAX_LINE: Final = 10_000
_VALUE: Final = "gco2e_per_kwh"
_TRUE: Final = frozenset({"1", "true", "yes"})
_FALSE: Final = frozenset({"", "0", "false", "no"})
_COLUMNS: Final = "give columns zone,gco2e_per_kwh[,year,basis,source] or time,gco2e_per_kwh[,zone,until,...]"

Row = Mapping[str, str]


class CsvFile:
    """``zone,gco2e_per_kwh[,year,basis,source]`` or ``time,gco2e_per_kwh[,zone,until,basis,source,estimated]``."""

    identity = None
    secrets: tuple[Secret, ...] = ()
    floor_s = OWN_FLOOR_SECONDS
    replaces = True

    def __init__(self, path: str, zone: str, *, marginal: bool) -> None:
        self.source = f"csv:{os.path.basename(path)}"[:80]
        self.fixed = False
        self._path = path
        self._zone = zone
        self._marginal = marginal
        self._seen: tuple[int, int, int] | None = None

    @classmethod
    def open(cls, path: str, request: LiveRequest) -> tuple[CsvFile, Sequence[Figure]]:
        """Returns the file and its figures. Raises ConfigError: it cannot be read, or a line is invalid."""
        file = cls(
            os.path.abspath(os.path.expanduser(path)), request.region or request.zone, marginal=request.marginal
        )
        try:
            return file, file.fetch(0.0) or ()
        except Problem as problem:
            raise ConfigError(request.key, problem.text, problem.remedy or "correct the file") from None

    def fetch(self, now_s: float) -> Sequence[Figure] | None:
        """All figures of the file, or None where it is unchanged. Raises Problem."""
        try:
            about = os.stat(self._path)
            seen = (about.st_mtime_ns, about.st_size, about.st_ino)
            if seen == self._seen:
                return None
            with open(self._path, encoding="utf-8-sig", newline="") as file:
                figures, fixed = self._read(csv.DictReader(file, strict=True), about.st_mtime)
        except OSError as error:
            self._seen = None
            raise Problem(
                "bad_file", f"{self._path} cannot be read ({error.strerror})", "name a CSV file"
            ) from None
        except (UnicodeDecodeError, csv.Error):
            self._seen = None
            raise Problem("bad_file", f"{self._path} is not CSV in UTF-8", _COLUMNS) from None
        except Problem:
            self._seen = None
            raise
        self._seen, self.fixed = seen, fixed
        return figures

    def _read(self, rows: csv.DictReader[str], mtime_s: float) -> tuple[list[Figure], bool]:
        columns = [(name or "").strip() for name in rows.fieldnames or ()]
        rows.fieldnames = columns
        if _VALUE not in columns or not {"time", "zone"} & set(columns):
            missing = _VALUE if _VALUE not in columns else "time or zone"
            raise Problem("bad_file", f"{self._path}: column {missing} is missing", _COLUMNS)
        if len(set(columns)) < len(columns):
            raise Problem("bad_file", f"{self._path}: a column occurs twice", _COLUMNS)
        timed = "time" in columns
        figures: dict[float, Figure] = {}
        zones: set[str] = set()
        for line, row in self._rows(rows):
            where = f"{self._path} line {line}"
            zone = label(_cell(row, "zone", where), f"{where}, column zone") if "zone" in columns else self._zone
            figure = self._timed(row, where, zone) if timed else self._by_zone(row, where, zone, mtime_s)
            zones.add(zone)
            if not same_name(zone, self._zone):
                continue
            if figure.from_s in figures:
                again = "this time" if timed else "this zone and year"
                raise Problem("bad_file", f"{where}: {again} occurs twice", "remove one of them")
            figures[figure.from_s] = figure
        if not figures:
            present = ", ".join(sorted(zones)[:8]) or "no rows"
            raise Problem(
                "bad_file", f"{self._path} has no row for zone {self._zone} (it has {present})", "add one"
            )
        ordered = [figures[start] for start in sorted(figures)]
        return (ordered, False) if timed else (ordered[-1:], True)

    def _rows(self, rows: csv.DictReader[str]) -> Iterator[tuple[int, Row]]:
        for number, row in enumerate(rows):
            line = rows.line_num
            if number >= _MAX_ROWS:
                raise Problem("bad_file", f"{self._path} has more than {_MAX_ROWS} rows", "remove old ones")
            if None in row:
                raise Problem("bad_file", f"{self._path} line {line}: more cells than columns", _COLUMNS)
            if sum(len(cell or "") for cell in row.values()) > _MAX_LINE:
                raise Problem("bad_file", f"{self._path} line {line}: is too long", _COLUMNS)
            yield line, {name: (cell or "").strip() for name, cell in row.items()}

    def _timed(self, row: Row, where: str, zone: str) -> Figure:
        start = _instant(_cell(row, "time", where), f"{where}, column time")
        until = _instant(row["until"], f"{where}, column until") if row.get("until") else None
        if until is not None and until <= start:
            raise Problem("bad_file", f"{where}, column until: is not after column time", "correct the line")
        estimated = row.get("estimated", "").lower()
        if estimated not in _TRUE | _FALSE:
            raise Problem("bad_file", f"{where}, column estimated: is neither true nor false", "correct the line")
        return self._figure(row, where, zone, start, until, estimated=estimated in _TRUE)

    def _by_zone(self, row: Row, where: str, zone: str, mtime_s: float) -> Figure:
        """A figure that is always valid; its time is the start of its year, else the file's time."""
        start, year = mtime_s, row.get("year")
        if year:
            if not (year.isdecimal() and 1900 <= int(year[:5]) <= 2999):
                raise Problem("bad_file", f"{where}, column year: is not a year", "correct the line")
            start = datetime(int(year), 1, 1, tzinfo=timezone.utc).timestamp()
        return self._figure(row, where, zone, start, None, estimated=False)

    def _figure(
        self, row: Row, where: str, zone: str, start: float, until: float | None, *, estimated: bool
    ) -> Figure:
        basis, source = row.get("basis", ""), row.get("source", "")
        try:
            return Figure(
                grams_per_kwh=grams(_number(_cell(row, _VALUE, where)), f"{where}, column {_VALUE}: it"),
                zone=zone,
                basis=check_basis(basis, marginal=self._marginal),
                source=self.source,
                source_detail=f"{self.source}: {source[:200]}" if source else self.source,
                from_s=start,
                until_s=until,
                estimated=estimated,
            )
        except Problem as problem:
            text = problem.text if problem.text.startswith(where) else f"{where}, column basis: {problem.text}"
            raise Problem("bad_file", text, problem.remedy or "correct the line") from None


def _cell(row: Row, column: str, where: str) -> str:
    text = row[column]
    if not text:
        raise Problem("bad_file", f"{where}, column {column}: is empty", "correct the line")
    return text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _instant(text: str, what: str) -> float:
    """An ISO 8601 time with offset, or Unix seconds."""
    number = _number(text)
    return instant(text if math.isnan(number) else number, what)

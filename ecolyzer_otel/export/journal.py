"""The journal: the increments of the store's counters, minute by minute, in a folder of append-only files.

For reports over a month or a year where no Prometheus keeps the figures (``ecolyzer report --journal``). Each entry
holds increments, so entries of any number of meters and restarts add up, and a lost one costs its own minute only.
Lines, their checksum and the reader: :mod:`ecolyzer_otel.export.journal_entries`.

Usage::

    facts = {"version": "0.1.0", "host": "n1"}
    journal = Journal(store, folder="/var/lib/ecolyzer/journal", keep_days=400, facts=facts)
    journal.start()
    ...
    journal.stop()
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

from ecolyzer_otel.common.metrics import Metric, MetricSpec
from ecolyzer_otel.export import journal_files as files
from ecolyzer_otel.export.journal_entries import VERSION, Entry, Tally, encode, read_journal
from ecolyzer_otel.export.store import FamilySnapshot, HistogramPoint, Labels, MetricStore, Point

__all__ = ["GAUGES", "Entry", "Journal", "Tally", "read_journal"]

_log = logging.getLogger(__name__)

#: Gauges that a report needs beside the counters: factors, their uncertainty, facts of models and sensors.
GAUGES: Final[tuple[MetricSpec, ...]] = (
    Metric.GRID_CARBON_INTENSITY,
    Metric.GRID_CARBON_UNCERTAINTY,
    Metric.GRID_WATER_INTENSITY,
    Metric.GRID_WATER_LOW,
    Metric.GRID_WATER_HIGH,
    Metric.GRID_DATA_TIMESTAMP,
    Metric.GRID_MARGINAL_INTENSITY,
    Metric.GRID_MARKET_FACTOR,
    Metric.GRID_FACTOR,
    Metric.PUE,
    Metric.WUE,
    Metric.EMBODIED_RATE,
    Metric.SENSOR_UNCERTAINTY,
    Metric.MODEL_PARAMETERS,
    Metric.MODEL_EFFECTIVE_PARAMETERS,
    Metric.HOST_METERS,
    Metric.BUDGET_PER_MONTH,
    Metric.BUDGET_PER_REQUEST,
    Metric.BUILD_INFO,
)
_GAUGE_STEMS: Final = frozenset(spec.stem for spec in GAUGES)
#: Points per line; more are split over several lines of the same time. Keeps a line below some megabytes.
_MAX_POINTS: Final = 20_000
#: A larger file is followed by another one of the same day.
_FILE_BYTES: Final = 64 << 20
#: Gauges are repeated after this many entries, so that one damaged line cannot hide them for long.
_GAUGES_EVERY: Final = 60
#: An increment below this fraction of a counter is a rounding error and is left for later entries.
_NOISE: Final = 1e-12

#: Stem and label values of a counter or histogram.
_Key = tuple[str, Labels]


@dataclass(slots=True)
class _Line:
    """One line under construction, and the counters' written values once it is on the disk."""

    strings: dict[str, int] = field(default_factory=dict)
    families: dict[str, dict[str, Any]] = field(default_factory=dict)
    written: dict[_Key, tuple[float, float]] = field(default_factory=dict)
    points: int = 0

    def add(self, spec: MetricSpec, labels: Labels, *numbers: float) -> None:
        """Add a point of one family."""
        kind = self.families.setdefault(f"{spec.type}s", {})
        family = kind.setdefault(spec.stem, {"labels": spec.labels, "points": []})
        indices = [self.strings.setdefault(text, len(self.strings)) for text in labels]
        family["points"].append([*indices, *(_plain(number) for number in numbers)])
        self.points += 1


class Journal:
    """Writes an entry every ``period_seconds`` from a daemon thread, and a last one at :meth:`stop`.

    Entries end on multiples of the period, so that a report of a day or a month ends with an entry. Increments that
    could not be written (disk full, folder missing) are in the next entry: nothing is lost while the meter runs.

    Args:
        store: the metrics to keep. Its counters count from its start.
        folder: created (0700) if it is missing; an existing one is used as it is.
        keep_days: older files are removed.
        period_seconds: time between entries.
        facts: texts by name in each entry: version, host.

    Raises:
        ConfigError: the folder cannot be used.
    """

    def __init__(
        self,
        store: MetricStore,
        *,
        folder: str,
        keep_days: float,
        period_seconds: float = 60.0,
        facts: Mapping[str, str],
    ) -> None:
        self.folder: Final[Path] = files.prepare_folder(folder)
        #: Random id of this run of the meter; part of the names of its files.
        self.life: Final = secrets.token_hex(8)
        self._store = store
        self._keep_days = keep_days
        self._period = max(0.01, period_seconds)
        self._facts = dict(facts)
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._written: dict[_Key, tuple[float, float]] = {}
        self._seq = 0
        self._from_s = store.start_time_ns / 1e9
        self._from_clock = time.monotonic() - max(0.0, time.time() - self._from_s)
        self._file: tuple[date, int] | None = None
        self._gauges: list[tuple[MetricSpec, Labels, float]] | None = None
        self._gauges_age = 0
        self._gauges_path: Path | None = None
        self._torn = False
        self._failing = False
        self._tidied: date | None = None

    def start(self) -> None:
        """Begin to write. A second call does nothing."""
        if self._thread is None and not self._stopping.is_set():
            self._thread = threading.Thread(target=self._run, name="ecolyzer-journal", daemon=True)
            self._thread.start()

    def stop(self, timeout_seconds: float = 2.0) -> bool:
        """Write the last entry and end. Returns True when everything is written."""
        if self._stopping.is_set():
            return not self._failing
        self._stopping.set()
        if self._thread is not None and self._pid == os.getpid():
            self._thread.join(timeout_seconds)
            if self._thread.is_alive():  # the disk does not respond
                return False
        return self.write()

    def write(self) -> bool:
        """Write one entry now. Never raises; False when it could not be written and is carried over."""
        if self._pid != os.getpid():  # a forked child: the parent writes the journal
            return False
        with self._lock:
            try:
                self._entry()
            except Exception as error:  # noqa: BLE001 - a fault of the journal must not stop the meter
                self._torn = True
                self._failed(error)
                return False
            if self._failing:
                self._failing = False
                _log.warning("the journal in %s is written again; no entry was lost", self.folder)
            return True

    def _run(self) -> None:
        while not self._stopping.wait(self._pause()):
            self.write()
            self._tidy()

    def _pause(self) -> float:
        """Seconds to the next multiple of the period, at least a tenth of it away."""
        left = self._period - time.time() % self._period
        return left if left > 0.1 * self._period else left + self._period

    def _tidy(self) -> None:
        today = files.day_of(time.time())
        if self._tidied != today:
            self._tidied = today
            files.tidy(self.folder, today, self._keep_days)

    def _failed(self, error: Exception) -> None:
        if self._failing:  # one line per outage
            return
        self._failing = True
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        _log.warning(
            "the journal in %s cannot be written (%s); the entries are kept and written later: "
            "free disk space or create the folder",
            self.folder, reason,
        )  # fmt: skip

    def _entry(self) -> None:
        snapshot = self._store.snapshot()
        now, clock = time.time(), time.monotonic()
        # By a clock that does not jump and stops during suspend: a gap then shows as a gap.
        from_s = now - (clock - self._from_clock)
        path, size = self._path(now)
        gauges = _gauges(snapshot)
        # Each file is readable without the previous one.
        due = not size or path != self._gauges_path or self._gauges_age >= _GAUGES_EVERY or gauges != self._gauges
        for position, line in enumerate(self._lines(snapshot)):
            with_gauges = due and position == 0
            document: dict[str, Any] = {
                "v": VERSION, "life": self.life, "seq": self._seq,
                "from": round(from_s, 3), "to": round(now, 3), "facts": self._facts,
            }  # fmt: skip
            if with_gauges:
                for gauge in gauges:
                    line.add(*gauge)
                document["gauges"] = {}
            document |= {"strings": list(line.strings), **line.families}
            files.append(path, encode(document), new_line=self._torn and size > 0)
            self._torn = False
            self._seq += 1
            self._written.update(line.written)
            if with_gauges:
                self._gauges, self._gauges_age, self._gauges_path = gauges, 0, path
        self._gauges_age += 1
        self._from_s, self._from_clock = now, clock

    def _path(self, now: float) -> tuple[Path, int]:
        """The file for an entry that ends ``now``, and its size in bytes so far."""
        day = files.day_of(now)
        current = self._file
        index = current[1] if current is not None and current[0] == day else 0
        path = self.folder / files.file_name(day, self.life, index)
        size = _size(path)
        if size > _FILE_BYTES:
            index += 1
            path = self.folder / files.file_name(day, self.life, index)
            size = _size(path)
        self._file = day, index
        return path, size

    def _lines(self, snapshot: Sequence[FamilySnapshot]) -> Iterator[_Line]:
        """The increments since the last entry; at least one line, which shows that the meter ran."""
        line = _Line()
        for family in snapshot:
            for point in family.points if family.spec.type != "gauge" else ():
                value = (float(point.count), point.sum) if isinstance(point, HistogramPoint) else (point.value, 0.0)
                before = self._written.get((family.spec.stem, point.labels), (0.0, 0.0))
                growth = _short(value[0] - before[0]), _short(value[1] - before[1])
                if growth[0] <= _NOISE * value[0]:
                    continue
                line.add(family.spec, point.labels, *(growth if isinstance(point, HistogramPoint) else growth[:1]))
                line.written[family.spec.stem, point.labels] = before[0] + growth[0], before[1] + growth[1]
                if line.points >= _MAX_POINTS:
                    yield line
                    line = _Line()
        yield line


def _gauges(snapshot: Sequence[FamilySnapshot]) -> list[tuple[MetricSpec, Labels, float]]:
    return [
        (family.spec, point.labels, point.value)
        for family in snapshot
        if family.spec.stem in _GAUGE_STEMS
        for point in family.points
        if isinstance(point, Point)
    ]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _short(value: float) -> float:
    """Twelve digits; the remainder is in the next entry, because increments count from the written value."""
    return float(f"{value:.12g}")


def _plain(number: float) -> float | int:
    return int(number) if number.is_integer() and abs(number) < 1e15 else number

"""Journals that real writers keep, and what their entries add up to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ecolyzer_otel.common.metrics import Metric, MetricSpec
from ecolyzer_otel.export.journal import Entry, Journal, Tally, read_journal
from ecolyzer_otel.export.store import MetricStore

from .made import DAY, OCTOBER, keep, line, served

L = ("shop", "resnet50", "torch", "forward", "cuda:0", "/classify")
EVER = 4e9


def journal(store: MetricStore, folder: Path, **options: object) -> Journal:
    return Journal(store, folder=str(folder), keep_days=400, facts={"version": "0.1.0"}, **options)  # type: ignore[arg-type]


def grown(entries: Iterable[Entry], spec: MetricSpec) -> float:
    tables = (one.counters.get(spec.stem) for one in entries)
    return sum(row[1][0] for table in tables if table is not None for row in table.rows)


def joules(entries: Iterable[Entry]) -> float:
    return grown(entries, Metric.ENERGY)


def work(store: MetricStore, number: float = 1.0) -> None:
    with store.transaction():
        store.counter(Metric.REQUESTS, (*L, "ok")).inc()
        store.counter(Metric.ENERGY, (*L, "gpu", "active")).inc(number)
        store.histogram(Metric.REQUEST_ENERGY, L[:5]).observe(number)


def entries_of(folder: Path) -> tuple[list[int], Tally]:
    tally = Tally()
    return [one.seq for one in read_journal(folder, OCTOBER, OCTOBER + DAY, tally)], tally


def three(folder: Path) -> tuple[Path, bytes, list[bytes]]:
    lines = [line(n, OCTOBER + 60 * n, OCTOBER + 60 * n + 60, served(L, requests=1, active=2.0)) for n in range(3)]
    keep(folder, [(OCTOBER + 60, b"".join(lines))])
    (file,) = folder.iterdir()
    return file, file.read_bytes(), lines

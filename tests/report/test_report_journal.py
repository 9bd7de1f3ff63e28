"""The journal: what it holds, and what is left of it after whatever may happen to a meter, a disk, a folder."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest

from ecolyzer_otel.errors import ConfigError
from ecolyzer_otel.names import Metric, MetricSpec
from ecolyzer_otel.telemetry import journal as module
from ecolyzer_otel.telemetry import journal_files
from ecolyzer_otel.telemetry.journal import Entry, Journal, Tally, read_journal
from ecolyzer_otel.telemetry.journal_entries import decode, encode
from ecolyzer_otel.telemetry.store import MetricStore

from .made import DAY, LIFE, OCTOBER, keep, line, served

L = ("shop", "resnet50", "torch", "forward", "cuda:0", "/classify")
EVER = 4e9


def journal(store: MetricStore, folder: Path, **options: object) -> Journal:
    return Journal(store, str(folder), keep_days=400, facts={"version": "0.1.0"}, **options)  # type: ignore[arg-type]


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


def test_entries_add_up_to_what_the_counters_show(tmp_path: Path) -> None:
    store = MetricStore()
    store.gauge(Metric.PUE, ("FR", "set")).set(1.2)
    kept = journal(store, tmp_path / "j")
    for number in (0.1, 0.2, 0.7, 1e-9, 123456.789):
        work(store, number)
        assert kept.write()
    kept.close()
    tally = Tally()
    entries = list(read_journal(tmp_path / "j", 0, EVER, tally))
    assert len(entries) == 6
    assert tally.lines_skipped == 0
    assert joules(entries[:-1]) == pytest.approx(123457.789000001, rel=1e-12)
    rows = [one.histograms[Metric.REQUEST_ENERGY.stem].rows[0] for one in entries[:-1]]
    assert sum(row[1][0] for row in rows) == 5
    assert sum(row[1][1] for row in rows) == pytest.approx(123457.789000001, rel=1e-12)
    assert rows[0][0] == L[:5]
    assert not entries[-1].counters, "nothing grew, and that is what it says"
    assert all(one.gauges[Metric.PUE.stem].rows == ((("FR", "set"), (1.2,)),) for one in entries)
    assert [one.seq for one in entries] == list(range(6))
    assert entries[0].facts == {"version": "0.1.0"}
    assert entries[0].from_s == pytest.approx(store.start_time_ns / 1e9, abs=0.1)
    ends = [(one.from_s, one.to_s) for one in entries]
    assert all(b[0] == pytest.approx(a[1], abs=0.01) for a, b in pairwise(ends))


def test_gauges_are_told_when_they_change_and_when_they_go(tmp_path: Path) -> None:
    store = MetricStore()
    kept = journal(store, tmp_path)
    carbon = store.gauge(Metric.GRID_CARBON_INTENSITY, ("FR", "rte"))
    for value in (40.0, 40.0, 50.0):
        carbon.set(value)
        kept.write()
    carbon.remove()
    kept.write()
    entries = list(read_journal(tmp_path, 0, EVER))
    assert [one.tells_gauges for one in entries] == [True, False, True, True]
    values = [[row[1][0] for table in one.gauges.values() for row in table.rows] for one in entries]
    assert values == [[40.0], [40.0], [50.0], []]


def test_lines_are_json_that_any_tool_reads(tmp_path: Path) -> None:
    store = MetricStore()
    work(store, 2.5)
    kept = journal(store, tmp_path)
    kept.write()
    (file,) = tmp_path.iterdir()
    document = json.loads(file.read_text())
    family = document["counters"][Metric.ENERGY.stem]
    point = family["points"][0]
    labels = {name: document["strings"][index] for name, index in zip(family["labels"], point, strict=False)}
    assert (labels["model"], labels["share"], point[-1]) == ("resnet50", "active", 2.5)


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    kept = journal(MetricStore(), tmp_path / "made" / "here")
    kept.write()
    assert stat.S_IMODE((tmp_path / "made" / "here").stat().st_mode) == 0o700
    (file,) = (tmp_path / "made" / "here").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    shared.chmod(0o755)
    journal(MetricStore(), shared).write()
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755, "a folder that is there is used as it is"


@pytest.mark.parametrize("name", ["file", "file/below", "nul\0"])
def test_a_folder_that_cannot_be_used_is_a_setting_to_mend(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        journal(MetricStore(), tmp_path / name)
    assert caught.value.key == "--journal (ECOLYZER_JOURNAL)"
    assert "folder" in caught.value.remedy


WRITER = """
import sys
from ecolyzer_otel.names import Metric
from ecolyzer_otel.telemetry.journal import Journal
from ecolyzer_otel.telemetry.store import MetricStore
store = MetricStore()
journal = Journal(store, sys.argv[1], keep_days=9, facts={})
labels = ("shop", "m" * 2000, "torch", "forward", "cpu", "/", "ok")
counter = store.counter(Metric.REQUESTS, labels)
while True:
    counter.inc()
    journal.write()
    print(int(counter.point().value), flush=True)
"""


def test_sigkill_at_any_moment_loses_at_most_the_last_entry(tmp_path: Path) -> None:
    chance = random.Random(7)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(4)
    ]
    written = 0
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()  # it runs
        time.sleep(chance.uniform(0.0, 0.15))
        writer.send_signal(signal.SIGKILL)
        told = writer.stdout.read().split()
        writer.wait()
        writer.stdout.close()
        written += int(told[-1]) if told else 1
    tally = Tally()
    found = grown(read_journal(tmp_path, 0, EVER, tally), Metric.REQUESTS)
    # The entry that was written when the signal came may be whole without having been told of.
    assert written <= found <= written + len(writers)
    assert tally.lines_skipped <= len(writers)


def entries_of(folder: Path) -> tuple[list[int], Tally]:
    tally = Tally()
    return [one.seq for one in read_journal(folder, OCTOBER, OCTOBER + DAY, tally)], tally


def three(folder: Path) -> tuple[Path, bytes, list[bytes]]:
    lines = [line(n, OCTOBER + 60 * n, OCTOBER + 60 * n + 60, served(L, requests=1, active=2.0)) for n in range(3)]
    keep(folder, [(OCTOBER + 60, b"".join(lines))])
    (file,) = folder.iterdir()
    return file, file.read_bytes(), lines


def test_a_torn_tail_is_passed_over_wherever_it_was_torn(tmp_path: Path) -> None:
    file, whole, lines = three(tmp_path / "j")
    for cut in (*range(1, len(lines[2]), 37), len(lines[2]) - 1):
        file.write_bytes(whole[: len(whole) - cut])
        sequence, tally = entries_of(tmp_path / "j")
        assert sequence == [0, 1]
        assert tally.skipped == {"torn": 1}


def test_a_flipped_bit_costs_its_entry_and_is_counted(tmp_path: Path) -> None:
    file, whole, lines = three(tmp_path / "j")
    for offset in range(len(lines[0]), len(lines[0]) + len(lines[1]) - 1, 29):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << (offset % 8)
        if damaged[offset] == 0x0A:
            continue  # cut in two: both halves are counted
        file.write_bytes(damaged)
        sequence, tally = entries_of(tmp_path / "j")
        assert sequence == [0, 2], offset
        assert tally.skipped == {"damaged": 1}


def test_what_is_no_line_of_ours_is_counted_and_harmless(tmp_path: Path) -> None:
    file, whole, lines = three(tmp_path / "j")
    newer = encode({"v": 2, "life": LIFE, "seq": 9})
    strange = [encode({"v": 1, "life": LIFE}), encode({"v": 1, "life": LIFE, "seq": "x", "from": 0, "to": 1})]
    points = {"c": {"labels": ["a"], "points": [[5, 1.0]]}}
    strange.append(
        encode({"v": 1, "life": LIFE, "seq": 7, "from": 1.0, "to": 2.0, "strings": [], "counters": points})
    )
    other = line(8, OCTOBER, OCTOBER + 60, {}, life="f" * 16)
    file.write_bytes(whole + b"\n\xff\xfe\n[]\n{}\n" + newer + b"".join(strange) + other)
    (file.parent / "ecolyzer-2026-02-31-0123456789abcdef.0000.jsonl").write_bytes(b"x")
    (file.parent / "notes.txt").write_bytes(b"mine")
    (file.parent / f"ecolyzer-2026-10-01-{LIFE}.0001.jsonl.gz").write_bytes(b"no archive")
    sequence, tally = entries_of(file.parent)
    assert sequence == [0, 1, 2]
    assert tally.skipped == {
        "damaged": 3, "of another version": 1, "not understood": 3, "of another meter": 1, "unreadable file": 1,
    }  # fmt: skip
    assert len(lines) == tally.entries


def test_keys_and_labels_of_other_versions_are_no_obstacle() -> None:
    document = {
        "v": 1, "life": LIFE, "seq": 0, "from": 1.0, "to": 2.0, "strings": ["eu", "shop"], "later": {"x": [1]},
        "counters": {"ecolyzer_new": {"labels": ["region", "service"], "points": [[0, 1, 5]], "unit": "J"}},
    }  # fmt: skip
    entry = decode(encode(document).rstrip(b"\n"))
    assert isinstance(entry, Entry)
    assert entry.counters["ecolyzer_new"].rows == ((("eu", "shop"), (5.0,)),)


def test_neighbouring_periods_share_no_entry_and_lose_none(tmp_path: Path) -> None:
    """Entries that end some milliseconds after midnight belong to the day that they tell of."""
    ends = [OCTOBER - 60 + 60 * n + 0.004 for n in range(5)]
    lines = [(to, line(n, to - 60, to, served(L, requests=1, active=1.0))) for n, to in enumerate(ends)]
    keep(tmp_path / "j", lines)
    before = [one.seq for one in read_journal(tmp_path / "j", OCTOBER - DAY, OCTOBER)]
    after = [one.seq for one in read_journal(tmp_path / "j", OCTOBER, OCTOBER + DAY)]
    assert (before, after) == ([0, 1], [2, 3, 4])


FULL = """
import glob, logging, os, resource, sys
from ecolyzer_otel.names import Metric
from ecolyzer_otel.telemetry.journal import Journal
from ecolyzer_otel.telemetry.store import MetricStore
logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")
store = MetricStore()
journal = Journal(store, sys.argv[1], keep_days=9, facts={})
counter = store.counter(Metric.REQUESTS, ("shop", "m", "torch", "forward", "cpu", "/", "ok"))
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
done = []
for turn in range(60):
    if turn == 10:
        room = os.path.getsize(glob.glob(sys.argv[1] + "/*")[0]) + 100
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))  # a write is cut short, then refused
    if turn == 40:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    counter.inc()
    done.append(journal.write())
journal.close()
print(done.count(False))
"""


def test_a_full_disk_costs_nothing_while_the_meter_lives(tmp_path: Path) -> None:
    """One line when it is full, one when it is well again, and every request is in the journal once."""
    told = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert told.stderr == ""
    lost, again, refused = told.stdout.splitlines()
    assert "cannot be written (File too large)" in lost
    assert "make room" in lost
    assert "is written again; nothing is missing" in again
    assert int(refused) == 30
    tally = Tally()
    assert grown(read_journal(tmp_path, 0, EVER, tally), Metric.REQUESTS) == 60
    assert tally.skipped == {"damaged": 1}, "the entry that was cut short"


def test_a_folder_that_goes_away_and_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = MetricStore()
    kept = journal(store, tmp_path / "j")
    work(store)
    kept.write()
    saved = tmp_path / "j"
    saved.rename(tmp_path / "away")
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            work(store)
            assert not kept.write()
        (tmp_path / "away").rename(saved)
        work(store)
        assert kept.write()
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert joules(read_journal(saved, 0, EVER)) == 7.0


def test_an_entry_that_may_have_been_kept_is_never_counted_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line was written whole, and only the word that it is on the disk failed."""
    store = MetricStore()
    kept = journal(store, tmp_path)
    work(store)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        assert not kept.write()
        assert not kept.write()
    work(store, 2.0)
    kept.write()
    work(store, 4.0)
    kept.write()
    assert joules(read_journal(tmp_path, 0, EVER)) == 7.0


def test_any_failure_leaves_the_service_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept = journal(MetricStore(), tmp_path)
    monkeypatch.setattr(module, "encode", lambda _: 1 / 0)
    assert not kept.write()
    assert not kept.close()
    assert "ZeroDivisionError" in caplog.records[0].getMessage()


def test_two_meters_share_a_folder(tmp_path: Path) -> None:
    stores = [MetricStore(), MetricStore()]
    journals = [journal(store, tmp_path, period_seconds=0.01) for store in stores]
    for one in journals:
        one.start()
        one.start()
    threads = [threading.Thread(target=lambda s=store: [work(s) for _ in range(500)]) for store in stores]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one.close() for one in journals)
    tally = Tally()
    entries = [one for one in read_journal(tmp_path, 0, EVER, tally) if one.counters]
    assert tally.lines_skipped == 0
    assert len(list(tmp_path.iterdir())) == 2
    assert {one.life for one in entries} == {one.life for one in journals}
    assert joules(entries) == 1000.0


def test_a_forked_child_leaves_the_journal_to_its_parent(tmp_path: Path) -> None:
    store = MetricStore()
    kept = journal(store, tmp_path)
    work(store)
    child = os.fork()
    if child == 0:
        os._exit(int(kept.write() or kept.close()))
    assert os.waitpid(child, 0)[1] == 0
    kept.close()
    assert joules(read_journal(tmp_path, 0, EVER)) == 1.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The journal's clock, which the test sets."""
    now = [OCTOBER + 10.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    return now


def test_a_file_a_day_and_another_when_it_is_large(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MetricStore()
    store.gauge(Metric.PUE, ("FR", "set")).set(1.2)
    kept = journal(store, tmp_path)
    monkeypatch.setattr(module, "_FILE_BYTES", 1500)
    for day in range(3):
        for _ in range(6):
            clock[0] = OCTOBER + day * DAY + 10.0
            work(store)
            kept.write()
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names[0] == f"ecolyzer-2026-10-01-{kept.life}.0000.jsonl"
    assert names[1] == f"ecolyzer-2026-10-01-{kept.life}.0001.jsonl"
    assert {name[9:19] for name in names} == {"2026-10-01", "2026-10-02", "2026-10-03"}
    assert joules(read_journal(tmp_path, 0, EVER)) == 18.0
    for file in tmp_path.iterdir():  # each can be read without the others
        first = decode(file.read_bytes().split(b"\n")[0])
        assert isinstance(first, Entry)
        assert Metric.PUE.stem in first.gauges


def test_old_files_go_and_those_of_days_past_are_compressed(tmp_path: Path, clock: list[float]) -> None:
    store = MetricStore()
    kept = Journal(store, str(tmp_path), keep_days=3, facts={})
    for day in range(6):
        clock[0] = OCTOBER + day * DAY + 10.0
        work(store)
        kept.write()
        kept._tidy()
    names = sorted(file.name[9:19] + file.suffix for file in tmp_path.iterdir())
    assert names == ["2026-10-03.gz", "2026-10-04.gz", "2026-10-05.jsonl", "2026-10-06.jsonl"]
    assert joules(read_journal(tmp_path, 0, EVER)) == 4.0
    packed = next(file for file in tmp_path.iterdir() if file.suffix == ".gz")
    assert stat.S_IMODE(packed.stat().st_mode) == 0o600


def test_a_crash_while_compressing_counts_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compressed copy is there and the file as well."""
    file, _, _ = three(tmp_path / "j")
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(PermissionError(1, "append only")))
    journal_files.tidy(tmp_path / "j", journal_files.day_of(OCTOBER + 5 * DAY), 400)
    assert len(list(file.parent.iterdir())) == 2
    assert entries_of(tmp_path / "j")[0] == [0, 1, 2]


def test_what_would_be_too_long_a_line_becomes_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POINTS", 10)
    store = MetricStore()
    store.gauge(Metric.PUE, ("FR", "set")).set(1.2)
    for number in range(25):
        store.counter(Metric.REQUESTS, (*L[:5], f"/{number}", "ok")).inc()
    kept = journal(store, tmp_path)
    kept.write()
    entries = list(read_journal(tmp_path, 0, EVER))
    assert [len(one.counters[Metric.REQUESTS.stem].rows) for one in entries] == [10, 10, 5]
    assert {(one.from_s, one.to_s) for one in entries} == {(entries[0].from_s, entries[0].to_s)}
    assert all(one.gauges for one in entries)


def test_entries_end_on_the_minute(tmp_path: Path, clock: list[float]) -> None:
    kept = journal(MetricStore(), tmp_path)
    assert kept._pause() == pytest.approx(50.0)
    clock[0] = OCTOBER + 59.0  # woken early: no entry of one second
    assert kept._pause() == pytest.approx(61.0)

"""What is left of a journal after whatever may happen to a meter, a disk, a folder."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ecolyzer_otel.names import Metric
from ecolyzer_otel.telemetry import journal as module
from ecolyzer_otel.telemetry import journal_files
from ecolyzer_otel.telemetry.journal import Tally, read_journal
from ecolyzer_otel.telemetry.journal_entries import encode
from ecolyzer_otel.telemetry.store import MetricStore

from .journals import EVER, entries_of, grown, joules, journal, three, work
from .made import DAY, LIFE, OCTOBER, line

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
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=240, check=True
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


def test_a_crash_while_compressing_counts_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compressed copy is there and the file as well."""
    file, _, _ = three(tmp_path / "j")
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(PermissionError(1, "append only")))
    journal_files.tidy(tmp_path / "j", journal_files.day_of(OCTOBER + 5 * DAY), 400)
    assert len(list(file.parent.iterdir())) == 2
    assert entries_of(tmp_path / "j")[0] == [0, 1, 2]


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

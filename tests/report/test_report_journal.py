"""The journal: what it holds, how its files come and go, who may read them."""

from __future__ import annotations

import json
import stat
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.common.metrics import Metric
from ecolyzer_otel.export import journal as module
from ecolyzer_otel.export.journal import Entry, Journal, Tally, read_journal
from ecolyzer_otel.export.journal_entries import decode, encode
from ecolyzer_otel.export.store import MetricStore

from .journals import EVER, L, joules, journal, work
from .made import DAY, LIFE, OCTOBER, keep, line, served


def test_entries_add_up_to_what_the_counters_show(tmp_path: Path) -> None:
    store = MetricStore()
    store.gauge(Metric.PUE, ("FR", "set")).set(1.2)
    kept = journal(store, tmp_path / "j")
    for number in (0.1, 0.2, 0.7, 1e-9, 123456.789):
        work(store, number)
        assert kept.write()
    kept.stop()
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
    assert [one.has_gauges for one in entries] == [True, False, True, True]
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


def works(store: MetricStore) -> None:
    for _ in range(500):
        work(store)


def test_two_meters_share_a_folder(tmp_path: Path) -> None:
    stores = [MetricStore(), MetricStore()]
    journals = [journal(store, tmp_path, period_seconds=0.01) for store in stores]
    for one in journals:
        one.start()
        one.start()
    threads = [threading.Thread(target=works, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one.stop() for one in journals)
    tally = Tally()
    entries = [one for one in read_journal(tmp_path, 0, EVER, tally) if one.counters]
    assert tally.lines_skipped == 0
    assert len(list(tmp_path.iterdir())) == 2
    assert {one.life for one in entries} == {one.life for one in journals}
    assert joules(entries) == 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The journal's clock, which the test sets."""
    now = [OCTOBER + 10.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
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
    kept = Journal(store, folder=str(tmp_path), keep_days=3, facts={})
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


def test_what_would_be_too_long_a_line_becomes_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_POINTS", 10)
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

"""Meters that see each other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ecolyzer_otel.ledger import Ledger, Record, SensorSpec
from ecolyzer_otel.meter import host_meters
from ecolyzer_otel.meter.host_meters import HostMeters

pytestmark = pytest.mark.slow

S = 1_000_000_000


@pytest.fixture(autouse=True)
def always_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_meters, "_PERIOD", 0.0)


def test_two_meters_of_one_host_count_each_other_as_long_as_they_live(caplog: pytest.LogCaptureFixture) -> None:
    first = HostMeters()
    alone = first.count()
    second = HostMeters()
    assert (first.count(), second.count()) == (alone + 1, alone + 1)
    first.count()
    first.count()
    assert caplog.text.count("one agent for all services (ecolyzer agent)") == 1
    second.close()
    assert first.count() == alone
    first.close()


def test_a_group_of_meters_and_those_without_one_do_not_count_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    grouped = HostMeters()
    monkeypatch.delenv(host_meters.GROUP)
    # As meters are where nobody sets the variable: beside those of this host, whoever's they are.
    first, second = HostMeters(), HostMeters()
    with open("/proc/net/unix") as table:
        names = table.read()
    assert names.count(f"@ecolyzer-meter/{os.getpid()}-") == 2
    assert min(first.count(), second.count()) >= 2
    assert grouped.count() == 1
    for one in (grouped, first, second):
        one.close()


def test_one_that_is_about_to_end_is_no_reason_for_advice(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A table of its own: other meters of the host would be a reason.
    table = tmp_path / "unix"
    head = "Num RefCount Protocol Flags Type St Inode Path\n"
    monkeypatch.delenv(host_meters.GROUP)
    other = "0: 2 0 0 2 1 7 @ecolyzer-meter/1-1\n"
    table.write_text(head + other)
    fresh = HostMeters(str(table))
    assert fresh.count() == 2
    table.write_text(head)
    assert fresh.count() == 1
    assert caplog.text == ""
    table.write_text(head + other)
    for _ in range(3):
        fresh.count()
    assert "2 meters run on this host" in caplog.text, "one that stays is"
    fresh.close()


def test_other_sockets_and_a_table_that_is_not_there_are_no_meters(tmp_path: Path) -> None:
    table = tmp_path / "unix"
    head = "Num RefCount Protocol Flags Type St Inode Path\n"
    table.write_text(head + "0: 2 0 0 2 1 7 @ecolyzer-other/1\n0: 2 0 0 2 1 8 /run/ecolyzer-meter/x\n")
    one = HostMeters(str(table))
    assert one.count() == 1
    one.close()
    other = HostMeters(str(tmp_path / "nothing"))
    assert other.count() == 1
    other.close()


def ledger(meters: int, component: str = "cpu", **spec: float) -> Ledger:
    book = Ledger([SensorSpec(id="s", component=component, **{"idle_watts": 0.0, **spec})])  # type: ignore[arg-type]
    book.meters = meters
    book.sample("s", 0, 0.0)
    return book


def settle(book: Ledger, **record: object) -> tuple[float, float]:
    book.record(Record(id="r", pid=1, start_ns=0, end_ns=S, **record))  # type: ignore[arg-type]
    book.sample("s", S, 30.0)
    (settled,) = book.advance(S)
    return settled.active_joules, settled.idle_joules


def test_idle_joules_are_divided_by_the_number_of_meters() -> None:
    assert settle(ledger(1, idle_watts=10.0), cpu_ns=S) == (pytest.approx(20.0), pytest.approx(10.0))
    assert settle(ledger(2, idle_watts=10.0), cpu_ns=S) == (pytest.approx(20.0), pytest.approx(5.0))


def test_cpu_joules_are_not_where_cpu_time_tells_whose_they_are() -> None:
    book = ledger(2)
    book.activity.host.add(0, 0.0)
    book.activity.host.add(S, 2.0)
    assert settle(book, cpu_ns=S) == (pytest.approx(15.0), 0.0)


def test_those_of_a_gpu_that_tells_nothing_of_others_are() -> None:
    busy = {"s": [(0, S)]}
    assert settle(ledger(1, "gpu"), device_busy=busy) == (pytest.approx(30.0), 0.0)
    assert settle(ledger(3, "gpu"), device_busy=busy) == (pytest.approx(10.0), 0.0)
    known = ledger(3, "gpu")
    known.activity.add_device("s", 0, 0.0)
    known.activity.add_device("s", S, 1.0)
    assert settle(known, device_busy=busy) == (pytest.approx(30.0), 0.0)


@pytest.mark.parametrize("meters", [1, 2, 5])
def test_the_shares_add_up_with_any_number_of_meters(meters: int) -> None:
    for component in ("cpu", "gpu"):
        book = ledger(meters, component, idle_watts=7.0)
        settle(book, device_busy={"s": [(0, S)]} if component == "gpu" else {})
        shares = book.sensors["s"].shares
        total = shares.requests + shares.process + shares.host + shares.idle + shares.pending
        assert total == pytest.approx(shares.measured)

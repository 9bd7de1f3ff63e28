"""The ledger as the meter drives it: records, open and closed, come while intervals close."""

from __future__ import annotations

import pytest

from ecolyzer_otel.ledger import Ledger, Record, SensorSpec

S = 1_000_000_000
MS = 1_000_000


def ledger(*components: str, idle_watts: float = 0.0) -> Ledger:
    return Ledger(
        SensorSpec(id=name, component=name, idle_watts=idle_watts)  # type: ignore[arg-type]
        for name in components or ("cpu",)
    )


def record(
    start: int, end: int | None, cpu: int = 0, seen: int | None = None, pid: int = 1, name: str = "r"
) -> Record:
    return Record(id=name, pid=pid, start_ns=start, end_ns=end, cpu_ns=cpu, seen_ns=seen)


def balance(book: Ledger, sensor: str = "cpu") -> float:
    shares = book.sensors[sensor].shares
    return shares.requests + shares.process + shares.host + shares.idle + shares.pending - shares.measured


def test_an_open_record_makes_joules_pending_and_settlement_moves_them() -> None:
    book = ledger()
    shares = book.sensors["cpu"].shares
    book.sample("cpu", 0, 0.0)
    assert book.record(record(0, None, cpu=S, seen=S))
    book.sample("cpu", S, 30.0)
    assert book.advance(S) == []
    assert (shares.pending, shares.requests) == (30.0, 0.0)

    assert book.record(record(0, 2 * S, cpu=2 * S))
    book.sample("cpu", 2 * S, 50.0)
    (settled,) = book.advance(2 * S)
    assert settled.active_joules == pytest.approx(50.0)
    assert (shares.pending, shares.requests) == (0.0, pytest.approx(50.0))
    assert len(book) == 0


def test_an_interval_stays_open_until_nothing_can_change_it() -> None:
    book = ledger()
    book.sample("cpu", 0, 0.0)
    book.sample("cpu", S, 30.0)
    book.advance(S - 1)
    assert book.sensors["cpu"].shares.measured == 0.0
    assert book.record(record(0, S, cpu=S)), "the interval is not closed yet"
    assert [one.active_joules for one in book.advance(S)] == [30.0]


def test_a_request_waits_for_the_slowest_sensor() -> None:
    book = ledger("cpu", "dram")
    book.record(record(0, S // 2, cpu=S // 2))
    for sensor in ("cpu", "dram"):
        book.sample(sensor, 0, 0.0)
    book.sample("cpu", S, 10.0)
    assert book.advance(S) == []
    book.sample("dram", 2 * S, 4.0)
    (settled,) = book.advance(2 * S)
    assert settled.sensors == {"cpu": (10.0, 0.0), "dram": (4.0, 0.0)}


def test_an_overdue_request_is_settled_with_what_is_known() -> None:
    book = ledger("cpu", "dram")
    book.record(record(0, S // 2, cpu=S // 2))
    book.sample("cpu", 0, 0.0)
    book.sample("cpu", S, 10.0)
    assert book.advance(S, overdue_ns=S // 2 - 1) == []
    (settled,) = book.advance(S, overdue_ns=S // 2)
    assert settled.sensors == {"cpu": (10.0, 0.0)}


def test_an_overdue_request_that_no_reading_covered_is_unsettled() -> None:
    book = ledger()
    book.record(record(0, S, cpu=S))
    (settled,) = book.advance(5 * S, overdue_ns=2 * S)
    assert (settled.method, settled.joules) == ("unsettled", 0.0)


def test_an_open_request_is_never_overdue() -> None:
    book = ledger()
    book.record(record(0, None, seen=S))
    assert book.advance(9 * S, overdue_ns=8 * S) == []
    assert len(book) == 1


def test_the_joules_of_an_abandoned_request_are_process_share() -> None:
    book = ledger()
    book.sample("cpu", 0, 0.0)
    book.record(record(0, None, cpu=S, seen=S))
    book.sample("cpu", S, 30.0)
    book.advance(S)
    book.abandon("r")
    shares = book.sensors["cpu"].shares
    assert (shares.process, shares.pending, shares.requests) == (30.0, 0.0, 0.0)
    assert len(book) == 0


def test_abandoning_what_is_not_known_changes_nothing() -> None:
    book = ledger()
    book.abandon("nobody")
    assert balance(book) == 0.0


def test_a_record_that_comes_after_its_interval_has_closed_is_late() -> None:
    book = ledger()
    book.sample("cpu", 0, 0.0)
    book.sample("cpu", S, 30.0)
    book.advance(S)
    assert not book.record(record(S - 1, S + 1))
    assert book.record(record(S, S + 1, name="in time"))
    assert len(book) == 1


def test_a_late_record_gets_no_joules() -> None:
    book = ledger()
    book.sample("cpu", 0, 0.0)
    book.sample("cpu", S, 30.0)
    book.advance(S)
    book.record(record(0, 2 * S, cpu=2 * S))
    book.sample("cpu", 2 * S, 60.0)
    assert book.advance(2 * S) == []
    assert book.sensors["cpu"].shares.requests == 0.0


def test_the_end_of_a_request_known_to_be_open_is_not_late() -> None:
    book = ledger()
    book.sample("cpu", 0, 0.0)
    book.record(record(0, None, cpu=S, seen=S))
    book.sample("cpu", S, 30.0)
    book.advance(S)
    assert book.record(record(0, S + 1, cpu=S))


def test_an_open_request_is_charged_only_as_far_as_it_was_seen() -> None:
    book = ledger()
    book.sample("cpu", 0, 0.0)
    book.record(record(0, None, seen=S // 4, name="seen for a quarter"))
    book.record(record(S // 4, S, name="three quarters"))
    book.sample("cpu", S, 40.0)
    book.advance(S)
    shares = book.sensors["cpu"].shares
    assert shares.requests + shares.pending == 40.0
    assert shares.requests == pytest.approx(30.0)


def test_a_request_over_hundreds_of_intervals_gets_each_of_them_and_never_unbalances_the_ledger() -> None:
    book = ledger("cpu", "dram", idle_watts=10.0)
    shares = book.sensors["cpu"].shares
    for step in range(301):
        now = step * 100 * MS
        if step:
            # Half of the host's busy time is the request's own thread.
            assert book.record(record(0, None, cpu=now // 2, seen=now))
        book.activity.host.add(now, now / 1e9)
        book.sample("cpu", now, step * 3.0)
        book.sample("dram", now, step * 1.5)
        assert book.advance(now) == []
        assert shares.pending == pytest.approx(step * 1.0)
        assert balance(book) == pytest.approx(0.0, abs=1e-9)
    book.record(record(0, 30 * S, cpu=15 * S))
    (settled,) = book.advance(30 * S)
    # Per interval: CPU 3 J, 1 of them idle; DRAM 1.5 J, 1 of them idle.
    assert settled.sensors["cpu"] == (pytest.approx(300 * 2 / 2), pytest.approx(300.0))
    assert settled.sensors["dram"] == (pytest.approx(300 * 0.5 / 2), pytest.approx(300.0))
    assert shares.pending == 0.0


def test_history_that_no_open_interval_needs_is_dropped() -> None:
    book = ledger()
    for step in range(1000):
        now = step * 100 * MS
        book.activity.host.add(now, step * 0.1)
        book.sample("cpu", now, step * 1.0)
        book.advance(now)
    assert len(book.activity.host._times) < 10


def test_a_sensor_that_is_lost_does_not_keep_history_for_ever() -> None:
    book = ledger("cpu", "dram")
    for step in range(2000):
        now = step * 100 * MS
        book.activity.host.add(now, step * 0.1)
        book.sample("cpu", now, step * 1.0)
        book.advance(now)
    assert len(book.activity.host._times) < 700, "one minute at ten a second, and no more"


def test_a_process_that_is_gone_is_forgotten() -> None:
    book = ledger()
    book.record(record(0, S, cpu=S, pid=7))
    book.activity.add_process(7, "cpu", S, 1.0)
    book.activity.forget_process(7)
    assert (book.activity.owners, book.activity.processes_of("cpu")) == (set(), [])


def test_faults_of_a_counter_are_counted_by_reason() -> None:
    book = ledger()
    for t, joules in ((0, 500.0), (S, 510.0), (S, 511.0), (2 * S, 400.0), (3 * S, float("nan")), (4 * S, 1e9)):
        book.sample("cpu", t, joules)
    book.announce("cpu", "lost")
    assert book.sensors["cpu"].counter.faults == {"time": 1, "backwards": 1, "range": 1, "absurd": 1, "lost": 1}

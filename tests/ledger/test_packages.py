"""Hosts with several processor packages: a process that is confined to one draws nothing from the others."""

from __future__ import annotations

from typing import Any

import pytest
from simulated import S

from ecolyzer_otel.ledger import Activity, Ledger, Record, SensorSpec
from ecolyzer_otel.ledger.replay import replay


def line(seconds: float) -> list[list[float]]:
    return [[0, 0.0], [S, seconds]]


def sensor(name: str, joules: float, idle: float = 0.0, component: str = "cpu") -> dict[str, Any]:
    return {"id": name, "component": component, "idle_watts": idle, "samples": [[0, 0.0], [S, joules]]}


def request(name: str, pid: int, cpu: float) -> dict[str, Any]:
    return {"id": name, "pid": pid, "start_ns": 0, "end_ns": S, "cpu_ns": round(cpu * S)}


#: The host was busy for 3 CPU seconds, 1.2 of them on package 0. Process 1 runs on package 1 only, 2 anywhere.
PACKAGES = {"package-0": line(1.2), "package-1": line(1.8)}
PROCESSES = {"1": {"cpu": line(1.0), "sensors": ["package-1"]}, "2": {"cpu": line(1.0)}}
REQUESTS = [request("confined", 1, 0.8), request("free", 2, 0.5)]


def run(
    packages: dict[str, Any] | None = None,
    processes: dict[str, Any] | None = None,
    sensors: list[dict[str, Any]] | None = None,
    requests: list[dict[str, Any]] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    activity = {
        "host_cpu": line(3.0),
        "packages": PACKAGES if packages is None else packages,
        "processes": processes or PROCESSES,
    }
    both = sensors or [sensor("package-0", 60.0), sensor("package-1", 90.0)]
    result = replay({"version": 1, "sensors": both, "activity": activity, "requests": requests or REQUESTS})
    return result["requests"], result["sensors"]


def active(request: dict[str, Any], name: str) -> float:
    return request["sensors"].get(name, {"active": 0.0})["active"]


def test_a_confined_process_gets_nothing_active_of_the_other_package() -> None:
    requests, _ = run()
    assert active(requests["confined"], "package-0") == 0.0
    # 0.8 of the 1.8 CPU seconds of package 1, of 90 J.
    assert active(requests["confined"], "package-1") == pytest.approx(40.0)


def test_a_process_that_runs_anywhere_is_taken_to_run_where_the_others_leave_room() -> None:
    requests, _ = run()
    # Beside process 1 the host was busy for 2 s: 1.2 s, six tenths, on package 0, and 0.8 s on package 1.
    # Of package 0: 0.6 x 0.5 of 1.2 s of 60 J; of package 1: 0.4 x 0.5 of 1.8 s of 90 J.
    assert active(requests["free"], "package-0") == pytest.approx(15.0)
    assert active(requests["free"], "package-1") == pytest.approx(10.0)


def test_process_and_host_get_their_parts_of_each_package() -> None:
    _, sensors = run()
    # Package 0: process 2 outside its request 0.6 x 0.5 s; the host 1.2 - 0.6 s.
    assert sensors["package-0"] == pytest.approx(
        {"measured_joules": 60.0, "requests": 15.0, "process": 15.0, "host": 30.0, "idle": 0.0, "pending": 0.0}
    )
    # Package 1: process 1 0.2 s, process 2 0.4 x 0.5 s; the host 1.8 - 1.0 - 0.4 s.
    assert sensors["package-1"] == pytest.approx(
        {"measured_joules": 90.0, "requests": 50.0, "process": 20.0, "host": 20.0, "idle": 0.0, "pending": 0.0}
    )


def test_the_memory_of_a_package_follows_it() -> None:
    both = [sensor("package-0", 60.0), sensor("package-1", 90.0), sensor("dram-1", 18.0, component="dram")]
    packages = {**PACKAGES, "dram-1": line(1.8)}
    processes = {**PROCESSES, "1": {"cpu": line(1.0), "sensors": ["package-1", "dram-1"]}}
    requests, _ = run(packages, processes, both)
    assert active(requests["confined"], "dram-1") == pytest.approx(18.0 * 0.8 / 1.8)


def test_a_process_that_may_use_both_packages_of_two_is_not_confined() -> None:
    processes = {**PROCESSES, "1": {"cpu": line(1.0), "sensors": ["package-0", "package-1"]}}
    requests, sensors = run(processes=processes)
    assert requests["confined"]["sensors"].keys() == {"package-0", "package-1"}
    for name, shares in sensors.items():
        parts = sum(shares[part] for part in ("requests", "process", "host", "idle", "pending"))
        assert parts == pytest.approx(shares["measured_joules"]), name


FREE = {"1": {"cpu": line(1.0)}, "2": {"cpu": line(1.0)}}


@pytest.mark.parametrize(
    ("packages", "processes"),
    [({}, PROCESSES), ({}, FREE), (PACKAGES, FREE)],
    ids=["packages-unknown", "both-unknown", "nobody-confined"],
)
def test_where_either_is_unknown_every_package_is_divided_alike(
    packages: dict[str, Any], processes: dict[str, Any]
) -> None:
    requests, _ = run(packages, processes)
    # 0.8 of the host's 3 CPU seconds.
    assert active(requests["confined"], "package-0") == pytest.approx(60.0 * 0.8 / 3.0)
    assert active(requests["confined"], "package-1") == pytest.approx(90.0 * 0.8 / 3.0)


def test_sensors_of_a_process_of_another_shape_are_ignored() -> None:
    strange = {**PROCESSES, "1": {"cpu": line(1.0), "sensors": "package-1"}}
    assert run(processes=strange) == run(processes=FREE)


# Rule 5: among those in flight on that device.
def test_a_confined_process_gets_nothing_idle_of_the_other_package_either() -> None:
    both = [sensor("package-0", 70.0, idle=10.0), sensor("package-1", 110.0, idle=20.0)]
    requests, _ = run(sensors=both)
    assert "package-0" not in requests["confined"]["sensors"]
    assert requests["free"]["sensors"]["package-0"]["idle"] == pytest.approx(10.0)
    assert requests["free"]["sensors"]["package-1"]["idle"] == pytest.approx(10.0)


def test_a_process_without_requests_counts_on_its_own_package_only() -> None:
    # It ran on package 0 for 1.2 s. Of package 1 nobody but process 1 used anything: 1 of 1 s.
    processes = {
        "1": {"cpu": line(1.0), "sensors": ["package-1"]},
        "9": {"cpu": line(1.2), "sensors": ["package-0"]},
    }
    packages = {"package-0": line(1.2), "package-1": line(1.0)}
    requests, sensors = run(packages, processes, requests=REQUESTS[:1])
    assert active(requests["confined"], "package-1") == pytest.approx(90.0 * 0.8)
    assert sensors["package-1"]["host"] == pytest.approx(0.0)


# The book.


def book(*placed: tuple[int, list[str]]) -> Activity:
    one = Activity()
    for t, host, zero in ((0, 0.0, 0.0), (S, 4.0, 1.0)):
        one.host.add(t, host)
        one.add_host_of("package-0", t, zero)
        one.add_host_of("package-1", t, host - zero)
        one.add_process(1, "cpu", t, 0.5 * t / S)
    for pid, sensors in placed:
        one.place(pid, sensors)
    return one


def test_the_part_of_a_process_on_a_package_is_all_nothing_or_what_the_package_did_of_the_rest() -> None:
    one = book((1, ["package-0"]))
    assert one.part_on(1, "package-0", 0, S) == 1.0
    assert one.part_on(1, "package-1", 0, S) == 0.0
    # 4 - 0.5 s beside process 1: 0.5 s of them on package 0.
    assert one.part_on(2, "package-0", 0, S) == pytest.approx(0.5 / 3.5)
    assert one.part_on(2, "package-1", 0, S) == pytest.approx(3.0 / 3.5)


def test_one_that_is_set_free_counts_everywhere_again() -> None:
    one = book((1, ["package-0"]))
    one.place(1, None)
    assert not one.has_placements
    assert one.part_on(1, "package-1", 0, S) == 1.0


def test_one_that_is_gone_is_placed_nowhere() -> None:
    one = book((1, ["package-0"]))
    one.forget_process(1)
    assert not one.has_placements


# A package's busy time is told only while somebody is confined. Else its curve is flat: not 0 s, but unknown.


def two_packages() -> Ledger:
    """Each second 100 J of either, the host busy for 4 s, either package for 2."""
    ledger = Ledger([SensorSpec(id=name, component="cpu", idle_watts=0.0) for name in ("package-0", "package-1")])
    for t in range(3):
        ledger.activity.host.add(t * S, 4.0 * t)
    ledger.activity.add_process(7, "cpu", 0, 0.0)
    return ledger


def second(ledger: Ledger, number: int, *, told: bool) -> float:
    """The second after ``number`` - 1 s with a request that used 1 s: its active joules."""
    for name in ledger.sensors:
        ledger.sample(name, (number - 1) * S, 100.0 * (number - 1))
    ledger.record(Record(id=number, pid=1, start_ns=(number - 1) * S, end_ns=number * S, cpu_ns=S))
    for name in ledger.sensors:
        ledger.sample(name, number * S, 100.0 * number)
        if told:
            ledger.activity.add_host_of(name, number * S, 2.0 * number)
    (settled,) = ledger.advance(number * S)
    return settled.active_joules


def test_when_nobody_is_confined_any_more_the_host_counts_again() -> None:
    ledger = two_packages()
    for name in ledger.sensors:
        ledger.activity.add_host_of(name, 0, 0.0)
    ledger.activity.place(7, ["package-0"])
    second(ledger, 1, told=True)
    ledger.activity.forget_process(7)
    # 1 of the host's 4 CPU seconds, of 100 J of each.
    assert second(ledger, 2, told=False) == pytest.approx(50.0)


def test_the_interval_in_which_the_first_process_is_confined_is_divided_by_the_host() -> None:
    ledger = two_packages()
    ledger.activity.place(7, ["package-0"])
    assert second(ledger, 1, told=True) == pytest.approx(50.0)

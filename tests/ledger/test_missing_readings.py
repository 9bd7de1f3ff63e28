"""Where a counter was lost, restarted, stood still or ran on while the machine slept: unknown is not zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from simulated import MS, Run, S, drive, readings, record

from ecolyzer_otel.ledger import Ledger, SensorSpec, Shares
from ecolyzer_otel.ledger.replay import replay

IDLE = 10.0
WATTS = 30.0
#: What tells the ledger of activity: CPU time, kernels, or nothing but when requests were in flight.
SOURCES = ("cpu", "kernels", "flight")


def every_second(seconds: int, begin: int = 0, watts: float = WATTS) -> list[Run]:
    """One request a second, half a second long: 15 J active, 5 J idle."""
    return [Run(f"r{at}", "m", at * S + 200 * MS, at * S + 700 * MS, watts) for at in range(begin, seconds)]


def document(
    runs: Sequence[Run],
    samples: Sequence[Sequence[float]],
    source: str = "cpu",
    events: Sequence[Any] = (),
    **more: Any,
) -> dict[str, Any]:
    requests = []
    for one in runs:
        busy = {"device_busy_ns": {"d0": [[one.start_ns, one.end_ns]]}} if source == "kernels" else {}
        cpu = one.end_ns - one.start_ns
        times = {"start_ns": one.start_ns, "end_ns": one.end_ns, "cpu_ns": cpu}
        requests.append({"id": one.id, "pid": 1, "model": one.kind, **times, **busy})
    component = "cpu" if source == "cpu" else "gpu"
    sensor = {"id": "d0", "component": component, "idle_watts": IDLE, "samples": [list(one) for one in samples]}
    told = [{"t_ns": t, "kind": kind, "sensor": "d0"} for t, kind in events]
    return {"version": 1, "sensors": [sensor, *more.get("sensors", ())], "requests": requests, "events": told}


def run(*args: Any, **more: Any) -> tuple[dict[str, Any], dict[str, float]]:
    """The requests, and the shares of the sensor, which add up."""
    result = replay(document(*args, **more))
    shares = result["sensors"]["d0"]
    parts = sum(shares[part] for part in ("requests", "process", "host", "idle", "pending"))
    assert parts == pytest.approx(shares["measured_joules"])
    charged = sum(one["sensors"]["d0"]["active"] for one in result["requests"].values() if "d0" in one["sensors"])
    assert charged == pytest.approx(shares["requests"])
    return result["requests"], shares


def stuck(samples: Sequence[tuple[int, float]], low: int, high: int) -> list[tuple[int, float]]:
    """As a counter shows it that stands still between two seconds."""
    held = next(joules for t, joules in samples if t == low * S)
    return [(t, held if low * S < t < high * S else joules) for t, joules in samples]


# Nothing is missing.


@pytest.mark.parametrize("source", SOURCES)
def test_where_every_reading_is_there_nothing_is_modelled(source: str) -> None:
    runs = every_second(30)
    requests, shares = run(runs, readings(runs, 30 * S, idle=IDLE), source)
    assert {one["method"] for one in requests.values()} == {"measured"}
    assert "modelled_joules" not in shares
    assert shares["measured_joules"] == pytest.approx(30 * (IDLE + 15.0))


def light_and_heavy(idle: float) -> tuple[list[Run], list[tuple[int, float]]]:
    """Requests of 60 W, and in other intervals some of next to nothing, over idle power that wavers by 1 W."""
    heavy = [Run(f"h{at}", "heavy", at * S + 100 * MS, at * S + 400 * MS, 60.0) for at in range(60)]
    light = [Run(f"l{at}", "light", at * S + 500 * MS, at * S + 900 * MS, 0.2) for at in range(60)]
    full = readings([*heavy, *light], 60 * S, idle=idle)
    wavers = np.concatenate([[0.0], np.cumsum(np.random.default_rng(1).normal(0.0, 0.1, len(full) - 1))])
    return [*heavy, *light], [(t, joules + float(more)) for (t, joules), more in zip(full, wavers, strict=True)]


def test_a_request_that_draws_next_to_nothing_is_measured_where_idle_power_wavers() -> None:
    runs, samples = light_and_heavy(IDLE)
    requests, shares = run(runs, samples)
    assert {one["method"] for one in requests.values()} == {"measured"}
    assert shares["measured_joules"] == pytest.approx(samples[-1][1])


def test_a_working_counter_is_believed_where_the_table_of_idle_power_is_wrong() -> None:
    runs, samples = light_and_heavy(0.4 * IDLE)
    requests, shares = run(runs, samples)
    assert {one["method"] for one in requests.values()} == {"measured"}
    assert shares["measured_joules"] == pytest.approx(samples[-1][1])


# Lost.


@pytest.mark.parametrize("source", SOURCES)
def test_a_request_after_a_sensor_was_lost_is_charged_what_its_kind_drew(source: str) -> None:
    runs = every_second(30)
    requests, shares = run(runs, readings(runs, 25 * S, idle=IDLE), source, [(25 * S, "lost")])
    for at in range(25, 30):
        assert requests[f"r{at}"]["method"] == "modelled"
        assert requests[f"r{at}"]["active_joules"] == pytest.approx(15.0, rel=0.01)
        assert requests[f"r{at}"]["uncertainty_joules"] > 1.5, "and it is far less certain than a measured one"
    assert shares["modelled_joules"] == pytest.approx(5 * 15.0, rel=0.01)
    # What was read, and what nobody read.
    assert shares["measured_joules"] == pytest.approx(25 * 25.0 + shares["modelled_joules"])


def test_each_kind_is_charged_what_it_drew_itself() -> None:
    light = every_second(30, watts=20.0)
    heavy = [Run(f"h{at}", "heavy", at * S + 750 * MS, at * S + 950 * MS, 90.0) for at in range(30)]
    runs = [*light, *heavy]
    requests, _ = run(runs, readings(runs, 25 * S, idle=IDLE))
    # 20 W x 0.5 s and 90 W x 0.2 s.
    assert requests["r27"]["active_joules"] == pytest.approx(10.0, rel=0.02)
    assert requests["h27"]["active_joules"] == pytest.approx(18.0, rel=0.02)


def test_a_kind_that_was_never_settled_is_charged_the_mean_of_all() -> None:
    runs = every_second(30)
    new = Run("new", "new", 27 * S, 28 * S, 30.0)
    requests, _ = run([*runs, new], readings(runs, 25 * S, idle=IDLE))
    assert (requests["new"]["method"], requests["new"]["active_joules"]) == (
        "modelled",
        pytest.approx(30.0, rel=0.02),
    )


def test_a_request_that_a_sensor_saw_the_begin_of_is_mixed() -> None:
    runs = [*every_second(20), Run("last", "m", 20 * S - 200 * MS, 20 * S + 600 * MS, WATTS)]
    requests, shares = run(runs, readings(runs, 20 * S, idle=IDLE))
    # 0.2 s were read, 0.6 s are modelled at 30 W.
    assert requests["last"]["method"] == "mixed"
    assert requests["last"]["active_joules"] == pytest.approx(24.0, rel=0.02)
    assert shares["modelled_joules"] == pytest.approx(18.0, rel=0.02)


def test_a_component_that_is_still_read_stays_measured() -> None:
    runs = every_second(30)
    dram = [[t, t / S * 4.0] for t in range(0, 31 * S, 100 * MS)]
    other = {"id": "dram0", "component": "dram", "idle_watts": 0.0, "samples": dram}
    requests, shares = run(runs, readings(runs, 25 * S, idle=IDLE), sensors=[other])
    one = requests["r27"]
    assert one["method"] == "mixed"
    # 15 J of the processor by its kind, and what memory drew while it ran.
    assert one["sensors"]["d0"]["active"] == pytest.approx(15.0, rel=0.02)
    assert one["sensors"]["dram0"]["active"] == pytest.approx(2.0, rel=0.02)
    assert shares["modelled_joules"] == pytest.approx(75.0, rel=0.02)


@pytest.mark.parametrize("source", SOURCES)
def test_before_ten_requests_were_settled_nothing_is_known_and_it_is_no_zero(source: str) -> None:
    runs = every_second(12)
    requests, shares = run(runs, readings(runs, 9 * S, idle=IDLE), source)
    assert [requests[f"r{at}"]["method"] for at in (8, 9, 11)] == ["measured", "unsettled", "unsettled"]
    assert requests["r11"]["sensors"] == {}
    assert "modelled_joules" not in shares


# Reset.


RESETS = pytest.mark.parametrize("events", [[(20 * S + 500 * MS, "reset")], []], ids=["announced", "silent"])


def restarted(shown: float) -> tuple[list[Run], list[tuple[int, float]]]:
    """One reading a second of a counter that restarts within second 20, of whose 25 J it shows a part."""
    runs = every_second(30)
    full = readings(runs, 30 * S, idle=IDLE, step_ns=S)
    return runs, [(t, joules if t <= 20 * S else joules - full[21][1] + shown) for t, joules in full]


@RESETS
@pytest.mark.parametrize("source", ["cpu", "kernels"])
def test_what_a_restarted_counter_did_not_tell_is_charged_by_kind(source: str, events: list[Any]) -> None:
    requests, shares = run(*restarted(15.0), source, events)
    # Three fifths were told: two fifths of 15 J are modelled.
    assert requests["r20"]["method"] == "mixed"
    assert shares["modelled_joules"] == pytest.approx(6.0, rel=0.02)
    assert requests["r21"]["method"] == "measured"
    assert shares["measured_joules"] == pytest.approx(29 * 25.0 + 15.0 + shares["modelled_joules"])


# Idle power is set aside only for the part of the interval that the counter told.
@RESETS
def test_told_and_modelled_joules_of_a_request_across_a_restart_are_about_what_it_drew(events: list[Any]) -> None:
    requests, _ = run(*restarted(15.0), "cpu", events)
    # Of the 15 J shown 6 are idle power and 9 its own; 6 more are modelled.
    assert requests["r20"]["active_joules"] == pytest.approx(15.0, rel=0.05)


@RESETS
def test_a_restarted_counter_that_shows_next_to_nothing_leaves_no_request_without_joules(events: list[Any]) -> None:
    requests, _ = run(*restarted(0.0), "cpu", events)
    assert (requests["r20"]["method"], requests["r20"]["active_joules"]) == (
        "modelled",
        pytest.approx(15.0, rel=0.02),
    )


# Stuck.


@pytest.mark.parametrize("source", ["cpu", "kernels"])
def test_a_counter_that_stands_still_under_load_tells_nothing(source: str) -> None:
    runs = every_second(30)
    requests, shares = run(runs, stuck(readings(runs, 30 * S, idle=IDLE), 20, 31), source)
    for at in range(20, 29):
        assert requests[f"r{at}"]["method"] == "modelled"
        assert requests[f"r{at}"]["active_joules"] == pytest.approx(15.0, rel=0.02)
    assert shares["measured_joules"] == pytest.approx(20 * 25.0 + shares["modelled_joules"])


# Where weights are not trusted (steady power, several meters) what a kind draws in flight is known.
def test_a_counter_that_stands_still_while_only_flight_is_known_tells_nothing_either() -> None:
    runs = every_second(30)
    requests, _ = run(runs, stuck(readings(runs, 30 * S, idle=IDLE), 20, 31), "flight")
    assert {requests[f"r{at}"]["method"] for at in range(20, 29)} == {"modelled"}


# A counter that has never moved at all is `measured`:
# test_a_counter_that_stands_still_is_taken_at_its_word_after_a_while.
@pytest.mark.parametrize("source", SOURCES)
def test_a_counter_that_stands_still_before_anything_is_learned_makes_no_zero_that_pretends(source: str) -> None:
    runs = every_second(10)
    requests, _ = run(runs, stuck(readings(runs, 10 * S, idle=IDLE), 1, 11), source)
    assert {requests[f"r{at}"]["method"] for at in range(2, 9)} == {"unsettled"}


@pytest.mark.parametrize("watts", [30.0, 45.0, 90.0])
@pytest.mark.parametrize("source", ["cpu", "kernels"])
def test_what_a_stuck_counter_shows_later_is_counted_once(source: str, watts: float) -> None:
    # The requests in the gap draw as much as was learned, or more.
    runs = [one._replace(watts=watts) if one.start_ns // S in (20, 21, 22) else one for one in every_second(30)]
    full = readings(runs, 30 * S, idle=IDLE)
    requests, shares = run(runs, stuck(full, 20, 23), source)
    assert shares["measured_joules"] == pytest.approx(full[-1][1])
    assert shares["idle"] == pytest.approx(30 * IDLE), "and idle power of the gap is idle"
    assert min(one["active_joules"] for one in requests.values()) > 0.0
    assert all(requests[f"r{at}"]["active_joules"] == pytest.approx(15.0, rel=0.01) for at in (19, 25))


def test_what_a_stuck_counter_never_shows_stays_modelled() -> None:
    runs = every_second(30)
    full = readings(runs, 30 * S, idle=IDLE)
    # It goes on from where it stood: the 75 J of three seconds were never counted.
    samples = [(t, joules if t < 23 * S else joules - 75.0) for t, joules in stuck(full, 20, 23)]
    _, shares = run(runs, samples)
    assert shares["measured_joules"] == pytest.approx(full[-1][1] - 75.0 + shares["modelled_joules"], rel=0.01)
    assert shares["modelled_joules"] >= 15.0


def test_a_counter_that_stands_still_is_counted_among_its_faults() -> None:
    ledger = Ledger([SensorSpec(id="d0", component="gpu", idle_watts=IDLE)])
    runs = every_second(30)
    drive(ledger, [record(one, "d0") for one in runs], stuck(readings(runs, 30 * S, idle=IDLE), 20, 24), "d0")
    assert ledger.sensors["d0"].counter.faults["stuck"] >= 2


# Suspended.


@pytest.mark.parametrize("source", SOURCES)
def test_what_a_counter_gained_while_the_machine_slept_is_idle(source: str) -> None:
    runs = every_second(30)
    full = readings(runs, 30 * S, idle=IDLE)
    # The clock stands while it sleeps, the counter does not: 4000 J more, within request r20.
    samples = [(t, joules if t <= 20 * S + 400 * MS else joules + 4000.0) for t, joules in full]
    requests, shares = run(runs, samples, source, [(20 * S + 450 * MS, "suspend")])
    assert requests["r20"]["active_joules"] == pytest.approx(15.0, rel=0.15)
    assert shares["measured_joules"] == pytest.approx(full[-1][1] + 4000.0)
    assert shares["idle"] == pytest.approx(30 * IDLE + 4000.0, rel=0.001)
    assert "modelled_joules" not in shares


def test_a_sleep_that_nobody_told_of_is_no_load() -> None:
    runs = every_second(30)
    full = readings(runs, 30 * S, idle=IDLE)
    samples = [(t, joules if t <= 20 * S + 400 * MS else joules + 4000.0) for t, joules in full]
    requests, shares = run(runs, samples)
    assert requests["r20"]["active_joules"] == pytest.approx(15.0, rel=0.1)
    assert shares["idle"] == pytest.approx(30 * IDLE + 4000.0, rel=0.001)


# As it happens: requests are settled when they are overdue, and the sensor comes back.


def streamed(source: str, low: int, high: int, watts: float = WATTS) -> tuple[dict[str, Any], Shares, float]:
    """No reading between two seconds, in which requests draw ``watts``; settled 2 s after their end at the latest.

    Returns:
        Settlements, shares, and what the counter grew.
    """
    component = "cpu" if source == "cpu" else "gpu"
    ledger = Ledger([SensorSpec(id="d0", component=component, idle_watts=IDLE)])  # type: ignore[arg-type]
    shares = ledger.sensors["d0"].shares
    runs = [one._replace(watts=watts) if low <= one.start_ns // S < high else one for one in every_second(40)]
    device = "d0" if source == "kernels" else ""
    coming = [record(one, device, cpu_ns=S // 2) for one in reversed(runs)]
    settled = {}
    full = readings(runs, 40 * S, idle=IDLE)
    for t, joules in full:
        while coming and coming[-1].start_ns < t:
            ledger.record(coming.pop())
        if not low * S < t < high * S:
            ledger.sample("d0", t, joules)
        settled.update({one.id: one for one in ledger.advance(t, overdue_ns=t - 2 * S)})
        parts = shares.requests + shares.process + shares.host + shares.idle + shares.pending
        assert parts == pytest.approx(shares.measured)
    return settled, shares, full[-1][1]


@pytest.mark.parametrize("source", SOURCES)
def test_an_overdue_request_of_a_lost_sensor_is_modelled(source: str) -> None:
    settled, shares, _ = streamed(source, 20, 99)
    for at in range(20, 37):
        assert settled[f"r{at}"].method == "modelled"
        assert settled[f"r{at}"].active_joules == pytest.approx(15.0, rel=0.01)
        assert settled[f"r{at}"].components.keys() == {"cpu" if source == "cpu" else "gpu"}
    assert shares.modelled == pytest.approx(sum(settled[f"r{at}"].active_joules for at in range(20, len(settled))))


@pytest.mark.parametrize("watts", [30.0, 60.0])
@pytest.mark.parametrize("source", ["cpu", "kernels", "flight"])
def test_a_counter_that_comes_back_is_counted_once(source: str, watts: float) -> None:
    settled, shares, grown = streamed(source, 20, 26, watts)
    assert settled["r20"].method == "modelled"
    assert shares.measured == pytest.approx(grown)


@pytest.mark.parametrize("source", ["cpu", "kernels"])
def test_requests_in_flight_when_it_comes_back_do_not_pay_for_those_before(source: str) -> None:
    settled, _, _ = streamed(source, 20, 26)
    assert [settled[f"r{at}"].active_joules for at in (25, 26, 30)] == pytest.approx([15.0] * 3, rel=0.02)


def test_a_gap_shorter_than_a_request_is_overdue_costs_nothing() -> None:
    settled, shares, grown = streamed("cpu", 20, 22)
    assert {one.method for one in settled.values()} == {"measured"}
    assert (shares.measured, shares.modelled) == (pytest.approx(grown), 0.0)


def test_a_joule_that_an_odd_interval_charged_is_on_the_request_although_nothing_is_known_of_its_kind() -> None:
    # After a reset the counter shows far less than idle power: it does not tell yet, but what it tells is charged.
    result = replay(
        {
            "version": 1,
            "sensors": [
                {
                    "id": "cpu0", "component": "cpu", "method": "measured", "idle_watts": 6.0,
                    "samples": [[0, 2.0], [1_000_000, 0.0], [335_000_000, 1.0]],
                }
            ],
            "requests": [{"id": "r0", "pid": 1, "start_ns": 0, "end_ns": 2_000_000, "cpu_ns": 0}],
        }
    )  # fmt: skip
    shares = result["sensors"]["cpu0"]
    assert shares["requests"] > 0.5
    assert result["requests"]["r0"]["active_joules"] == pytest.approx(shares["requests"])

"""The replay format as the specification of the ledger: every number here was worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from ecolyzer_otel.common.errors import ReplayError
from ecolyzer_otel.ledger.replay import replay

S = 1_000_000_000
Document = dict[str, Any]


def sensor(samples: list[Any], component: str = "cpu", name: str = "d0", **more: Any) -> Document:
    return {"id": name, "component": component, "idle_watts": 0.0, "samples": samples, **more}


def request(name: str, start: float, end: float, pid: int = 1, cpu: float = 0.0, **more: Any) -> Document:
    return {
        "id": name,
        "pid": pid,
        "start_ns": round(start * S),
        "end_ns": round(end * S),
        "cpu_ns": round(cpu * S),
        **more,
    }


def line(seconds: float, over: float = 1.0) -> list[list[float]]:
    """A cumulative quantity that grows by ``seconds`` in the first ``over`` seconds."""
    return [[0, 0.0], [round(over * S), seconds]]


def run(sensors: list[Document], requests: list[Document] = (), activity: Any = None, **more: Any) -> Document:  # type: ignore[assignment]
    document = {"version": 1, "sensors": sensors, "requests": list(requests), **more}
    if activity is not None:
        document["activity"] = activity
    return replay(document)


def active(result: Document, name: str) -> float:
    return result["requests"][name]["active_joules"]


def idle(result: Document, name: str) -> float:
    return result["requests"][name]["idle_joules"]


def shares(result: Document, name: str = "d0") -> dict[str, float]:
    return {key: value for key, value in result["sensors"][name].items() if value}


# CPU.


def test_the_cpu_is_split_by_cpu_time_of_threads_pools_processes_and_host() -> None:
    result = run(
        [sensor([[0, 0.0], [S, 110.0]], idle_watts=10.0)],
        [request("a", 0, 1, cpu=0.3), request("b", 0, 0.5, cpu=0.1)],
        {"host_cpu": line(2.0), "processes": {"1": {"cpu": line(1.5), "pool": line(0.6)}}},
    )
    # 100 active joules over 2 CPU seconds. The 0.6 s of the pool go 2:1 by overlap: a 0.3 + 0.4, b 0.1 + 0.2.
    assert active(result, "a") == pytest.approx(35.0)
    assert active(result, "b") == pytest.approx(15.0)
    assert shares(result) == pytest.approx(
        {"measured_joules": 110.0, "requests": 50.0, "process": 25.0, "host": 25.0, "idle": 10.0}
    )


def test_pool_threads_work_only_for_requests_of_their_own_process() -> None:
    result = run(
        [sensor([[0, 0.0], [S, 100.0]])],
        [request("a", 0, 1, pid=1, cpu=0.2), request("b", 0, 1, pid=2, cpu=0.2)],
        {"host_cpu": line(1.0), "processes": {"1": {"pool": line(0.6), "cpu": line(0.8)}}},
    )
    assert (active(result, "a"), active(result, "b")) == pytest.approx((80.0, 20.0))


def test_a_request_is_charged_in_each_interval_by_the_cpu_time_it_spent_there() -> None:
    result = run(
        [sensor([[0, 0.0], [S, 10.0], [2 * S, 40.0]])],
        [request("a", 0.5, 2, cpu=1.5)],
        {"host_cpu": [[0, 0.0], [S, 1.0], [2 * S, 3.0]]},
    )
    # Second 1: 0.5 of 1 CPU second of 10 J; second 2: 1 of 2 of 30 J.
    assert active(result, "a") == pytest.approx(5.0 + 15.0)


@pytest.mark.parametrize("host", [{"host_cpu": line(2.0)}, {}], ids=["host-known", "host-unknown"])
def test_a_process_that_owns_no_request_is_host(host: Document) -> None:
    result = run(
        [sensor([[0, 0.0], [S, 100.0]])],
        [request("a", 0, 1, pid=1, cpu=0.5)],
        {**host, "processes": {"1": {"cpu": line(1.0)}, "2": {"cpu": line(1.0)}}},
    )
    assert shares(result) == pytest.approx(
        {"measured_joules": 100.0, "requests": 25.0, "process": 25.0, "host": 50.0}
    )


def test_a_process_between_its_requests_is_process_share() -> None:
    result = run(
        [sensor([[0, 0.0], [S, 50.0], [2 * S, 100.0]])],
        [request("a", 0, 1, cpu=1.0)],
        {"host_cpu": line(2.0, over=2), "processes": {"1": {"cpu": line(2.0, over=2)}}},
    )
    assert shares(result) == pytest.approx({"measured_joules": 100.0, "requests": 50.0, "process": 50.0})


def test_dram_follows_the_cpu_time_too() -> None:
    result = run([sensor([[0, 0.0], [S, 8.0]], "dram")], [request("a", 0, 1, cpu=0.25)], {"host_cpu": line(1.0)})
    assert active(result, "a") == pytest.approx(2.0)


# Idle.


def test_idle_power_is_divided_equally_among_those_in_flight_at_each_instant() -> None:
    result = run(
        [sensor([[0, 0.0], [S, 12.0]], idle_watts=12.0)],
        [request("a", 0, 0.75), request("b", 0.25, 0.5), request("c", 0.25, 0.75)],
    )
    # [0, 0.25] a alone 3 J; [0.25, 0.5] three of them 1 J each; [0.5, 0.75] a and c 1.5 J each; then nobody.
    assert idle(result, "a") == pytest.approx(5.5)
    assert idle(result, "b") == pytest.approx(1.0)
    assert idle(result, "c") == pytest.approx(2.5)
    assert shares(result) == {"measured_joules": 12.0, "idle": 12.0}


def test_idle_is_never_more_than_was_measured() -> None:
    result = run([sensor([[0, 0.0], [S, 4.0]], idle_watts=60.0)], [request("a", 0, 1)])
    assert (idle(result, "a"), active(result, "a")) == (4.0, 0.0)


def test_unknown_idle_power_is_learned_from_an_interval_without_requests() -> None:
    result = run([sensor([[0, 0.0], [S, 10.0], [2 * S, 40.0]], idle_watts=None)], [request("a", 1, 2, cpu=1.0)])
    assert (active(result, "a"), idle(result, "a")) == pytest.approx((20.0, 10.0))
    assert shares(result) == pytest.approx({"measured_joules": 40.0, "requests": 20.0, "idle": 20.0})


def test_steady_load_is_not_taken_for_idle() -> None:
    result = run([sensor([[0, 0.0], [S, 30.0], [2 * S, 60.0]], idle_watts=None)], [request("a", 0, 2, cpu=2.0)])
    assert (active(result, "a"), idle(result, "a")) == pytest.approx((60.0, 0.0))


# GPU.

BUSY = {"a": {"gpu0": [[0, 3 * S // 10]]}, "b": {"gpu0": [[2 * S // 10, 4 * S // 10]]}}


def gpu(samples: list[Any] | None = None, idle_watts: float = 50.0) -> Document:
    return sensor(samples or [[0, 0.0], [S, 250.0]], "gpu", "gpu0", idle_watts=idle_watts)


def test_the_gpu_is_split_by_busy_time_of_kernels() -> None:
    result = run(
        [gpu()],
        [request("a", 0, 1, device_busy_ns=BUSY["a"]), request("b", 0, 1, device_busy_ns=BUSY["b"])],
        {"devices": {"gpu0": line(1.0)}, "processes": {"1": {"gpu0": line(0.6)}}},
    )
    # 200 active joules over 1 busy second. Kernels: 0.3 s and 0.2 s, together 0.4 s of the 0.6 s of their process.
    assert active(result, "a") == pytest.approx(200 * 0.4 * 3 / 5)
    assert active(result, "b") == pytest.approx(200 * 0.4 * 2 / 5)
    assert shares(result, "gpu0") == pytest.approx(
        {"measured_joules": 250.0, "requests": 80.0, "process": 40.0, "host": 80.0, "idle": 50.0}
    )


@pytest.mark.parametrize("device", [{"devices": {"gpu0": line(1.0)}}, {}], ids=["device-known", "device-unknown"])
def test_kernels_of_a_process_that_owns_no_request_are_host(device: Document) -> None:
    result = run(
        [gpu(idle_watts=0.0)],
        [request("a", 0, 1, device_busy_ns={"gpu0": [[0, S // 2]]})],
        {**device, "processes": {"2": {"gpu0": line(0.5)}}},
    )
    assert shares(result, "gpu0") == pytest.approx({"measured_joules": 250.0, "requests": 125.0, "host": 125.0})


def test_kernels_of_two_processes_that_overlap_share_the_device() -> None:
    result = run(
        [gpu(idle_watts=0.0)],
        [request("a", 0, 1, device_busy_ns={"gpu0": [[0, S]]})],
        {"devices": {"gpu0": line(1.0)}, "processes": {"2": {"gpu0": line(1.0)}}},
    )
    assert shares(result, "gpu0") == pytest.approx({"measured_joules": 250.0, "requests": 125.0, "host": 125.0})


@pytest.mark.parametrize(
    "activity",
    [{"devices": {"gpu0": line(0.5)}}, {"processes": {"2": {"gpu0": line(0.5)}}}],
    ids=["by-device", "by-process"],
)
def test_a_request_without_kernels_gets_nothing_of_a_device_whose_activity_is_known(activity: Document) -> None:
    result = run([gpu()], [request("a", 0, 1, cpu=1.0)], activity)
    assert result["requests"]["a"]["sensors"] == {}
    assert shares(result, "gpu0") == pytest.approx({"measured_joules": 250.0, "host": 200.0, "idle": 50.0})


def test_kernels_that_one_request_tells_of_make_the_device_known_for_the_others() -> None:
    result = run([gpu()], [request("a", 0, 1, device_busy_ns={"gpu0": [[0, S // 2]]}), request("b", 0, 1, cpu=0.5)])
    assert result["requests"]["b"]["sensors"] == {}
    assert result["requests"]["a"]["sensors"] == {"gpu0": {"active": pytest.approx(200.0), "idle": 50.0}}


def test_a_request_on_a_gpu_is_charged_for_its_cpu_time_as_well() -> None:
    result = run(
        [gpu(), sensor([[0, 0.0], [S, 40.0]])],
        [request("a", 0, 1, cpu=0.5, device_busy_ns={"gpu0": [[0, S]]})],
        {"host_cpu": line(2.0)},
    )
    assert result["requests"]["a"]["sensors"] == {
        "gpu0": {"active": pytest.approx(200.0), "idle": pytest.approx(50.0)},
        "d0": {"active": pytest.approx(10.0), "idle": 0.0},
    }
    assert active(result, "a") == pytest.approx(210.0)


# Nothing known.


@pytest.mark.parametrize("component", ["cpu", "dram", "gpu"])
def test_without_any_activity_the_overlapping_requests_share_by_overlap(component: str) -> None:
    result = run(
        [sensor([[0, 0.0], [S, 90.0]], component)],
        [request("a", 0, 0.5), request("b", 0.75, 1), request("c", 2, 3)],
    )
    assert (active(result, "a"), active(result, "b"), active(result, "c")) == pytest.approx((60.0, 30.0, 0.0))


@pytest.mark.parametrize("component", ["cpu", "dram", "gpu"])
def test_without_any_activity_and_any_request_it_was_the_host(component: str) -> None:
    result = run([sensor([[0, 0.0], [S, 90.0]], component, idle_watts=10.0)])
    assert shares(result) == {"measured_joules": 90.0, "host": 80.0, "idle": 10.0}


def test_a_request_outside_every_interval_is_unsettled() -> None:
    result = run([sensor([[0, 0.0], [S, 90.0]])], [request("early", -1, 0), request("late", 1, 2)])
    for name in ("early", "late"):
        assert result["requests"][name]["method"] == "unsettled"
        assert result["requests"][name]["sensors"] == {}


def test_without_sensors_nothing_is_known() -> None:
    result = run([], [request("a", 0, 1, cpu=1.0)])
    assert result["requests"]["a"]["method"] == "unsettled"
    assert result["sensors"] == {}


# Methods.


@pytest.mark.parametrize(
    ("methods", "overall"),
    [
        (("measured", "measured"), "measured"),
        (("modelled", "modelled"), "modelled"),
        (("measured", "modelled"), "mixed"),
    ],
)
def test_the_method_of_a_request_is_that_of_its_components(methods: tuple[str, str], overall: str) -> None:
    both = [
        sensor([[0, 0.0], [S, 5.0]], component, component, method=method)
        for component, method in zip(("cpu", "dram"), methods, strict=True)
    ]
    assert run(both, [request("a", 0, 1)])["requests"]["a"]["method"] == overall


def test_an_uncertain_sensor_makes_an_uncertain_request() -> None:
    def uncertainty(method: str, **more: float) -> float:
        result = run([sensor([[0, 0.0], [S, 100.0]], method=method, **more)], [request("a", 0, 1)])
        return result["requests"]["a"]["uncertainty_joules"]

    # One request alone: only the gain is uncertain, 0.1 % measured and 20 % modelled if the file tells none.
    assert (uncertainty("measured"), uncertainty("modelled")) == pytest.approx((0.1, 20.0))
    assert uncertainty("measured", relative_uncertainty=0.03) == pytest.approx(3.0)


# Counters.


def test_repeated_readings_are_one_interval() -> None:
    samples = [[0, 0.0], [S // 4, 0.0], [S // 2, 0.0], [S, 100.0]]
    result = run([sensor(samples)], [request("a", 0, 0.25), request("b", 0.5, 1)])
    # One interval of 1 s: shared by overlap, 0.25 s to 0.5 s.
    assert (active(result, "a"), active(result, "b")) == pytest.approx((100 / 3, 200 / 3))


def test_a_counter_that_stands_still_is_taken_at_its_word_after_a_while() -> None:
    samples = [[0, 5.0], [S, 5.0], [2 * S, 5.0], [3 * S, 8.0]]
    result = run([sensor(samples)], [request("a", 0, 1), request("b", 2, 3)])
    assert (active(result, "a"), active(result, "b")) == (0.0, 3.0)
    assert result["requests"]["a"]["method"] == "measured"


def test_a_wrapped_counter_goes_on() -> None:
    result = run([sensor([[0, 990.0], [S, 10.0], [2 * S, 25.0]], wrap_joules=1000.0)], [request("a", 0, 1)])
    assert result["sensors"]["d0"]["measured_joules"] == 35.0
    assert active(result, "a") == 20.0


def test_after_an_announced_reset_the_counter_begins_at_zero() -> None:
    result = run(
        [sensor([[0, 990.0], [S, 10.0], [2 * S, 25.0]], wrap_joules=2000.0)],
        events=[{"t_ns": S, "kind": "reset", "sensor": "d0"}],
    )
    assert result["sensors"]["d0"]["measured_joules"] == 10.0 + 15.0


def test_a_suspended_machine_may_restart_every_counter() -> None:
    both = [sensor([[0, 990.0], [S, 10.0]], name=name, wrap_joules=2000.0) for name in ("d0", "d1")]
    result = run(both, events=[{"t_ns": S // 2, "kind": "suspend"}])
    assert [result["sensors"][name]["measured_joules"] for name in ("d0", "d1")] == [10.0, 10.0]


@pytest.mark.parametrize(
    ("samples", "measured"),
    [
        # 10 W, then it shows 5 J after a second: it restarted, and these were drawn since.
        ([[0, 500.0], [S, 510.0], [2 * S, 5.0], [3 * S, 15.0]], 10 + 5 + 10),
        # It fell by a tenth of a joule: nobody drew 509.9 J in that second.
        ([[0, 500.0], [S, 510.0], [2 * S, 509.9], [3 * S, 519.9]], 10 + 0 + 10),
        # It fell at once: nothing is known of its power.
        ([[0, 500.0], [S, 400.0], [2 * S, 410.0]], 0 + 10),
    ],
    ids=["restarted", "stepped-back", "unknown"],
)
def test_a_step_backwards_yields_no_absurd_joules(samples: list[Any], measured: float) -> None:
    assert run([sensor(samples)])["sensors"]["d0"]["measured_joules"] == pytest.approx(measured)


def test_a_fall_that_no_wrap_explains_is_not_unwrapped() -> None:
    # Unwrapped it would be 262 kW over one second.
    result = run([sensor([[0, 1000.0], [S, 1010.0], [2 * S, 5.0]], wrap_joules=263_000.0)])
    assert result["sensors"]["d0"]["measured_joules"] == 15.0


def test_an_absurd_jump_counts_nothing() -> None:
    result = run([sensor([[0, 0.0], [S, 1e9], [2 * S, 1e9 + 50]])], [request("a", 0, 2)])
    assert result["sensors"]["d0"]["measured_joules"] == 50.0
    assert active(result, "a") == 50.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0], ids=str)
def test_a_reading_that_is_no_energy_is_left_out(bad: float) -> None:
    result = run([sensor([[0, 0.0], [S // 2, bad], [S, 40.0]])], [request("a", 0, 1)])
    assert active(result, "a") == 40.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")], ids=str)
def test_activity_that_is_no_time_is_left_out(bad: float) -> None:
    result = run(
        [sensor([[0, 0.0], [S, 40.0]])],
        [request("a", 0, 1, cpu=0.5)],
        {"host_cpu": [[0, 0.0], [S // 2, bad], [S, 1.0]]},
    )
    assert active(result, "a") == pytest.approx(20.0)


def test_samples_out_of_order_neither_add_nor_take() -> None:
    result = run([sensor([[0, 0.0], [2 * S, 20.0], [S, 10.0], [3 * S, 30.0]])])
    assert result["sensors"]["d0"]["measured_joules"] == 30.0


def test_a_second_reading_of_one_instant_is_left_out() -> None:
    result = run([sensor([[0, 0.0], [S, 10.0], [S, 12.0], [2 * S, 20.0]])])
    assert result["sensors"]["d0"]["measured_joules"] == 20.0


def test_a_lost_sensor_that_comes_back_closes_the_gap() -> None:
    result = run(
        [sensor([[0, 0.0], [S, 10.0], [9 * S, 90.0]])],
        [request("a", 0, 1), request("b", 5, 6)],
        events=[{"t_ns": 2 * S, "kind": "lost", "sensor": "d0"}],
    )
    assert (active(result, "a"), active(result, "b")) == pytest.approx((10.0, 80.0))


def test_a_sensor_lost_for_good_does_not_hold_the_others_up() -> None:
    result = run(
        [sensor([[0, 0.0], [S, 10.0]], "dram", "lost"), sensor([[0, 0.0], [S, 10.0], [5 * S, 90.0]])],
        [request("a", 3, 4)],
    )
    assert result["requests"]["a"]["sensors"] == {"d0": {"active": 80.0, "idle": 0.0}}


# The document.


def test_unknown_keys_are_ignored() -> None:
    plain = {
        "version": 1,
        "sensors": [sensor([[0, 0.0], [S, 10.0]])],
        "activity": {"host_cpu": line(1.0), "devices": {}, "processes": {"1": {"cpu": line(1.0)}}},
        "events": [{"t_ns": S, "kind": "lost", "sensor": "d0"}],
        "requests": [request("a", 0, 1, cpu=0.5)],
    }
    decorated = {
        **plain,
        "comment": "x",
        "sensors": [{**plain["sensors"][0], "vendor": {"x": 1}}],
        "activity": {
            **plain["activity"],
            "network": [1],
            "processes": {"1": {"cpu": line(1.0), "name": "serve.py", "disk": [[0, 1.0]]}},
        },
        "events": [{**plain["events"][0], "why": "cable"}],
        "requests": [{**plain["requests"][0], "model": "m", "phase": "p", "items": 3, "tag": None}],
    }
    assert replay(decorated) == replay(plain)
    assert active(replay(plain), "a") == pytest.approx(5.0)


def test_every_part_of_activity_and_device_busy_may_be_null() -> None:
    result = run(
        [sensor([[0, 0.0], [S, 10.0]])],
        [request("a", 0, 1, device_busy_ns=None)],
        {"host_cpu": None, "devices": None, "processes": None},
        events=None,
    )
    assert active(result, "a") == 10.0


GOOD_SENSOR = sensor([[0, 0.0], [S, 1.0]])
GOOD_REQUEST = request("a", 0, 1)


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ([], "object"),
        ({"sensors": []}, "version"),
        ({"version": 2, "sensors": []}, "version"),
        ({"version": 1}, "sensors"),
        ({"version": 1, "sensors": {}}, "sensors"),
        ({"version": 1, "sensors": [3]}, "sensors[0]"),
        ({"version": 1, "sensors": [{**GOOD_SENSOR, "id": ""}]}, "sensors[0].id"),
        ({"version": 1, "sensors": [{**GOOD_SENSOR, "component": "tpu"}]}, "sensors[0].component"),
        ({"version": 1, "sensors": [{**GOOD_SENSOR, "component": ["cpu"]}]}, "sensors[0].component"),
        ({"version": 1, "sensors": [{**GOOD_SENSOR, "method": "guessed"}]}, "sensors[0].method"),
        ({"version": 1, "sensors": [{**GOOD_SENSOR, "idle_watts": "60"}]}, "sensors[0].idle_watts"),
        ({"version": 1, "sensors": [{**GOOD_SENSOR, "idle_watts": -1}]}, "sensors[0].idle_watts"),
        ({"version": 1, "sensors": [{**GOOD_SENSOR, "wrap_joules": float("nan")}]}, "sensors[0].wrap_joules"),
        ({"version": 1, "sensors": [{**GOOD_SENSOR, "samples": None}]}, "sensors[0].samples"),
        ({"version": 1, "sensors": [{**GOOD_SENSOR, "samples": [[0]]}]}, "sensors[0].samples"),
        ({"version": 1, "sensors": [{**GOOD_SENSOR, "samples": [["0", "1"]]}]}, "sensors[0].samples"),
        ({"version": 1, "sensors": [{**GOOD_SENSOR, "samples": ["01"]}]}, "sensors[0].samples"),
        ({"version": 1, "sensors": [{**GOOD_SENSOR, "samples": {"01": 1}}]}, "sensors[0].samples"),
        ({"version": 1, "sensors": [{**GOOD_SENSOR, "samples": [[float("nan"), 1]]}]}, "sensors[0].samples"),
        ({"version": 1, "sensors": [{**GOOD_SENSOR, "samples": [[10**400, 1]]}]}, "sensors[0].samples"),
        ({"version": 1, "sensors": [GOOD_SENSOR, GOOD_SENSOR]}, "sensors"),
        ({"version": 1, "sensors": [], "activity": []}, "activity"),
        ({"version": 1, "sensors": [], "activity": {"host_cpu": 3}}, "activity.host_cpu"),
        ({"version": 1, "sensors": [], "activity": {"host_cpu": [[0, None]]}}, "activity.host_cpu"),
        ({"version": 1, "sensors": [], "activity": {"devices": {"g": 3}}}, "activity.devices.g"),
        ({"version": 1, "sensors": [], "activity": {"processes": {"x": {}}}}, "activity.processes.x"),
        ({"version": 1, "sensors": [], "activity": {"processes": {"1": 3}}}, "activity.processes.1"),
        ({"version": 1, "sensors": [], "activity": {"processes": {"1": {"cpu": [3]}}}}, "activity.processes.1.cpu"),
        ({"version": 1, "sensors": [], "events": [3]}, "events[0]"),
        ({"version": 1, "sensors": [], "events": [{"t_ns": 0, "kind": "bang"}]}, "events[0].kind"),
        ({"version": 1, "sensors": [], "events": [{"t_ns": 0, "kind": "lost", "sensor": "x"}]}, "events[0].sensor"),
        ({"version": 1, "sensors": [], "events": [{"t_ns": 0, "kind": "lost", "sensor": []}]}, "events[0].sensor"),
        ({"version": 1, "sensors": [GOOD_SENSOR], "events": [{"kind": "lost"}]}, "events[0].t_ns"),
        ({"version": 1, "sensors": [], "requests": {}}, "requests"),
        ({"version": 1, "sensors": [], "requests": [3]}, "requests[0]"),
        ({"version": 1, "sensors": [], "requests": [{**GOOD_REQUEST, "id": 7}]}, "requests[0].id"),
        ({"version": 1, "sensors": [], "requests": [GOOD_REQUEST, GOOD_REQUEST]}, "requests[1].id"),
        ({"version": 1, "sensors": [], "requests": [{**GOOD_REQUEST, "pid": None}]}, "requests[0].pid"),
        ({"version": 1, "sensors": [], "requests": [{**GOOD_REQUEST, "start_ns": True}]}, "requests[0].start_ns"),
        ({"version": 1, "sensors": [], "requests": [{**GOOD_REQUEST, "end_ns": -1}]}, "requests[0].end_ns"),
        ({"version": 1, "sensors": [], "requests": [{**GOOD_REQUEST, "end_ns": 10**400}]}, "requests[0].end_ns"),
        ({"version": 1, "sensors": [], "requests": [{**GOOD_REQUEST, "cpu_ns": "1"}]}, "requests[0].cpu_ns"),
        (
            {"version": 1, "sensors": [], "requests": [{**GOOD_REQUEST, "device_busy_ns": [1]}]},
            "requests[0].device_busy_ns",
        ),
        (
            {"version": 1, "sensors": [], "requests": [{**GOOD_REQUEST, "device_busy_ns": {"gpu0": ["12"]}}]},
            "requests[0].device_busy_ns.gpu0",
        ),
    ],
)  # fmt: skip
def test_a_bad_document_gives_one_error_that_names_the_key(document: Any, key: str) -> None:
    with pytest.raises(ReplayError) as caught:
        replay(document)
    assert str(caught.value).startswith("the file must hold a JSON object" if key == "object" else f"{key}: ")
    assert "\n" not in str(caught.value)


def test_an_activity_that_no_clock_resolves_is_none() -> None:
    """Watts per unit of it, squared, would be more than a float holds."""
    samples = [[0, 1.0], [50_000_000, 2.0], [100_000_000, 3.0], [101_000_000, 4.0]]
    request = {"id": "r0", "pid": 1, "start_ns": 50_000_000, "end_ns": 101_000_000, "cpu_ns": 0}
    document = {
        "version": 1,
        "sensors": [{"id": "gpu0", "component": "cpu", "method": "measured", "samples": samples}],
        "activity": {"host_cpu": [[0, 0.0], [101_000_000, 1.4e-237]]},
        "requests": [request],
    }
    assert replay(document)["sensors"]["gpu0"]["measured_joules"] == pytest.approx(3.0)

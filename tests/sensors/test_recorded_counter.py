from __future__ import annotations

import json
import time

import pytest

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.sensors import SensorError
from ecolyzer_otel.sensors.replay import load_recording


def _sensor(**changes):
    return {
        "id": "gpu0",
        "component": "gpu",
        "method": "measured",
        "idle_watts": 60.0,
        "wrap_joules": None,
        "samples": [[5_000_000_000, 100.0], [5_100_000_000, 110.0], [5_200_000_000, 130.0]],
    } | changes


@pytest.fixture
def recording(tmp_path, clock):
    def load(*sensors, **top):
        path = tmp_path / "recording.json"
        path.write_text(json.dumps({"sensors": list(sensors) or [_sensor()], **top}))
        return load_recording(path, clock)

    return load


def test_moves_at_its_recorded_times(recording, clock):
    (counter,) = recording()
    seen = []
    for step in (0, 0.099, 0.001, 0.05, 0.05):
        clock.advance(step)
        reading = counter.read()
        assert reading.t_ns == clock.ns
        seen.append(reading.joules)
    assert seen == [100.0, 100.0, 110.0, 110.0, 130.0]
    assert (counter.info.id, counter.info.idle_watts, counter.info.update_period_seconds) == ("gpu0", 60.0, 0.1)


def test_ends_after_its_last_sample(recording, clock):
    (counter,) = recording()
    clock.advance(0.2)
    assert counter.read().joules == 130.0
    clock.advance(0.001)
    with pytest.raises(SensorError) as caught:
        counter.read()
    assert caught.value.reason == "ended"


def test_a_late_reader_still_gets_the_last_joules_once(recording, clock):
    (counter,) = recording()
    counter.read()
    clock.advance(9)
    assert counter.read().joules == 130.0
    with pytest.raises(SensorError):
        counter.read()


def test_loop_carries_the_counter_on(recording, clock):
    (counter,) = recording(loop=True)
    seen = []
    for _ in range(7):
        seen.append(counter.read().joules)
        clock.advance(0.1)
    assert seen == [100.0, 110.0, 130.0, 140.0, 160.0, 170.0, 190.0]


def test_loop_of_a_counter_that_wraps(recording, clock):
    samples = [[0, 90.0], [100_000_000, 98.0], [200_000_000, 10.0]]  # grows by 8 and 12
    (counter,) = recording(_sensor(wrap_joules=100.0, samples=samples), loop=True)
    seen = []
    for _ in range(5):
        seen.append(counter.read().joules)
        clock.advance(0.1)
    assert seen == [90.0, 98.0, 10.0, 18.0, 30.0]


def test_sensors_of_one_file_stay_in_step(recording, clock):
    late = _sensor(id="package-0", component="cpu", samples=[[5_100_000_000, 1.0], [5_300_000_000, 2.0]])
    first, second = recording(_sensor(), late)
    clock.advance(0.15)
    assert (first.read().joules, second.read().joules) == (110.0, 1.0)
    clock.advance(0.15)
    assert second.read().joules == 2.0


def test_temperature(recording, clock):
    (counter,) = recording(_sensor(celsius=[[5_100_000_000, 50.0], [5_150_000_000, 61.5]]))
    seen = [counter.celsius()]
    for _ in range(3):
        clock.advance(0.1)
        seen.append(counter.celsius())
    assert seen == [None, 50.0, 61.5, 61.5]


def test_real_time(tmp_path):
    path = tmp_path / "recording.json"
    path.write_text(json.dumps({"sensors": [_sensor()]}))
    (counter,) = load_recording(path)
    assert counter.read().joules == 100.0
    time.sleep(0.25)
    assert counter.read().joules == 130.0


def test_a_whole_replay_file_can_be_played(recording):
    (counter,) = recording(version=1, activity={"host_cpu": []}, events=[], requests=[])
    assert counter.read().joules == 100.0


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"id": ""}, "sensors[0].id"),
        ({"component": "disk"}, "sensors[0].component"),
        ({"method": None}, "sensors[0].method"),
        ({"samples": []}, "sensors[0].samples"),
        ({"samples": [[0, 1.0], [0, 2.0]]}, "sensors[0].samples[1]"),
        ({"samples": [[0.5, 1.0]]}, "sensors[0].samples[0]"),
        ({"samples": [[0, float("nan")]]}, "sensors[0].samples[0]"),
        ({"samples": [[0, 10**400]]}, "sensors[0].samples[0]"),
        ({"samples": [[0, -1.0]]}, "sensors[0].samples[0]"),
        ({"wrap_joules": 0}, "sensors[0].wrap_joules"),
        ({"wrap_joules": 5.0}, "sensors[0].samples"),
        ({"idle_watts": "sixty"}, "sensors[0].idle_watts"),
        ({"celsius": 40}, "sensors[0].celsius"),
    ],
)
def test_a_bad_sensor_names_file_and_place(recording, change, place):
    with pytest.raises(ConfigError) as caught:
        recording(_sensor(**change))
    assert caught.value.key == "sensors"
    assert "recording.json" in str(caught.value)
    assert f"{place} " in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", '{"sensors": []}', '{"sensors": [3]}', "\xff\x00"])
def test_a_bad_file_is_one_config_error(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"bad\.json"):
        load_recording(path)


def test_same_id_twice_and_loop_of_nothing(recording):
    with pytest.raises(ConfigError, match="same id"):
        recording(_sensor(), _sensor())
    with pytest.raises(ConfigError, match="loop"):
        recording(_sensor(samples=[[0, 1.0]]), loop=True)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recording("/nonexistent/recording.json")

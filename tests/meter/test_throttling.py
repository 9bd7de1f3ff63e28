from __future__ import annotations

import pytest

from ecolyzer_otel.meter.throttling import Throttling

_S = 1_000_000_000
_CAP = frozenset({"power_cap"})
_NONE = frozenset[str]()


def test_seconds_by_reason_are_held_until_the_next_sample():
    throttling = Throttling()
    assert throttling.add("gpu0", 0, _CAP) == {}
    assert throttling.add("gpu0", 2 * _S, _CAP | {"hw_thermal"}) == {"power_cap": 2.0}
    assert throttling.add("gpu0", 3 * _S, _NONE) == {"power_cap": 1.0, "hw_thermal": 1.0}
    assert throttling.add("gpu0", 9 * _S, _CAP) == {}


def test_a_word_does_not_stand_for_ever():
    throttling = Throttling()
    throttling.add("gpu0", 0, _CAP)
    assert throttling.add("gpu0", 60 * _S, _CAP) == {"power_cap": 12.0}


def test_share_of_a_request():
    throttling = Throttling()
    throttling.add("gpu0", 0, _NONE)
    throttling.add("gpu0", 10 * _S, _CAP)
    throttling.add("gpu0", 20 * _S, _NONE)
    assert throttling.share(["gpu0"], 0, 10 * _S) == 0.0
    assert throttling.share(["gpu0"], 5 * _S, 15 * _S) == pytest.approx(0.5)
    assert throttling.share(["gpu0"], 12 * _S, 13 * _S) == pytest.approx(1.0)
    assert throttling.share(["gpu0"], 20 * _S, 40 * _S) == 0.0


def test_after_the_last_sample_its_word_stands():
    throttling = Throttling()
    throttling.add("gpu0", 0, _CAP)
    assert throttling.share(["gpu0"], 1 * _S, 2 * _S) == pytest.approx(1.0)
    assert throttling.share(["gpu0"], 2 * _S, 2 * _S) == 1.0  # an instant
    throttling.sensor_lost("gpu0")
    assert throttling.share(["gpu0"], 1 * _S, 2 * _S) == 0.0


def test_several_devices_give_the_largest_and_silence_is_unknown():
    throttling = Throttling()
    throttling.add("gpu0", 0, _NONE)
    throttling.add("gpu1", 0, _CAP)
    throttling.add("gpu2", 0, None)
    assert throttling.share(["gpu0", "gpu1", "gpu2"], 0, _S) == pytest.approx(1.0)
    assert throttling.share(["gpu2"], 0, _S) is None
    assert throttling.share(["gpu1"], -5 * _S, -1 * _S) is None
    assert throttling.share([], 0, _S) is None


def test_the_reasons_that_held_within_a_request():
    throttling = Throttling()
    throttling.add("gpu0", 0, _CAP)
    throttling.add("gpu0", 10 * _S, _NONE)
    throttling.add("gpu0", 20 * _S, frozenset({"thermal", "current"}))
    throttling.add("gpu1", 0, frozenset({"reliability"}))
    assert throttling.reasons(["gpu0"], 1 * _S, 2 * _S) == ["power_cap"]
    assert throttling.reasons(["gpu0"], 11 * _S, 19 * _S) == []
    assert throttling.reasons(["gpu0"], 5 * _S, 25 * _S) == ["current", "power_cap", "thermal"]
    assert throttling.reasons(["gpu0", "gpu1"], 1 * _S, 2 * _S) == ["power_cap", "reliability"]
    assert throttling.reasons(["gpu2"], 1 * _S, 2 * _S) == []

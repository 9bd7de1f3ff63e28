"""ESS: the score, the quantization presets and the trailing window."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.ess import EssWindow, effective_parameters, ess, quantization_factor


@pytest.mark.parametrize(
    ("dtype", "factor"),
    [
        ("float64", 2.0),
        ("double", 2.0),
        ("float32", 1.0),
        ("fp32", 1.0),
        ("float", 1.0),
        ("tf32", 1.0),
        ("float16", 0.5),
        ("fp16", 0.5),
        ("half", 0.5),
        ("bfloat16", 0.5),
        ("BF16", 0.5),
        ("torch.bfloat16", 0.5),
        ("tensor(float16)", 0.5),
        ("tensor(float)", 1.0),
        ("<dtype: 'float16'>", 0.5),
        ("int8", 0.25),
        ("uint8", 0.25),
        ("torch.qint8", 0.25),
        ("quint8", 0.25),
        ("float8_e4m3fn", 0.25),
        ("float8_e5m2", 0.25),
        ("fp8", 0.25),
        ("int4", 0.125),
        ("uint4", 0.125),
        ("nf4", 0.125),
        ("mxfp4", 0.125),
        ("int64", 2.0),
        (" Float16 ", 0.5),
        ("complex", 1.0),
        ("mixed", 1.0),
        ("int0", 1.0),
        ("", 1.0),
        (None, 1.0),
    ],
)
def test_quantization_factors(dtype, factor):
    assert quantization_factor(dtype, "bits") == factor
    assert quantization_factor(dtype, "paper-tool") == 1.0


@pytest.mark.parametrize("preset", ["best", "int8", "int8=0", "int8=-1", "int8=nan", "=1", "int8=0.5,float16"])
def test_what_is_no_preset_and_no_table_is_refused(preset):
    with pytest.raises(ConfigError, match=r"^quantization: .* neither a preset nor a table of factors; give paper"):
        quantization_factor("int8", preset)


def test_factors_of_ones_own():
    table = "int8=0.4, fp16 = 0.7,torch.bfloat16=0.6,*=0.9"
    dtypes = ("int8", "i8", "float16", "half", "bf16", "int4", None)
    found = {dtype: quantization_factor(dtype, table) for dtype in dtypes}
    assert list(found.values()) == [0.4, 0.4, 0.7, 0.7, 0.6, 0.9, 0.9]
    assert quantization_factor("int4", "int8=0.4") == 1.0
    assert effective_parameters(1000, "int8", table) == 400.0


def test_effective_parameters():
    assert effective_parameters(7_000_000_000, "int4", "bits") == 875e6
    assert effective_parameters(7_000_000_000, "int4", "paper-tool") == 7e9


def test_ess_by_hand():
    # 25.6 M parameters at 0.002 g: 12 800 million per gram
    assert ess(25.6e6, 0.002) == pytest.approx(12_800.0)


@pytest.mark.parametrize(
    ("parameters", "grams"),
    [
        (0.0, 1.0),
        (None, 1.0),
        (1e6, 0.0),
        (1e6, -1.0),
        (1e6, math.nan),
        (1e6, math.inf),
        (1e9, 5e-324),
        (-1.0, 1.0),
    ],
)
def test_ess_is_absent_where_it_is_undefined(parameters, grams):
    assert ess(parameters, grams) is None


@given(st.floats(1.0, 1e13), st.floats(1e-12, 1e6), st.floats(1e-12, 1e6))
def test_fewer_grams_never_score_lower(parameters, one, other):
    low, high = sorted((one, other))
    assert ess(parameters, low) >= ess(parameters, high) > 0.0


def test_window_by_hand():
    window = EssWindow()
    window.add(100.0, 2e6, 1, 8, 0.01)
    window.add(200.0, 2e6, 3, 24, 0.03)
    # P = 2 (million); 2 x 4 requests / 0.04 g = 200; 2 x 32 items / 0.04 g = 1600
    assert window.value(210.0, "request") == pytest.approx(200.0)
    assert window.value(210.0, "item") == pytest.approx(1600.0)


def test_window_forgets_after_five_minutes():
    window = EssWindow()
    window.add(1000.0, 1e6, 1, 1, 0.5)
    window.add(1100.0, 1e6, 1, 1, 0.1)
    assert window.value(1294.0, "request") == pytest.approx(2 / 0.6)
    assert window.value(1300.0, "request") == pytest.approx(10.0)
    assert window.value(1394.0, "request") == pytest.approx(10.0)
    assert window.value(1400.0, "request") is None
    assert window.value(1e9, "request") is None


def test_an_old_slot_of_the_ring_does_not_come_back():
    window = EssWindow()
    window.add(0.0, 1e6, 1, 1, 0.5)
    window.add(300.0, 1e6, 1, 1, 0.1)
    assert window.value(300.0, "request") == pytest.approx(10.0)
    window.add(0.0, 1e6, 1, 1, 0.5)  # too late: its slot holds newer sums
    assert window.value(300.0, "request") == pytest.approx(10.0)


def test_the_order_of_arrival_does_not_matter():
    times = [12.0, 3.0, 290.0, 150.0]
    one, other = EssWindow(), EssWindow()
    for t in times:
        one.add(t, 1e6, 1, 1, t)
    for t in sorted(times):
        other.add(t, 1e6, 1, 1, t)
    assert one.value(291.0, "request") == other.value(291.0, "request") == pytest.approx(4 / 455.0)


def test_what_is_not_yet_is_not_counted():
    window = EssWindow()
    window.add(100.0, 1e6, 1, 1, 0.1)
    assert window.value(90.0, "request") is None


def test_an_empty_window_and_one_without_grams_are_undefined():
    window = EssWindow()
    assert window.value(0.0, "request") is None
    window.add(1.0, 1e6, 5, 5, 0.0)
    assert window.value(2.0, "request") is None


def test_requests_without_grams_of_their_own_still_count():
    window = EssWindow()
    window.add(1.0, 1e6, 1, 1, 0.0)
    window.add(1.0, 1e6, 1, 1, 0.5)
    assert window.value(2.0, "request") == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("parameters", "grams"),
    [(None, 1.0), (0.0, 1.0), (math.nan, 1.0), (1e6, math.nan), (1e6, math.inf), (1e6, -1.0)],
)
def test_what_cannot_be_counted_spoils_nothing(parameters, grams):
    window = EssWindow()
    window.add(1.0, 1e6, 1, 1, 0.5)
    window.add(1.0, parameters, 1, 1, grams)
    assert window.value(2.0, "request") == pytest.approx(2.0)


@given(st.lists(st.tuples(st.floats(0.0, 2000.0), st.floats(1e-9, 1e3)), min_size=1, max_size=200))
def test_the_window_is_the_sum_over_the_last_five_minutes(events):
    window, now = EssWindow(), 2000.0
    for t, grams in sorted(events):
        window.add(t, 1e6, 1, 1, grams)
    inside = [grams for t, grams in events if t // 5 > now // 5 - 60]
    value = window.value(now, "request")
    if not inside:
        assert value is None
    else:
        assert value == pytest.approx(len(inside) / math.fsum(inside))

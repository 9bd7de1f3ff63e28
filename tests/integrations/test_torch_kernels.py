"""CUDA events, as far as can be told without a GPU: a device that says when its marks are reached."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ecolyzer_otel.worker.hot_path import begin, finish
from ecolyzer_otel.worker.spec import ModelFacts
from ecolyzer_otel.worker.state import replace_state
from ecolyzer_torch import kernels
from ecolyzer_torch.forward import spec

MS = 1_000_000
#: Ours and the device's: a microsecond passes with every look, whatever the machine is busy with.
clock = itertools.count(1_000 * MS, 1_000).__next__


class Event:
    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing
        self.at_ns: int | None = None
        self.reached = False

    def record(self, stream: Any) -> None:
        self.at_ns = clock() + stream.delay_ns
        self.reached = stream.delay_ns == 0

    def query(self) -> bool:
        return self.reached

    def synchronize(self) -> None:
        assert self.reached, "would have waited for the service's kernels"

    def elapsed_time(self, other: Event) -> float:
        return (other.at_ns - self.at_ns) / 1e6


class Cuda:
    """The part of ``torch.cuda`` that is used, with one stream that is 3 ms behind."""

    Event = Event

    def __init__(self) -> None:
        self._initialized = True
        self.capturing = False
        self.behind = SimpleNamespace(delay_ns=3 * MS)
        self.asked: list[int] = []

    def is_current_stream_capturing(self) -> bool:
        return self.capturing

    def current_device(self) -> int:
        return 0

    def current_stream(self, index: int) -> Any:
        self.asked.append(index)
        return self.behind

    def Stream(self, device: int) -> Any:
        return SimpleNamespace(delay_ns=0)

    def device(self, index: int) -> Any:
        return contextlib.nullcontext()


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    device = Cuda()
    monkeypatch.setitem(sys.modules, "torch.cuda", device)
    monkeypatch.setattr(kernels, "_relax", lambda: True)
    monkeypatch.setattr(kernels, "_anchors", kernels.Anchors())
    for module in (kernels, sys.modules[begin.__module__]):
        monkeypatch.setattr(module, "monotonic_ns", clock)
    replace_state(lambda state: None)
    yield device
    replace_state(None)


SPEC = spec("forward", lambda model: ModelFacts("net"))


def called(*args: Any) -> Any:
    call = begin(SPEC, object(), args, {})
    assert call is not None
    finish(call, None, None)
    return call


def test_the_interval_is_that_of_the_marks_on_our_clock(cuda: Cuda) -> None:
    call = called()
    assert SPEC.kernels(call) is None, "not reached yet"
    call.events.end.reached = True
    ((low, high),) = SPEC.kernels(call)["cuda:0"]
    assert low == pytest.approx(call.start_ns + 3 * MS, abs=MS)
    assert high == pytest.approx(call.end_ns + 3 * MS, abs=MS)
    assert SPEC.kernels(call) == {"cuda:0": [(low, high)]}, "asked again it says the same"
    assert call.events.start is None, "the events are given back"


def test_the_device_is_that_of_the_input(cuda: Cuda) -> None:
    call = called(SimpleNamespace(device=SimpleNamespace(type="cuda", index=1), shape=(4,)))
    assert cuda.asked == [1]
    call.events.end.reached = True
    assert list(SPEC.kernels(call)) == ["cuda:1"]


def test_nothing_is_recorded_while_a_graph_is_captured(cuda: Cuda) -> None:
    cuda.capturing = True
    call = called()
    assert call.events is None
    assert SPEC.kernels(call) == {}


def test_nothing_is_asked_where_captures_would_notice(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_relax", lambda: False)
    assert SPEC.kernels(called()) == {}


def test_nothing_is_recorded_where_cuda_is_not_in_use(cuda: Cuda) -> None:
    cuda._initialized = False
    assert called().events is None


def test_an_open_call_has_no_interval_yet(cuda: Cuda) -> None:
    call = begin(SPEC, object(), (), {})
    assert SPEC.kernels(call) == {}
    finish(call, None, None)

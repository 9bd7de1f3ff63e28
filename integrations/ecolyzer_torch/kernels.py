"""When a call's kernels ran on a CUDA device: by events, recorded in the call and read by the background thread.

Recording puts an event into the stream and does not wait. Whether an event was reached is queried later, without
waiting. CUDA graph capture is not disturbed: no events are recorded during capture, and the querying thread is in
relaxed capture mode (CUDA Runtime API, ``cudaThreadExchangeStreamCaptureMode``).

An event has no clock time; only the time between two can be read (``cudaEventElapsedTime``, resolution 0.5 us). So
one event per device, the anchor, is recorded at a measured moment in an empty stream of our own. It is renewed now
and then, since both clocks drift apart and the elapsed time is a float of milliseconds.
"""

from __future__ import annotations

import ctypes
import sys
from time import monotonic_ns
from typing import Any, Final

from ecolyzer_otel.instrumentor import CallView

__all__ = ["Anchors", "kernels_of", "record_end", "record_start"]

#: An anchor is renewed after this long; a float of milliseconds still resolves 1 us at 16 s.
_RENEW_NS: Final = 10_000_000_000
#: An anchor whose moment is measured this well needs no further try.
_NARROW_NS: Final = 100_000
_TRIES: Final = 5
_RELAXED: Final = 2
_CUDA: Final = "torch.cuda"


class _Marks:
    """Events around one call."""

    __slots__ = ("device", "end", "spans", "start", "stream")

    def __init__(self, device: int, stream: Any, start: Any) -> None:
        self.device = device
        self.stream = stream
        self.start = start
        self.end: Any = None
        self.spans: dict[str, list[tuple[int, int]]] | None = None


def record_start(call: CallView, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Record an event in the stream that the call's kernels will go to; nothing where CUDA is not in use."""
    cuda = sys.modules.get(_CUDA)
    if cuda is None or not cuda._initialized or cuda.is_current_stream_capturing():
        return
    index = _device_of(args, kwargs)
    if index is None:
        index = cuda.current_device()
    stream = cuda.current_stream(index)
    event = cuda.Event(enable_timing=True)
    event.record(stream)
    call.events = _Marks(index, stream, event)


def record_end(call: CallView, result: Any) -> None:
    """Record the end in the same stream."""
    marks = call.events
    if marks is None:
        return
    cuda = sys.modules[_CUDA]
    if cuda.is_current_stream_capturing():
        call.events = None
        return
    event = cuda.Event(enable_timing=True)
    event.record(marks.stream)
    marks.end = event


def _device_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """The CUDA device of the first tensor that is on one."""
    for value in (*args, *kwargs.values()):
        device = getattr(value, "device", None)
        if getattr(device, "type", None) == "cuda":
            return device.index  # type: ignore[union-attr,no-any-return]
    return None


def kernels_of(call: CallView) -> dict[str, list[tuple[int, int]]] | None:
    """For ``CallSpec.kernels``: from the first kernel to the last, by device; None until they are done."""
    marks = call.events
    if not isinstance(marks, _Marks):
        return {}
    if marks.spans is None:
        if marks.end is None:
            return {}  # still open
        marks.spans = _anchors.spans(sys.modules[_CUDA], marks)
        if marks.spans is not None:
            marks.start = marks.end = marks.stream = None
    return marks.spans


class Anchors:
    """Events recorded at measured moments of our clock, one per device. Used by the background thread alone."""

    def __init__(self) -> None:
        self._anchors: dict[int, tuple[Any, int, int]] = {}
        self._streams: dict[int, Any] = {}
        self._relaxed: bool | None = None

    def spans(self, cuda: Any, marks: _Marks) -> dict[str, list[tuple[int, int]]] | None:
        """Returns the interval between both events in ``time.monotonic_ns``; None until the second is reached."""
        if self._relaxed is None:
            self._relaxed = _relax()
        if not self._relaxed:
            return {}
        if not marks.end.query():
            return None
        anchor, at_ns = self._anchor(cuda, marks.device)
        start, end = (at_ns + round(anchor.elapsed_time(event) * 1e6) for event in (marks.start, marks.end))
        return {f"cuda:{marks.device}": [(start, max(start, end))]}

    def _anchor(self, cuda: Any, device: int) -> tuple[Any, int]:
        anchor = self._anchors.get(device)
        if anchor is not None and monotonic_ns() - anchor[1] < _RENEW_NS:
            return anchor[0], anchor[1]
        best: tuple[Any, int, int] = None, 0, 1 << 62
        with cuda.device(device):
            stream = self._streams.get(device)
            if stream is None:
                stream = self._streams[device] = cuda.Stream(device=device)
            for _ in range(_TRIES):
                event = cuda.Event(enable_timing=True)
                before = monotonic_ns()
                event.record(stream)
                event.synchronize()  # only this thread waits, for its own empty stream
                width = monotonic_ns() - before
                if width < best[2]:
                    best = event, before + width // 2, width
                if width < _NARROW_NS:
                    break
        self._anchors[device] = best
        return best[0], best[1]


_anchors: Final = Anchors()


def _relax() -> bool:
    """Put this thread into relaxed capture mode, so that it disturbs no capture; False where that fails."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            paths = {line.split(None, 5)[5].strip() for line in maps if "libcudart" in line or "libamdhip" in line}
    except OSError:
        return False
    for path in sorted(paths):
        for name in ("cudaThreadExchangeStreamCaptureMode", "hipThreadExchangeStreamCaptureMode"):
            try:
                exchange = getattr(ctypes.CDLL(path), name)
            except (OSError, AttributeError):
                continue
            return bool(exchange(ctypes.byref(ctypes.c_int(_RELAXED))) == 0)
    return False

"""What is done to a call: nothing, ours, a bare OpenTelemetry span, what peers do.

A variant lives in a process of its own and can be switched off there, so that each of its blocks is compared with
one of the same process, of the same objects at the same addresses: two processes that do the same differ by more
than what is measured here. Where a framework is patched, off means that exactly what stood there is put back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from overhead_lib.workloads import Engine

__all__ = ["VARIANTS", "About", "Spans", "Variant", "make", "plain"]

Call = Callable[[], Any]
_SIX: Final = {
    "model.name": "bert", "model.dtype": "float32", "device": "cpu", "operation": "forward", "batch.size": 1,
    "model.parameters": 110_000_000,
}  # fmt: skip


class About(NamedTuple):
    """What the driver must know of a variant.

    ``sampled``: of its requests; None where spans go nowhere. ``only``: workloads that it knows, all if empty.
    """

    name: str
    title: str
    launched: bool = False
    sampled: str | None = None
    peer: bool = False
    only: tuple[str, ...] = ()


VARIANTS: Final = {
    one.name: one
    for one in (
        About("bare", "bare (two equal blocks)"),
        About("ours", "ours, metrics only", launched=True),
        About("ours-1", "ours, spans sampled at 1", launched=True, sampled="1"),
        About("ours-0.1", "ours, spans sampled at 0.1", launched=True, sampled="0.1"),
        About("ours-0", "ours, spans sampled at 0", launched=True, sampled="0"),
        About("span", "a bare span: start_span, end"),
        About("span-current", "start_as_current_span"),
        About("span-six", "a bare span with six attributes"),
        About("codecarbon", "codecarbon start_task, stop_task", peer=True),
        About("zeus", "zeus begin_window, end_window", peer=True),
        About("openlit", "OpenLIT", peer=True, only=("writer",)),
        About("openllmetry", "OpenLLMetry", peer=True, only=("writer",)),
    )
}


class Variant:
    """Off and on are the same: the bare call."""

    def __init__(self) -> None:
        """Called before any framework is imported."""

    def ready(self) -> None:
        """Called when all workloads are made and have been called once."""

    def around(self, call: Call) -> Call:
        """The call while it is on; a frame of its own, as the bare call has."""
        return plain(call)

    def switch(self, on: bool) -> None:
        """Patch, or put back what was there."""

    def drain(self) -> None:
        """Wait until nothing is left to do in the background."""

    def close(self) -> None:
        """Undo what outlives the process."""


def plain(call: Call) -> Call:
    """``call`` in one frame."""

    def run() -> Any:
        return call()

    return run


class _Sink:
    """An exporter that takes spans and does nothing: what exporting costs is another matter."""

    def export(self, spans: Any) -> Any:
        from opentelemetry.sdk.trace.export import SpanExportResult

        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        return

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def _processor() -> Any:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(_Sink())  # type: ignore[arg-type]


class _Ours(Variant):
    """As a user has it, started by ``ecolyzer-instrument``; switched by exchanging what is patched."""

    def __init__(self) -> None:
        from ecolyzer_otel.worker.patches import Patches
        from ecolyzer_otel.worker.spec import CallSpec, ModelFacts
        from ecolyzer_otel.worker.wrap import leaf

        self._engine = Patches()
        spec = CallSpec("own", "infer", lambda model: ModelFacts(type(model).__name__))
        self._engine.replace(Engine, "infer", leaf(Engine.infer, spec))
        self._on, self._off = True, list[tuple[Any, str, Any, Any]]()
        if "--exported" in sys.argv:
            from opentelemetry import trace

            processor = _processor()  # with this import of the SDK the launcher's provider is there
            trace.get_tracer_provider().add_span_processor(processor)  # type: ignore[attr-defined]

    def _patched(self) -> list[tuple[Any, str, Any, Any]]:
        """Owner, name, what stood there, what stands there now."""
        from ecolyzer_otel.boot.instrumentors import instrumentors as _instrumentors

        return [one for patches in (self._engine, *(i.patches for i in _instrumentors())) for one in patches._undo]

    def ready(self) -> None:
        self._patches = self._patched()

    def switch(self, on: bool) -> None:
        if on == self._on:
            return
        self._on = on
        for owner, name, old, new in self._patches if on else reversed(self._patches):
            value = new if on else old
            if type(value) is object:  # it was inherited
                delattr(owner, name)
            else:
                setattr(owner, name, value)

    def drain(self) -> None:
        import ecolyzer_otel

        ecolyzer_otel.flush(10.0)
        if "--exported" in sys.argv:
            from opentelemetry import trace

            trace.get_tracer_provider().force_flush()  # type: ignore[attr-defined]


class Spans(Variant):
    """A span around the call, made by the user's own code with the SDK."""

    def __init__(self) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider

        self.provider = TracerProvider()
        self.provider.add_span_processor(_processor())
        trace.set_tracer_provider(self.provider)
        self.tracer = trace.get_tracer("benchmark")

    def drain(self) -> None:
        self.provider.force_flush()


class _Span(Spans):
    def around(self, call: Call) -> Call:
        start = self.tracer.start_span

        def run() -> Any:
            span = start("inference")
            result = call()
            span.end()
            return result

        return run


class _CurrentSpan(Spans):
    def around(self, call: Call) -> Call:
        start = self.tracer.start_as_current_span

        def run() -> Any:
            with start("inference"):
                return call()

        return run


class _SixAttributes(Spans):
    def around(self, call: Call) -> Call:
        start = self.tracer.start_span

        def run() -> Any:
            span = start("inference", attributes=_SIX)
            result = call()
            span.end()
            return result

        return run


_KINDS: Final[dict[str, Callable[[], Variant]]] = {
    "bare": Variant,
    "span": _Span,
    "span-current": _CurrentSpan,
    "span-six": _SixAttributes,
}


def make(name: str) -> Variant:
    """The variant of that name, in the process that is to be it."""
    if VARIANTS[name].peer:
        from overhead_lib import peers

        return getattr(peers, name.capitalize())()  # type: ignore[no-any-return]
    return _Ours() if VARIANTS[name].launched else _KINDS[name]()

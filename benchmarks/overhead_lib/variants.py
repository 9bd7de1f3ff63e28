"""Variants of measuring a call: none, ours, a bare OpenTelemetry span, peers.

A variant has its own process and can be switched off there, so that each of its blocks is compared with one of the
same process, of the same objects at the same addresses: two equal processes differ by more than the overhead
measured here. Where a framework is patched, switching off restores exactly the original functions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from overhead_lib.workloads import Engine

__all__ = ["VARIANTS", "Spans", "Variant", "VariantInfo", "make", "plain"]

Call = Callable[[], Any]
_SIX: Final = {
    "model.name": "bert", "model.dtype": "float32", "device": "cpu", "operation": "forward", "batch.size": 1,
    "model.parameters": 110_000_000,
}  # fmt: skip


class VariantInfo(NamedTuple):
    """The properties of a variant.

    ``launched``: by ``ecolyzer-instrument``. ``sampled``: part of its requests that is sampled; None: no exporter.
    ``only``: the workloads that it supports, all if empty.
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
        VariantInfo("bare", "bare (two equal blocks)"),
        VariantInfo("ours", "ours, metrics only", launched=True),
        VariantInfo("ours-1", "ours, spans sampled at 1", launched=True, sampled="1"),
        VariantInfo("ours-0.1", "ours, spans sampled at 0.1", launched=True, sampled="0.1"),
        VariantInfo("ours-0", "ours, spans sampled at 0", launched=True, sampled="0"),
        VariantInfo("span", "a bare span: start_span, end"),
        VariantInfo("span-current", "start_as_current_span"),
        VariantInfo("span-six", "a bare span with six attributes"),
        VariantInfo("codecarbon", "codecarbon start_task, stop_task", peer=True),
        VariantInfo("zeus", "zeus begin_window, end_window", peer=True),
        VariantInfo("openlit", "OpenLIT", peer=True, only=("writer",)),
        VariantInfo("openllmetry", "OpenLLMetry", peer=True, only=("writer",)),
    )
}


class Variant:
    """The base variant: off and on are both the bare call."""

    def __init__(self) -> None:
        """Called before any framework is imported."""

    def ready(self) -> None:
        """Called when all workloads exist and have been called once."""

    def around(self, call: Call) -> Call:
        """The call while the variant is on; in one frame, as the bare call."""
        return plain(call)

    def switch(self, on: bool) -> None:
        """Patch, or restore the original functions."""

    def drain(self) -> None:
        """Wait until all background work is done."""

    def close(self) -> None:
        """Remove what would outlive the process."""


def plain(call: Call) -> Call:
    """``call`` in one frame."""

    def run() -> Any:
        return call()

    return run


class _Sink:
    """An exporter that discards spans: the cost of exporting is not measured here."""

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
    """Ours as users run it, started by ``ecolyzer-instrument``; switched by exchanging the patched functions."""

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

            processor = _processor()  # importing the SDK has set the provider of the launcher
            trace.get_tracer_provider().add_span_processor(processor)  # type: ignore[attr-defined]

    def _patched(self) -> list[tuple[Any, str, Any, Any]]:
        """Owner, name, original and patched function of each patch."""
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
    """A span around the call, started by user code with the SDK."""

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
    """Create the variant of that name in this process."""
    if VARIANTS[name].peer:
        from overhead_lib import peers

        return getattr(peers, name.capitalize())()  # type: ignore[no-any-return]
    return _Ours() if VARIANTS[name].launched else _KINDS[name]()

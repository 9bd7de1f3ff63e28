"""OpenTelemetry instrumentor for ONNX Runtime: every run of an ``InferenceSession`` is a request.

Usage::

    from ecolyzer_onnxruntime import OnnxRuntimeInstrumentor

    OnnxRuntimeInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. ONNX Runtime is patched when it is imported, not imported by us.
Requests are ``run``, ``run_async`` (until the results are there), ``run_with_iobinding``, ``run_with_ort_values``
and ``run_with_ortvaluevector``, whatever the session was made of: a path, bytes, an ``.ort`` file.

Verified with onnxruntime 1.19.2, 1.20.1 and 1.32.0. Methods that a release does not have are not patched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ecolyzer_onnxruntime.asynchronous import until_the_callback
from ecolyzer_onnxruntime.batches import bound_items, fed_items, forgetting, noting, vector_items
from ecolyzer_onnxruntime.facts import describe
from ecolyzer_otel.instrumentor import CallSpec, FrameworkInstrumentor, changing, leaf

__all__ = ["OnnxRuntimeInstrumentor"]

#: Where Python's ``InferenceSession`` inherits its methods from.
_MODULE: Final = "onnxruntime.capi.onnxruntime_inference_collection"
_RUNS: Final = (
    CallSpec("onnxruntime", "run", describe, fed_items),
    CallSpec("onnxruntime", "run_with_ort_values", describe, fed_items),
    CallSpec("onnxruntime", "run_with_iobinding", describe, bound_items),
    CallSpec("onnxruntime", "run_with_ortvaluevector", describe, vector_items),
)
_RUN_ASYNC: Final = CallSpec("onnxruntime", "run_async", describe, fed_items)


class OnnxRuntimeInstrumentor(FrameworkInstrumentor):
    """Patches ``Session``, from which ``InferenceSession`` inherits, and what ``IOBinding`` binds."""

    supported = {"onnxruntime": ("1.17", "2")}  # noqa: RUF012 - declared as a ClassVar of the base

    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """See :class:`~ecolyzer_otel.instrumentor.FrameworkInstrumentor`."""
        return {_MODULE: self._patch}

    def _patch(self, module: Any) -> None:
        session, binding = module.Session, module.IOBinding
        for spec in _RUNS:
            self.wrap_present(session, spec.operation, leaf, spec)
        self.wrap_present(session, "run_async", until_the_callback, _RUN_ASYNC)
        self.wrap_present(session, "set_providers", changing)  # it may be on another device afterwards
        for name in ("bind_cpu_input", "bind_ortvalue_input", "bind_input"):
            self.wrap_present(binding, name, noting)
        self.wrap_present(binding, "clear_binding_inputs", forgetting)

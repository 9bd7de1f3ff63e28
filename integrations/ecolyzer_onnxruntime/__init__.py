"""OpenTelemetry instrumentor for ONNX Runtime: every ``InferenceSession.run`` is a request.

Usage::

    from ecolyzer_onnxruntime import OnnxRuntimeInstrumentor

    OnnxRuntimeInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. ONNX Runtime is patched when it is imported, not imported by us.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from ecolyzer_onnxruntime.graph import count_parameters
from ecolyzer_otel.instrumentor import FrameworkInstrumentor
from ecolyzer_otel.wrap import CallSpec, ModelFacts, batch_of, leaf

__all__ = ["OnnxRuntimeInstrumentor"]

#: Where Python's ``InferenceSession`` inherits its methods from.
_MODULE: Final = "onnxruntime.capi.onnxruntime_inference_collection"
_DEVICES: Final = {
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "cuda",
    "ROCMExecutionProvider": "gpu",
}


def describe(session: Any) -> ModelFacts:
    """Name (file stem, or the graph's own), exact number of parameters, dominant dtype, device of a session."""
    path = getattr(session, "_model_path", None)
    source = path or getattr(session, "_model_bytes", None)
    name = os.path.splitext(os.path.basename(os.fspath(path)))[0] if path else session.get_modelmeta().graph_name
    # "model.onnx" tells nothing: what it lies in does.
    if path and name in ("model", "model_quantized", "model_optimized"):
        name = os.path.basename(os.path.dirname(os.path.abspath(os.fspath(path)))) or name
    try:
        parameters, dtype = count_parameters(source) if source else (None, None)
    except (OSError, ValueError):  # the file is gone since, or empty
        parameters = dtype = None
    return ModelFacts(name or "onnx", parameters, dtype, _device(session))


def _device(session: Any) -> str:
    providers = session.get_providers()
    kind = _DEVICES.get(providers[0], "cpu") if providers else "cpu"
    if kind == "cpu":
        return "cpu"
    return f"{kind}:{session.get_provider_options().get(providers[0], {}).get('device_id', '0')}"


def _items(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    feed = args[1] if len(args) > 1 else kwargs.get("input_feed")
    for value in (feed or {}).values():
        return batch_of(value)
    return 1


_RUN: Final = CallSpec("onnxruntime", "run", describe, _items)


class OnnxRuntimeInstrumentor(FrameworkInstrumentor):
    """Patches ``Session.run``, which ``InferenceSession`` inherits."""

    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """See :class:`~ecolyzer_otel.instrumentor.FrameworkInstrumentor`."""
        return {"onnxruntime.capi.onnxruntime_inference_collection": self._patch}

    def _patch(self, module: Any) -> None:
        self.patches.replace(module.Session, "run", leaf(module.Session.run, _RUN))

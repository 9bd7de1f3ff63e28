"""Facts of a session's model."""

from __future__ import annotations

import os
import re
from typing import Any, Final

from ecolyzer_onnxruntime.count import count_parameters
from ecolyzer_otel.instrumentor import ModelFacts

__all__ = ["describe"]

_DEVICES: Final = {
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "cuda",
    "NvTensorRTRTXExecutionProvider": "cuda",
    "ROCMExecutionProvider": "gpu",
    "MIGraphXExecutionProvider": "gpu",
}
#: File names that do not identify a model; the folder around them does.
_GENERIC: Final = frozenset(
    ("model", "onnx", "model_quantized", "model_optimized", "model_fp16", "model_int8", "model_uint8", "model_q4",
     "model_q4f16", "model_bnb4")
)  # fmt: skip
#: Where huggingface_hub keeps ``org/name``: ``models--org--name/snapshots/<revision>``.
_HUB: Final = re.compile(r".*/models--([^/]+)/snapshots/[^/]+(?=/)")


def describe(session: Any) -> ModelFacts:
    """Facts of a session: file stem or the graph's name, exact number of parameters, dominant dtype, device."""
    path = getattr(session, "_model_path", None)
    source = path or getattr(session, "_model_bytes", None)
    name = _name(os.path.abspath(os.fspath(path))) if path else session.get_modelmeta().graph_name
    try:
        parameters, dtype = count_parameters(source) if source else (None, None)
    except (OSError, ValueError):  # the file was removed since, or is empty
        parameters = dtype = None
    return ModelFacts(name or "onnx", parameters, dtype, _device(session))


def _name(path: str) -> str:
    """``classifier`` of ``classifier.onnx``; ``bert`` of ``bert/onnx/model_int8.onnx``."""
    stem = name = os.path.splitext(os.path.basename(path))[0]
    if name in _GENERIC and (hub := _HUB.match(path)):
        return hub[1].replace("--", "/")
    while name in _GENERIC:
        path = os.path.dirname(path)
        name = os.path.basename(path)
    return name or stem


def _device(session: Any) -> str:
    providers = session.get_providers()
    kind = _DEVICES.get(providers[0], "cpu") if providers else "cpu"
    if kind == "cpu":
        return "cpu"
    return f"{kind}:{session.get_provider_options().get(providers[0], {}).get('device_id', '0')}"

"""The constants of a ``.tflite`` file: a flatbuffer (https://flatbuffers.dev/internals/), walked in place.

Slots and types are those of ``tensorflow/compiler/mlir/lite/schema/schema.fbs``, slots counted from 0.
"""

from __future__ import annotations

import mmap
from collections import Counter
from math import prod
from struct import error
from typing import Final

from ecolyzer_otel.instrumentor import flatbuffer

__all__ = ["count_constants"]

_TYPES: Final = {
    0: "float32", 1: "float16", 3: "uint8", 7: "int16", 9: "int8", 10: "float64", 17: "int4", 18: "bfloat16",
    19: "int2", 20: "uint4",
}  # fmt: skip
_INT32: Final = 2


def count_constants(source: str | bytes) -> tuple[int | None, str | None]:
    """Returns the number of elements in the constant tensors of a file or its content, and the type of most.

    Integers that are not quantised numbers (shapes, axes) are no parameters. (None, None) if it is unreadable.
    """
    sizes: Counter[str] = Counter()
    try:
        if isinstance(source, (bytes, bytearray)):
            _model(bytes(source), sizes)
        else:
            with open(source, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                _model(view, sizes)
    except (OSError, ValueError, error):  # removed since, empty, or no model
        return None, None
    return sizes.total(), sizes.most_common(1)[0][0] if sizes else None


def _model(view: flatbuffer.Buffer, sizes: Counter[str]) -> None:
    model = flatbuffer.follow(view, 0)
    filled = [_is_filled(view, buffer) for buffer in flatbuffer.tables(view, model, 4)]
    seen: set[int] = set()
    for graph in flatbuffer.tables(view, model, 2):
        for tensor in flatbuffer.tables(view, graph, 0):
            buffer = flatbuffer.scalar(view, tensor, 2, "<I")
            if buffer in seen or buffer >= len(filled) or not filled[buffer]:
                continue
            seen.add(buffer)  # several graphs may share one
            kind = flatbuffer.scalar(view, tensor, 1, "<b")
            name = "int32" if kind == _INT32 and _is_quantized(view, tensor) else _TYPES.get(kind)
            if name is not None:
                sizes[name] += prod(flatbuffer.numbers(view, tensor, 0, "i"))


def _is_filled(view: flatbuffer.Buffer, buffer: int) -> bool:
    """Whether a buffer has content: within the model, or behind it (above 2 GB)."""
    return flatbuffer.vector(view, buffer, 0)[1] > 0 or flatbuffer.scalar(view, buffer, 2, "<Q") > 0


def _is_quantized(view: flatbuffer.Buffer, tensor: int) -> bool:
    quantization = flatbuffer.table(view, tensor, 4)
    return bool(quantization) and flatbuffer.vector(view, quantization, 2)[1] > 0

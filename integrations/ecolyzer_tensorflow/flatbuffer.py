"""The constants of a ``.tflite`` file: a flatbuffer (https://flatbuffers.dev/internals/), walked in place.

Slots and types are those of ``tensorflow/compiler/mlir/lite/schema/schema.fbs``, slots counted from 0.
"""

from __future__ import annotations

import mmap
from collections import Counter
from math import prod
from struct import error, unpack_from
from typing import Final

from ecolyzer_otel.instrumentor import flatbuffer

__all__ = ["count_constants"]

_TYPES: Final = {
    0: "float32", 1: "float16", 3: "uint8", 7: "int16", 9: "int8", 10: "float64", 17: "int4", 18: "bfloat16",
    19: "int2", 20: "uint4",
}  # fmt: skip
_INT32: Final = 2


def count_constants(source: str | bytes) -> tuple[int | None, str | None]:
    """Elements of the constant tensors of a file or its content, and the type that holds most; None if unreadable.

    Integers that are no quantized numbers (shapes, axes) are no parameters.
    """
    sizes: Counter[str] = Counter()
    try:
        if isinstance(source, (bytes, bytearray)):
            _model(bytes(source), sizes)
        else:
            with open(source, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                _model(view, sizes)
    except (OSError, ValueError, error):  # gone since, empty, something else
        return None, None
    return sizes.total(), sizes.most_common(1)[0][0] if sizes else None


def _model(view: flatbuffer.Buffer, sizes: Counter[str]) -> None:
    model = flatbuffer.follow(view, 0)
    filled = [_is_filled(view, buffer) for buffer in flatbuffer.tables(view, model, 4)]
    seen: set[int] = set()
    for graph in flatbuffer.tables(view, model, 2):
        for tensor in flatbuffer.tables(view, graph, 0):
            buffer = _number(view, tensor, 2, "<I")
            if buffer in seen or buffer >= len(filled) or not filled[buffer]:
                continue
            seen.add(buffer)  # several graphs may share one
            kind = _number(view, tensor, 1, "<b")
            name = "int32" if kind == _INT32 and _is_quantized(view, tensor) else _TYPES.get(kind)
            if name is not None:
                start, number = flatbuffer.vector(view, tensor, 0)
                sizes[name] += prod(unpack_from(f"<{number}i", view, start))


def _is_filled(view: flatbuffer.Buffer, buffer: int) -> bool:
    """Within the model, or behind it (of more than 2 GB)."""
    return flatbuffer.vector(view, buffer, 0)[1] > 0 or _number(view, buffer, 2, "<Q") > 0


def _is_quantized(view: flatbuffer.Buffer, tensor: int) -> bool:
    at = flatbuffer.field(view, tensor, 4)
    return bool(at) and flatbuffer.vector(view, flatbuffer.follow(view, at), 2)[1] > 0


def _number(view: flatbuffer.Buffer, owner: int, slot: int, form: str) -> int:
    at = flatbuffer.field(view, owner, slot)
    return int(unpack_from(form, view, at)[0]) if at else 0

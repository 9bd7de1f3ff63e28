"""Counting the parameters of an ONNX file without the ``onnx`` package and without reading its weights.

Walks the protobuf wire format (https://protobuf.dev/programming-guides/encoding/) of ``ModelProto`` (field numbers
from onnx.proto3): model.graph = 7; graph.initializer = 5, graph.sparse_initializer = 15; tensor.dims = 1,
tensor.data_type = 2; sparse.values = 1. Fields of no interest are skipped by their length, so that a file of
gigabytes costs some page faults.
"""

from __future__ import annotations

import mmap
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["count_parameters"]

_Buffer = bytes | mmap.mmap
#: onnx.TensorProto.DataType
_DTYPES: Final = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
    17: "float8_e4m3fn", 18: "float8_e4m3fnuz", 19: "float8_e5m2", 20: "float8_e5m2fnuz", 21: "uint4", 22: "int4",
    23: "float4_e2m1",
}  # fmt: skip


def count_parameters(source: Any) -> tuple[int | None, str | None]:
    """Elements of all initialisers of an ONNX model, and the dtype that holds most of them.

    Args:
        source: a path, or the serialised model as bytes.

    Returns:
        (number, dtype); (None, None) when it is no ONNX protobuf (an ``.ort`` file, say).
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _count(bytes(source))
    with open(os.fspath(source), "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return _count(view)


def _count(view: _Buffer) -> tuple[int | None, str | None]:
    sizes: Counter[str] = Counter()
    found = False
    try:
        for field, start, end in _fields(view, 0, len(view)):
            if field == 7:
                found = True
                for inner, low, high in _fields(view, start, end):
                    if inner == 5:
                        _tensor(view, low, high, sizes)
                    elif inner == 15:
                        for part, left, right in _fields(view, low, high):
                            if part == 1:
                                _tensor(view, left, right, sizes)
    except (IndexError, ValueError):
        return None, None
    if not found:
        return None, None
    return sizes.total(), sizes.most_common(1)[0][0] if sizes else None


def _tensor(view: _Buffer, start: int, end: int, sizes: Counter[str]) -> None:
    elements, dtype = 1, "float32"
    for field, low, high in _fields(view, start, end):
        if field == 1 and high < 0:
            elements *= low
        elif field == 1:  # packed
            while low < high:
                value, low = _varint(view, low)
                elements *= value
        elif field == 2:
            dtype = _DTYPES.get(low, f"onnx{low}")
    sizes[dtype] += elements


def _fields(view: _Buffer, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """``(number, start, end)`` of each field; of a varint ``(number, value, -1)``."""
    at = start
    while at < end:
        key, at = _varint(view, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(view, at)
            yield key >> 3, value, -1
        elif kind == 2:
            length, at = _varint(view, at)
            if at + length > end:
                raise ValueError("a field reaches beyond its message")
            yield key >> 3, at, at + length
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("not a protobuf field")


def _varint(view: _Buffer, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("not a varint")

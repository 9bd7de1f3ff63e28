"""The ONNX format: protobuf's wire format (https://protobuf.dev/programming-guides/encoding/), walked in place.

Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). Other fields
are skipped by their length, so that a file of gigabytes costs some page faults.
"""

from __future__ import annotations

from collections.abc import Iterator

from ecolyzer_onnxruntime.graph import LEARNED, Buffer, ParameterCount

__all__ = ["read"]


def read(view: Buffer, count: ParameterCount) -> bool:
    """Add the parameters of a model to ``count``; False if it is no model."""
    found = False
    try:
        for field, start, end in _fields(view, 0, len(view)):
            if field == 7:  # ModelProto.graph
                found = True
                _graph(view, start, end, count)
            elif field == 25:  # ModelProto.functions
                for inner, low, high in _fields(view, start, end):
                    if inner == 7:
                        _node(view, low, high, count)
    except (IndexError, ValueError, RecursionError):
        return False
    return found


def _graph(view: Buffer, start: int, end: int, count: ParameterCount) -> None:
    for field, low, high in _fields(view, start, end):
        if field == 1:
            _node(view, low, high, count)
        elif field == 5:
            name, elements, kind, _ = _tensor(view, low, high)
            count.add_initializer(name, elements, kind)
        elif field == 15:
            name, elements, kind, _ = _sparse(view, low, high)
            count.add_initializer(name, elements, kind)


def _node(view: Buffer, start: int, end: int, count: ParameterCount) -> None:
    inputs: list[bytes] = []
    attributes: list[tuple[int, int]] = []
    operator = domain = b""
    for field, low, high in _fields(view, start, end):
        if field == 1:
            inputs.append(view[low:high])
        elif field == 4:
            operator = view[low:high]
        elif field == 5:
            attributes.append((low, high))
        elif field == 7:
            domain = view[low:high]
    integers: dict[bytes, int] = {}
    for low, high in attributes:
        if domain == b"ai.onnx.ml":
            _learned(view, low, high, count)
        else:
            _attribute(view, low, high, operator == b"Constant", integers, count)
    count.add_node(operator, inputs, integers)


def _attribute(
    view: Buffer, start: int, end: int, constant: bool, integers: dict[bytes, int], count: ParameterCount
) -> None:
    name = b""
    for field, low, high in _fields(view, start, end):
        if field == 1:
            name = view[low:high]
        elif field == 3:
            integers[name] = low
        elif field in (6, 11):  # g, graphs
            _graph(view, low, high, count)
        elif constant and field in (5, 22):  # t, sparse_tensor
            _, elements, kind, scalar = _tensor(view, low, high) if field == 5 else _sparse(view, low, high)
            count.add_constant(elements, kind, scalar)
        elif field == 7:  # floats: those of ``value_floats``, and nothing comes after them
            if constant:
                count.add_constant(_floats(view, low, high, end), 1, False)
            return
        elif field == 8:  # ints
            return


def _learned(view: Buffer, start: int, end: int, count: ParameterCount) -> None:
    for field, low, high in _fields(view, start, end):
        if field == 1 and view[low:high] not in LEARNED:
            return
        if field == 5:
            _, elements, kind, _ = _tensor(view, low, high)
            count.add_learned(elements, kind)
        elif field == 7:
            count.add_learned(_floats(view, low, high, end))
            return


def _floats(view: Buffer, low: int, high: int, end: int) -> int:
    """Returns the number of floats that begin here: packed, or each with its key, as proto2 writes them."""
    if high > low:
        return (high - low) // 4
    run = view[low - 1 : end : 5]
    return len(run) - len(run.lstrip(b"\x3d"))


def _sparse(view: Buffer, start: int, end: int) -> tuple[bytes, int, int, bool]:
    for field, low, high in _fields(view, start, end):
        if field == 1:  # SparseTensorProto.values
            return _tensor(view, low, high)
    return b"", 0, 1, False


def _tensor(view: Buffer, start: int, end: int) -> tuple[bytes, int, int, bool]:
    """Returns name, number of elements, data type, and whether it is a scalar."""
    name, elements, kind, scalar = b"", 1, 1, True
    for field, low, high in _fields(view, start, end):
        if field == 1:
            scalar = False
            if high < 0:
                elements *= low
            while low < high:  # packed
                value, low = _varint(view, low)
                elements *= value
        elif field == 2:
            kind = low
        elif field == 8:
            name = view[low:high]
    return name, elements, kind, scalar


def _fields(view: Buffer, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """``(number, start, end)`` of each field; ``(number, value, -1)`` of a varint; a fixed one has no end."""
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
            yield key >> 3, at, at
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("not a protobuf field")


def _varint(view: Buffer, at: int) -> tuple[int, int]:
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

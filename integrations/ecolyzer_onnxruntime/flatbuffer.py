"""ONNX Runtime's own format (``.ort``): a flatbuffer (https://flatbuffers.dev/internals/), walked in place.

Slots are those of ``onnxruntime/core/flatbuffers/schema/ort.fbs``, counted from 0. When the runtime writes such a
file it has turned ``Constant`` nodes into initialisers.
"""

from __future__ import annotations

from math import prod
from struct import error, unpack_from

from ecolyzer_onnxruntime.graph import LEARNED, Tally
from ecolyzer_otel.instrumentor import flatbuffer

__all__ = ["read"]


def read(view: flatbuffer.Buffer, tally: Tally) -> bool:
    """Tell ``tally`` of a model; False when it cannot be read."""
    try:
        model = flatbuffer.table(view, flatbuffer.follow(view, 0), 1)  # InferenceSession.model
        graph = flatbuffer.table(view, model, 7) if model else 0
        if graph:
            _graph(view, graph, tally)
    except (error, IndexError, RecursionError):
        return False
    return bool(graph)


def _graph(view: flatbuffer.Buffer, graph: int, tally: Tally) -> None:
    for tensor in flatbuffer.tables(view, graph, 0):
        tally.initializer(_bytes(view, tensor, 0), *_size(view, tensor))
    for node in flatbuffer.tables(view, graph, 2):
        _node(view, node, tally)
    for sparse in flatbuffer.tables(view, graph, 7):
        values = flatbuffer.table(view, sparse, 0)
        if values:
            tally.initializer(_bytes(view, values, 0), *_size(view, values))


def _node(view: flatbuffer.Buffer, node: int, tally: Tally) -> None:
    learns = _bytes(view, node, 2) == b"ai.onnx.ml"
    integers: dict[bytes, int] = {}
    for attribute in flatbuffer.tables(view, node, 10):
        name = _bytes(view, attribute, 0)
        if learns and name in LEARNED:
            floats, tensor = flatbuffer.vector(view, attribute, 8)[1], flatbuffer.table(view, attribute, 6)
            tally.learned(*(_size(view, tensor) if tensor else (floats, 1)))
        if at := flatbuffer.field(view, attribute, 4):
            (integers[name],) = unpack_from("<q", view, at)
        if graph := flatbuffer.table(view, attribute, 7):
            _graph(view, graph, tally)
        for graph in flatbuffer.tables(view, attribute, 12):
            _graph(view, graph, tally)
    start, number = flatbuffer.vector(view, node, 8)
    inputs = [_text(view, flatbuffer.follow(view, start + 4 * index)) for index in range(number)]
    tally.node(_bytes(view, node, 5), inputs, integers)


def _size(view: flatbuffer.Buffer, tensor: int) -> tuple[int, int]:
    """Number of elements and data type."""
    start, number = flatbuffer.vector(view, tensor, 2)
    at = flatbuffer.field(view, tensor, 3)
    (kind,) = unpack_from("<i", view, at) if at else (0,)
    return prod(unpack_from(f"<{number}q", view, start)), kind


def _bytes(view: flatbuffer.Buffer, owner: int, slot: int) -> bytes:
    at = flatbuffer.table(view, owner, slot)
    return _text(view, at) if at else b""


def _text(view: flatbuffer.Buffer, at: int) -> bytes:
    (length,) = unpack_from("<I", view, at)
    return view[at + 4 : at + 4 + length]

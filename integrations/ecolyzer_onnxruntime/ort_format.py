"""ONNX Runtime's own format (``.ort``): a flatbuffer (https://flatbuffers.dev/internals/), walked in place.

Slots are those of ``onnxruntime/core/flatbuffers/schema/ort.fbs``, counted from 0. The runtime turns ``Constant``
nodes into initialisers before it writes such a file.
"""

from __future__ import annotations

from math import prod
from struct import error

from ecolyzer_onnxruntime.graph import LEARNED, ParameterCount
from ecolyzer_otel.instrumentor import flatbuffer

__all__ = ["read"]


def read(view: flatbuffer.Buffer, count: ParameterCount) -> bool:
    """Add the parameters of a model to ``count``; False if it cannot be read."""
    try:
        model = flatbuffer.table(view, flatbuffer.follow(view, 0), 1)  # InferenceSession.model
        graph = flatbuffer.table(view, model, 7) if model else 0
        if graph:
            _graph(view, graph, count)
    except (error, IndexError, RecursionError):
        return False
    return bool(graph)


def _graph(view: flatbuffer.Buffer, graph: int, count: ParameterCount) -> None:
    for tensor in flatbuffer.tables(view, graph, 0):
        count.add_initializer(_bytes(view, tensor, 0), *_size(view, tensor))
    for node in flatbuffer.tables(view, graph, 2):
        _node(view, node, count)
    for sparse in flatbuffer.tables(view, graph, 7):
        values = flatbuffer.table(view, sparse, 0)
        if values:
            count.add_initializer(_bytes(view, values, 0), *_size(view, values))


def _node(view: flatbuffer.Buffer, node: int, count: ParameterCount) -> None:
    learns = _bytes(view, node, 2) == b"ai.onnx.ml"
    integers: dict[bytes, int] = {}
    for attribute in flatbuffer.tables(view, node, 10):
        name = _bytes(view, attribute, 0)
        if learns and name in LEARNED:
            floats, tensor = flatbuffer.vector(view, attribute, 8)[1], flatbuffer.table(view, attribute, 6)
            count.add_learned(*(_size(view, tensor) if tensor else (floats, 1)))
        if flatbuffer.field(view, attribute, 4):
            integers[name] = flatbuffer.scalar(view, attribute, 4, "<q")
        if graph := flatbuffer.table(view, attribute, 7):
            _graph(view, graph, count)
        for graph in flatbuffer.tables(view, attribute, 12):
            _graph(view, graph, count)
    start, number = flatbuffer.vector(view, node, 8)
    inputs = [flatbuffer.string(view, flatbuffer.follow(view, start + 4 * index)) for index in range(number)]
    count.add_node(_bytes(view, node, 5), inputs, integers)


def _size(view: flatbuffer.Buffer, tensor: int) -> tuple[int, int]:
    """Returns number of elements and data type."""
    return prod(flatbuffer.numbers(view, tensor, 2, "q")), flatbuffer.scalar(view, tensor, 3, "<i")


def _bytes(view: flatbuffer.Buffer, owner: int, slot: int) -> bytes:
    return flatbuffer.string(view, flatbuffer.table(view, owner, slot))

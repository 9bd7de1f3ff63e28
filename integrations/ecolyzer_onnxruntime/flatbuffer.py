"""ONNX Runtime's own format (``.ort``): a flatbuffer (https://flatbuffers.dev/internals/), walked in place.

Slots are those of ``onnxruntime/core/flatbuffers/schema/ort.fbs``, counted from 0. When the runtime writes such a
file it has turned ``Constant`` nodes into initialisers.
"""

from __future__ import annotations

from math import prod
from struct import error, unpack_from

from ecolyzer_onnxruntime.graph import LEARNED, Tally
from ecolyzer_otel.common.flatbuffer import Buffer, field, follow, table, tables, vector

__all__ = ["read"]


def read(view: Buffer, tally: Tally) -> bool:
    """Tell ``tally`` of a model; False when it cannot be read."""
    try:
        model = table(view, follow(view, 0), 1)  # InferenceSession.model
        graph = table(view, model, 7) if model else 0
        if graph:
            _graph(view, graph, tally)
    except (error, IndexError, RecursionError):
        return False
    return bool(graph)


def _graph(view: Buffer, graph: int, tally: Tally) -> None:
    for tensor in tables(view, graph, 0):
        tally.initializer(_bytes(view, tensor, 0), *_size(view, tensor))
    for node in tables(view, graph, 2):
        _node(view, node, tally)
    for sparse in tables(view, graph, 7):
        values = table(view, sparse, 0)
        if values:
            tally.initializer(_bytes(view, values, 0), *_size(view, values))


def _node(view: Buffer, node: int, tally: Tally) -> None:
    learns = _bytes(view, node, 2) == b"ai.onnx.ml"
    integers: dict[bytes, int] = {}
    for attribute in tables(view, node, 10):
        name = _bytes(view, attribute, 0)
        if learns and name in LEARNED:
            floats, tensor = vector(view, attribute, 8)[1], table(view, attribute, 6)
            tally.learned(*(_size(view, tensor) if tensor else (floats, 1)))
        if at := field(view, attribute, 4):
            (integers[name],) = unpack_from("<q", view, at)
        if graph := table(view, attribute, 7):
            _graph(view, graph, tally)
        for graph in tables(view, attribute, 12):
            _graph(view, graph, tally)
    start, number = vector(view, node, 8)
    inputs = [_text(view, follow(view, start + 4 * index)) for index in range(number)]
    tally.node(_bytes(view, node, 5), inputs, integers)


def _size(view: Buffer, tensor: int) -> tuple[int, int]:
    """Number of elements and data type."""
    start, number = vector(view, tensor, 2)
    at = field(view, tensor, 3)
    (kind,) = unpack_from("<i", view, at) if at else (0,)
    return prod(unpack_from(f"<{number}q", view, start)), kind


def _bytes(view: Buffer, owner: int, slot: int) -> bytes:
    at = table(view, owner, slot)
    return _text(view, at) if at else b""


def _text(view: Buffer, at: int) -> bytes:
    (length,) = unpack_from("<I", view, at)
    return view[at + 4 : at + 4 + length]

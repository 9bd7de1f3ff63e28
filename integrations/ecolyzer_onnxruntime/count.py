"""Counting the parameters of a model file without the ``onnx`` package and without reading its weights.

Counted are the elements of all initialisers, those of subgraphs (both branches of an ``If``) and in files of their
own included; tensors of ``Constant`` nodes that can be weights (a scalar or an int64 shape cannot), where
PaddlePaddle and spox keep theirs; and what a classical model has in its nodes (coefficients, support vectors; of
trees the number of nodes). Scales and zero points are numbers of a quantised model too. Integers of less than a
byte, packed in bytes, are counted as what they are.
"""

from __future__ import annotations

import mmap
import os
from typing import Any

from ecolyzer_onnxruntime import flatbuffer, protobuf
from ecolyzer_onnxruntime.graph import Buffer, Tally

__all__ = ["count_parameters"]


def count_parameters(source: Any) -> tuple[int | None, str | None]:
    """Elements of what a model has learned, and the dtype that holds most of them.

    Args:
        source: a path, or the serialised model as bytes.

    Returns:
        (number, dtype); (None, None) when it is no model, or one compiled for a device, whose weights are hidden.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _count(bytes(source))
    with open(os.fspath(source), "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return _count(view)


def _count(view: Buffer) -> tuple[int | None, str | None]:
    tally = Tally()
    reader = flatbuffer if view[4:8] == b"ORTM" else protobuf
    return tally.result() if reader.read(view, tally) else (None, None)

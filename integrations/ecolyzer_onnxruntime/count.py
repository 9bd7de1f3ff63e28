"""Counting the parameters of a model file without the ``onnx`` package and without reading its weights.

Counted are:

- the elements of all initialisers, with those of subgraphs (both branches of an ``If``) and of external files;
- tensors of ``Constant`` nodes that can be weights (a scalar or an int64 shape cannot): PaddlePaddle and spox keep
  theirs there;
- the learned attributes of a classical model's nodes (coefficients, support vectors; of trees the number of nodes).

Scales and zero points of a quantised model are counted too. Integers of less than a byte, packed in bytes, are
counted one by one.
"""

from __future__ import annotations

import mmap
import os
from typing import Any

from ecolyzer_onnxruntime import onnx_format, ort_format
from ecolyzer_onnxruntime.graph import Buffer, ParameterCount

__all__ = ["count_parameters"]


def count_parameters(source: Any) -> tuple[int | None, str | None]:
    """Returns the number of parameters of a model, and the dtype that holds most of them.

    Args:
        source: a path, or the serialised model as bytes.

    Returns:
        (number, dtype); (None, None) if it is no model, or one compiled for a device, whose weights are hidden.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _count(bytes(source))
    with open(os.fspath(source), "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return _count(view)


def _count(view: Buffer) -> tuple[int | None, str | None]:
    count = ParameterCount()
    reader = ort_format if view[4:8] == b"ORTM" else onnx_format
    return count.result() if reader.read(view, count) else (None, None)

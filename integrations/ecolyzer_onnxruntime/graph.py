"""The number of parameters of a model, from what the readers of both formats find in its graphs."""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

__all__ = ["LEARNED", "Buffer", "ParameterCount"]

Buffer = bytes | mmap.mmap
#: onnx.TensorProto.DataType
_DTYPES: Final = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
    17: "float8_e4m3fn", 18: "float8_e4m3fnuz", 19: "float8_e5m2", 20: "float8_e5m2fnuz", 21: "uint4", 22: "int4",
    23: "float4_e2m1", 24: "float8_e8m0", 25: "uint2", 26: "int2",
}  # fmt: skip
_UINT8: Final = 2
#: A ``Constant`` node of these types holds a shape, an index or a switch.
_NO_WEIGHTS: Final = frozenset((6, 7, 8, 9, 12, 13))
#: Learned attributes of nodes of the domain ai.onnx.ml; those of trees have one number per node.
LEARNED: Final = frozenset(
    (b"coefficients", b"intercepts", b"support_vectors", b"rho", b"prob_a", b"prob_b", b"offset", b"scale",
     b"imputed_value_floats", b"nodes_values", b"nodes_values_as_tensor", b"nodes_splits", b"leaf_weights")
)  # fmt: skip
#: Nodes of the domain com.microsoft with inputs that are packed in uint8: which ones, what an element is, and the
#: attribute with its number of bits, 4 by default (ONNX Runtime, docs/ContribOperators.md).
_PACKED: Final[Mapping[bytes, tuple[Sequence[int], str, bytes]]] = {
    b"MatMulNBits": ((1, 3), "int", b"bits"),
    b"MatMulBnb4": ((1,), "float", b""),
    b"GatherBlockQuantized": ((0, 3), "int", b"bits"),
    b"QMoE": ((2, 5, 8), "int", b"expert_weight_bits"),
}


class ParameterCount:
    """Parameters of a model, added up as a reader of either format finds them."""

    def __init__(self) -> None:
        self._sizes: Counter[str] = Counter()
        self._initializers: list[tuple[bytes, int, int]] = []
        #: Of packed initialisers, by name: kind of their elements, bits, and number where it is given.
        self._packed: dict[bytes, tuple[str, int, int | None]] = {}
        self._compiled = False

    def add_initializer(self, name: bytes, elements: int, kind: int) -> None:
        """A tensor of a graph's initialisers; its nodes show how it is packed."""
        self._initializers.append((name, elements, kind))

    def add_constant(self, elements: int, kind: int, scalar: bool) -> None:
        """The tensor of a ``Constant`` node."""
        if not scalar and kind not in _NO_WEIGHTS:
            self._sizes[_dtype(kind)] += elements

    def add_learned(self, elements: int, kind: int = 1) -> None:
        """An attribute named in :data:`LEARNED`."""
        self._sizes[_dtype(kind)] += elements

    def add_node(self, operator: bytes, inputs: Sequence[bytes], integers: Mapping[bytes, int]) -> None:
        """Any node, with its integer attributes."""
        if operator == b"EPContext":
            self._compiled = True
        if operator not in _PACKED:
            return
        packed, what, attribute = _PACKED[operator]
        bits = integers.get(attribute, 4) or 4
        # A matrix of K x N is padded to full blocks and bytes, and so are the zero points of its blocks.
        rows, columns, block = (integers.get(name, 0) for name in (b"K", b"N", b"block_size"))
        numbers = {1: rows * columns, 3: -(-rows // block) * columns} if block else {}
        for at in packed:
            if at < len(inputs):
                self._packed[inputs[at]] = what, bits, numbers.get(at)

    def result(self) -> tuple[int | None, str | None]:
        """Returns the number of elements and the dtype of most."""
        if self._compiled:
            return None, None
        sizes = self._sizes.copy()
        for name, elements, kind in self._initializers:
            if kind == _UINT8 and name in self._packed:
                what, bits, number = self._packed[name]
                sizes[f"{what}{bits}"] += number or elements * 8 // bits
            else:
                sizes[_dtype(kind)] += elements
        return sizes.total(), sizes.most_common(1)[0][0] if sizes else None


def _dtype(kind: int) -> str:
    return _DTYPES.get(kind, f"onnx{kind}")

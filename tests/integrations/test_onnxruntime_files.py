"""What is read in model files: ONNX, quantised and not, ONNX Runtime's own format, and what is neither."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

from ecolyzer_onnxruntime.count import count_parameters
from ecolyzer_onnxruntime.facts import describe


def model_of(
    nodes: list[Any], initializers: list[Any], given: tuple[Any, ...] = ("x", 1, ["n", 4]), **more: Any
) -> Any:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*given)],
        [helper.make_tensor_value_info("y", given[1], None)],
        initializers,
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, **more)


def linear(weights: Any, raw: bool = True) -> Any:
    """y = x W, with W as an initialiser."""
    kind = helper.np_dtype_to_tensor_dtype(weights.dtype)
    held = (
        numpy_helper.from_array(weights, "W")
        if raw
        else helper.make_tensor("W", kind, weights.shape, weights.flatten().tolist())
    )
    return model_of([helper.make_node("MatMul", ["x", "W"], ["y"])], [held], ("x", kind, ["n", weights.shape[0]]))


def constant(array: Any, name: str = "W") -> Any:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array, name))


def facts_of(model: Any) -> Any:
    """Of a session made of it, for what counts is what runs."""
    return describe(onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]))


# Initialisers.


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed-field"])
@pytest.mark.parametrize(
    "kind", [np.float32, np.float64, np.float16, np.int8, np.int64], ids=lambda kind: kind.__name__
)
def test_elements_are_counted_whatever_their_type_and_storage(kind: Any, raw: bool) -> None:
    model = linear(np.ones((300, 7), kind), raw=raw)
    assert count_parameters(model.SerializeToString()) == (2100, np.dtype(kind).name)


def test_the_dtype_is_the_one_that_holds_most() -> None:
    model = linear(np.ones((10, 10), np.float32))
    model.graph.initializer.append(numpy_helper.from_array(np.ones(5, np.int64), "shape"))
    assert count_parameters(model.SerializeToString()) == (105, "float32")


def test_sparse_initialisers_count_the_values_they_hold() -> None:
    model = linear(np.ones((2, 2), np.float32))
    values = numpy_helper.from_array(np.ones(3, np.float32), "S")
    indices = numpy_helper.from_array(np.array([0, 5, 9], np.int64), "I")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [100]))
    assert count_parameters(model.SerializeToString()) == (7, "float32")


def test_a_scalar_is_one_parameter() -> None:
    model = linear(np.ones((2, 2), np.float32))
    model.graph.initializer.append(numpy_helper.from_array(np.array(3.0, np.float32), "scalar"))
    assert count_parameters(model.SerializeToString()) == (5, "float32")


def test_weights_in_a_file_of_their_own_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    onnx.save_model(
        linear(np.ones((64, 64), np.float32)),
        path,
        save_as_external_data=True,
        location="weights",
        size_threshold=0,
    )
    assert path.stat().st_size < 1000
    assert count_parameters(path) == (4096, "float32")


# Elsewhere in the graph.


def test_weights_in_constant_nodes_are_counted_but_no_scalars_and_shapes() -> None:
    """As PaddlePaddle and spox write their models."""
    nodes = [
        constant(np.ones((4, 3), np.float32)),
        constant(np.array(0.5, np.float32), "scalar"),
        constant(np.array([-1, 3], np.int64), "shape"),
        helper.make_node("MatMul", ["x", "W"], ["h"]),
        helper.make_node("Mul", ["h", "scalar"], ["s"]),
        helper.make_node("Reshape", ["s", "shape"], ["y"]),
    ]
    facts = facts_of(model_of(nodes, []))
    assert (facts.parameters, facts.dtype) == (12, "float32")


def test_a_constant_of_floats_is_counted_like_a_tensor() -> None:
    nodes = [
        helper.make_node("Constant", [], ["W"], value_floats=[1.0, 2.0, 3.0, 4.0]),
        helper.make_node("Add", ["x", "W"], ["y"]),
    ]
    assert facts_of(model_of(nodes, [])).parameters == 4


def test_both_branches_of_an_if_and_what_lies_deeper_are_counted() -> None:
    def branch(rows: int, inner: list[Any]) -> Any:
        out = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
        held = numpy_helper.from_array(np.ones((4, rows), np.float32), "B")
        return helper.make_graph(
            [*inner, helper.make_node("MatMul", ["x", "B"], ["o"])], "branch", [], [out], [held]
        )

    deeper = helper.make_node(
        "If",
        ["c"],
        ["unused"],
        then_branch=branch(7, [constant(np.ones(5, np.float32), "k")]),
        else_branch=branch(9, []),
    )
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch(2, [deeper]), else_branch=branch(3, []))
    model = model_of([choice], [numpy_helper.from_array(np.array(True), "c")])
    facts = facts_of(model)
    assert facts.parameters == 4 * (2 + 3 + 7 + 9) + 5 + 1
    assert facts.dtype == "float32"


def test_what_a_function_holds_is_counted_once() -> None:
    body = [constant(np.ones(4, np.float32)), helper.make_node("Add", ["a", "W"], ["b"])]
    function = helper.make_function("own", "Shift", ["a"], ["b"], body, [helper.make_opsetid("", 21)])
    nodes = [
        helper.make_node("Shift", ["x"], ["h"], domain="own"),
        helper.make_node("Shift", ["h"], ["y"], domain="own"),
    ]
    assert facts_of(model_of(nodes, [], functions=[function])).parameters == 4


def test_a_model_compiled_for_a_device_hides_its_weights() -> None:
    node = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft", ep_cache_context=b"...")
    assert count_parameters(model_of([node], []).SerializeToString()) == (None, None)


# Classical models: what was learned are attributes of nodes.


def test_a_converted_linear_model_has_its_scales_coefficients_and_intercepts() -> None:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, x[:, 0] > 0)
    # Five offsets and scales; skl2onnx writes the coefficients of both classes.
    assert count_parameters(to_onnx(model, x[:1]).SerializeToString()) == (5 + 5 + 2 * (5 + 1), "float32")


def test_a_converted_forest_has_as_many_parameters_as_nodes() -> None:
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestClassifier

    x = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    forest = RandomForestClassifier(10, random_state=0).fit(x, x[:, 0] * x[:, 1] > 0)
    nodes = sum(tree.tree_.node_count for tree in forest.estimators_)
    assert count_parameters(to_onnx(forest, x[:1]).SerializeToString()) == (nodes, "float32")


# Quantised models.


def test_half_and_brain_floats_are_told_as_they_are_held() -> None:
    assert count_parameters(linear(np.ones((4, 3), np.float16)).SerializeToString()) == (12, "float16")
    held = helper.make_tensor("W", TensorProto.BFLOAT16, [4, 3], [1.0] * 12)
    nodes = [helper.make_node("MatMul", ["x", "W"], ["y"])]
    brain = model_of(nodes, [held], ("x", TensorProto.BFLOAT16, ["n", 4]))
    assert count_parameters(brain.SerializeToString()) == (12, "bfloat16")


@pytest.mark.parametrize(("kind", "dtype"), [(QuantType.QInt8, "int8"), (QuantType.QUInt8, "uint8")], ids=str)
def test_dynamic_quantisation_leaves_bytes_with_a_scale_and_a_zero_point(
    tmp_path: Path, kind: Any, dtype: str
) -> None:
    onnx.save(linear(np.ones((70, 96), np.float32)), tmp_path / "model.onnx")
    quantize_dynamic(tmp_path / "model.onnx", tmp_path / "quantised.onnx", weight_type=kind)
    facts = describe(onnxruntime.InferenceSession(tmp_path / "quantised.onnx"))
    assert (facts.name, facts.parameters, facts.dtype) == ("quantised", 70 * 96 + 2, dtype)


def test_static_quantisation_adds_scales_and_zero_points_of_input_and_output(tmp_path: Path) -> None:
    class Samples(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter([{"x": np.ones((4, 70), np.float32)}] * 2)

        def get_next(self) -> Any:
            return next(self.left, None)

    onnx.save(linear(np.ones((70, 96), np.float32)), tmp_path / "model.onnx")
    quantize_static(tmp_path / "model.onnx", tmp_path / "quantised.onnx", Samples(), weight_type=QuantType.QInt8)
    assert count_parameters(tmp_path / "quantised.onnx") == (70 * 96 + 3 * 2, "int8")


@pytest.mark.parametrize(("bits", "packed", "points"), [(4, 16, 2), (8, 32, 3)])
def test_weights_packed_in_blocks_are_counted_as_what_they_are(bits: int, packed: int, points: int) -> None:
    """70 x 96 in blocks of 32: three blocks a column, the last one filled up; their zero points to whole bytes."""
    held = [
        numpy_helper.from_array(np.zeros((96, 3, packed), np.uint8), "B"),
        numpy_helper.from_array(np.ones(96 * 3, np.float32), "scales"),
        numpy_helper.from_array(np.zeros(96 * points, np.uint8), "points"),
    ]
    inputs = ["x", "B", "scales", "points"]
    node = helper.make_node(
        "MatMulNBits", inputs, ["y"], domain="com.microsoft", K=70, N=96, bits=bits, block_size=32
    )
    model = model_of([node], held, ("x", TensorProto.FLOAT, ["n", 70]))
    assert count_parameters(model.SerializeToString()) == (70 * 96 + 2 * 96 * 3, f"int{bits}")


def test_an_embedding_packed_in_blocks_has_two_elements_a_byte() -> None:
    held = [
        numpy_helper.from_array(np.zeros((50, 32), np.uint8), "data"),
        numpy_helper.from_array(np.ones((50, 2), np.float32), "scales"),
    ]
    inputs = ["data", "x", "scales"]
    node = helper.make_node("GatherBlockQuantized", inputs, ["y"], domain="com.microsoft", bits=4, block_size=32)
    assert count_parameters(model_of([node], held).SerializeToString()) == (50 * 64 + 50 * 2, "int4")


def test_integers_of_four_bits_have_a_type_of_their_own() -> None:
    held = [
        helper.make_tensor("Q", TensorProto.INT4, [4, 6], [1] * 24),
        numpy_helper.from_array(np.float32(0.1), "scale"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["Q", "scale"], ["W"]),
        helper.make_node("MatMul", ["x", "W"], ["y"]),
    ]
    facts = facts_of(model_of(nodes, held))
    assert (facts.parameters, facts.dtype) == (25, "int4")


# ONNX Runtime's own format.


def saved_as_ort(model: Any, path: Path) -> Path:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert path.read_bytes()[4:8] == b"ORTM"
    return path


def test_an_ort_file_tells_the_same(tmp_path: Path) -> None:
    path = saved_as_ort(linear(np.ones((70, 96), np.float32)), tmp_path / "own.ort")
    for source in (path, str(path), path.read_bytes()):
        facts = describe(onnxruntime.InferenceSession(source))
        assert (facts.parameters, facts.dtype) == (70 * 96, "float32")
    assert describe(onnxruntime.InferenceSession(path)).name == "own"


def test_an_ort_file_tells_of_subgraphs_forests_and_packed_weights(tmp_path: Path) -> None:
    from skl2onnx import to_onnx
    from sklearn.tree import DecisionTreeRegressor

    def branch(rows: int) -> Any:
        out = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
        held = numpy_helper.from_array(np.ones((4, rows), np.float32), "B")
        return helper.make_graph([helper.make_node("MatMul", ["x", "B"], ["o"])], "branch", [], [out], [held])

    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch(2), else_branch=branch(3))
    branches = model_of([choice], [numpy_helper.from_array(np.array(True), "c")])
    assert count_parameters(saved_as_ort(branches, tmp_path / "if.ort")) == (4 * 5 + 1, "float32")

    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    tree = DecisionTreeRegressor(random_state=0).fit(x, x[:, 0])
    forest = saved_as_ort(to_onnx(tree, x[:1], target_opset=17), tmp_path / "tree.ort")
    assert count_parameters(forest) == (tree.tree_.node_count, "float32")

    held = [
        numpy_helper.from_array(np.zeros((96, 3, 16), np.uint8), "B"),
        numpy_helper.from_array(np.ones(96 * 3, np.float32), "scales"),
    ]
    node = helper.make_node(
        "MatMulNBits", ["x", "B", "scales"], ["y"], domain="com.microsoft", K=70, N=96, bits=4, block_size=32
    )
    packed = saved_as_ort(model_of([node], held, ("x", TensorProto.FLOAT, ["n", 70])), tmp_path / "packed.ort")
    assert count_parameters(packed) == (70 * 96 + 96 * 3, "int4")


# The wire.


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def _field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    return _varint(number << 3 | 2) + _varint(len(content)) + content


@pytest.mark.parametrize("packed", [True, False])
def test_dimensions_are_read_packed_and_one_by_one(packed: bool) -> None:
    dims = _field(1, _varint(300) + _varint(4)) if packed else _field(1, 300) + _field(1, 4)
    tensor = dims + _field(2, TensorProto.FLOAT16) + _field(8, b"W")
    unknown = _varint(99 << 3 | 1) + b"\0" * 8 + _varint(98 << 3 | 5) + b"\0" * 4
    model = _field(1, 8) + _field(2, b"producer") + unknown + _field(7, _field(2, b"graph") + _field(5, tensor))
    assert count_parameters(model) == (1200, "float16")


def test_a_model_without_initialisers_has_none() -> None:
    assert count_parameters(_field(1, 8) + _field(7, _field(2, b"graph"))) == (0, None)


@pytest.mark.parametrize(
    "content",
    [
        b"\x18\0\0\0ORTM" + b"\xff" * 40,
        b"\x18\0\0\0ORTM",
        b"",
        b"\x08",
        b"\x3a\xff\xff\x03abc",
        b"\xff" * 12,
        b"\x0b\x0c",
        b"hello world",
    ],
    ids=["ort", "cut-ort", "empty", "cut", "too-long", "varint", "groups", "text"],
)
def test_what_is_no_onnx_has_no_count(content: bytes) -> None:
    assert count_parameters(content) == (None, None)

"""ONNX Runtime with real models: magika's bundled one, scikit-learn's by skl2onnx, and some built by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import magika
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_inference_collection import Session

from ecolyzer_onnxruntime import OnnxRuntimeInstrumentor
from ecolyzer_onnxruntime.graph import count_parameters

MAGIKA = next(Path(magika.__file__).parent.rglob("*.onnx"))


@pytest.fixture(autouse=True)
def _patched(instrumented: Callable[[Any], Any]) -> None:
    instrumented(OnnxRuntimeInstrumentor())


def session(source: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def linear(weights: np.ndarray[Any, Any], name: str = "linear", raw: bool = True) -> onnx.ModelProto:
    """y = x W, with W as an initialiser."""
    kind = helper.np_dtype_to_tensor_dtype(weights.dtype)
    held = (
        numpy_helper.from_array(weights, "W")
        if raw
        else helper.make_tensor("W", kind, weights.shape, weights.flatten().tolist())
    )
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        name,
        [helper.make_tensor_value_info("x", kind, ["n", weights.shape[0]])],
        [helper.make_tensor_value_info("y", kind, ["n", weights.shape[1]])],
        [held],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3)


def batch_for(model: Any, rows: int) -> dict[str, Any]:
    (given,) = model.get_inputs()
    width = given.shape[1] if isinstance(given.shape[1], int) else 1
    kind = {"tensor(int32)": np.int32, "tensor(float)": np.float32}[given.type]
    return {given.name: np.ones((rows, width), dtype=kind)}


def independent_count(model: onnx.ModelProto) -> int:
    return sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)


# Requests.


def test_every_run_is_one_request(calls: Any) -> None:
    model = session(str(MAGIKA))
    assert calls.take() == []
    for _ in range(3):
        model.run(None, batch_for(model, 2))
    found = calls.take()
    assert [(call.spec.framework, call.spec.operation, call.items) for call in found] == [
        ("onnxruntime", "run", 2)
    ] * 3
    assert all(call.model is model for call in found)


def test_the_batch_size_is_that_of_the_first_input(calls: Any) -> None:
    model = session(linear(WEIGHTS).SerializeToString())
    model.run(None, {"x": np.zeros((5, 4), np.float32)})
    model.run(output_names=["y"], input_feed={"x": np.zeros((6, 4), np.float32)})
    assert [call.items for call in calls.take()] == [5, 6]


def test_magika_itself_makes_one_request_per_file(calls: Any) -> None:
    found = magika.Magika().identify_bytes(b"import os\n\n\ndef main() -> None:\n    print(os.getcwd())\n" * 20)
    assert found.output.label == "python"
    assert calls.one().spec.framework == "onnxruntime"


def test_results_are_bit_identical(calls: Any) -> None:
    model = session(linear(WEIGHTS).SerializeToString())
    feed = {"x": np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)}
    patched = model.run(None, feed)[0].tobytes()
    OnnxRuntimeInstrumentor().uninstrument()
    assert model.run(None, feed)[0].tobytes() == patched
    assert len(calls.take()) == 1


def test_an_exception_is_the_one_that_the_runtime_raises(calls: Any) -> None:
    model = session(linear(WEIGHTS).SerializeToString())
    bad = {"x": np.zeros((5, 9), np.float32)}
    with pytest.raises(Exception, match="INVALID_ARGUMENT") as patched:
        model.run(None, bad)
    assert calls.one().error is type(patched.value)
    OnnxRuntimeInstrumentor().uninstrument()
    with pytest.raises(Exception, match="INVALID_ARGUMENT") as plain:
        model.run(None, bad)
    assert (type(plain.value), plain.value.args) == (type(patched.value), patched.value.args)


@pytest.mark.parametrize("feed", [None, [], 3], ids=repr)
def test_a_feed_that_is_none_is_the_runtimes_to_refuse(calls: Any, feed: Any) -> None:
    model = session(linear(WEIGHTS).SerializeToString())

    def refusal() -> tuple[type, str]:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the runtime raises
            model.run(None, feed)
        return type(caught.value), str(caught.value)

    patched = refusal()
    OnnxRuntimeInstrumentor().uninstrument()
    assert refusal() == patched


def test_counts_are_exact_from_four_threads(calls: Any, in_threads: Callable[..., None]) -> None:
    model = session(linear(WEIGHTS).SerializeToString())
    in_threads(lambda: model.run(None, {"x": np.zeros((2, 4), np.float32)}), 4, 100)
    assert len(calls.take()) == 400


# What is told of a model.


def facts_of(calls: Any, model: Any) -> Any:
    model.run(None, batch_for(model, 1))
    return calls.facts()


def test_magikas_model_is_told_by_its_folder_with_its_exact_parameters(calls: Any) -> None:
    facts = facts_of(calls, session(str(MAGIKA)))
    assert facts.name == (MAGIKA.parent.name if MAGIKA.stem == "model" else MAGIKA.stem)
    assert facts.parameters == independent_count(onnx.load(MAGIKA)) > 10_000
    assert (facts.dtype, facts.device) == ("float32", "cpu")


def test_the_name_is_that_of_the_file_or_of_the_graph(calls: Any, tmp_path: Path) -> None:
    path = tmp_path / "classifier.onnx"
    path.write_bytes(linear(WEIGHTS, name="inner").SerializeToString())
    assert facts_of(calls, session(str(path))).name == "classifier"
    assert facts_of(calls, session(path)).name == "classifier"
    assert facts_of(calls, session(path.read_bytes())).name == "inner"


def test_a_file_that_is_gone_since_keeps_its_name(calls: Any, tmp_path: Path) -> None:
    path = tmp_path / "short-lived.onnx"
    path.write_bytes(linear(WEIGHTS).SerializeToString())
    model = session(str(path))
    path.unlink()
    facts = facts_of(calls, model)
    assert (facts.name, facts.parameters, facts.dtype) == ("short-lived", None, None)


def test_a_relative_path_counts_wherever_the_service_goes(calls: Any, tmp_path: Path, monkeypatch: Any) -> None:
    shutil.copy(MAGIKA, tmp_path / "relative.onnx")
    monkeypatch.chdir(tmp_path)
    facts = facts_of(calls, session("relative.onnx"))
    assert (facts.name, facts.parameters) == ("relative", independent_count(onnx.load(MAGIKA)))


def test_a_converted_scikit_learn_model_has_the_parameters_of_its_initialisers(calls: Any) -> None:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, x[:, 0] > 0)
    converted = to_onnx(model, x[:1])
    assert count_parameters(converted.SerializeToString())[0] == independent_count(converted)


# Counting.


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
    [b"ORTM" + b"\xff" * 40, b"", b"\x08", b"\x3a\xff\xff\x03abc", b"\xff" * 12, b"\x0b\x0c", b"hello world"],
    ids=["ort", "empty", "cut", "too-long", "varint", "groups", "text"],
)
def test_what_is_no_onnx_has_no_count(content: bytes) -> None:
    assert count_parameters(content) == (None, None)


# Un-patching.


def test_uninstrument_restores_the_very_method() -> None:
    OnnxRuntimeInstrumentor().uninstrument()
    before = dict(vars(Session))
    OnnxRuntimeInstrumentor().instrument(skip_dep_check=True)
    assert vars(Session)["run"] is not before["run"]
    OnnxRuntimeInstrumentor().uninstrument()
    after = dict(vars(Session))
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    OnnxRuntimeInstrumentor().instrument(skip_dep_check=True)

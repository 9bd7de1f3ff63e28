"""A model of any framework, given to ``ecolyzer_otel.request``, is described by its framework's instrumentor."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecolyzer_otel.worker.describe import describe
from ecolyzer_otel.worker.spec import ModelFacts

X, Y = np.ones((8, 4), np.float32), np.arange(8) % 2


def a_module() -> Any:
    torch = pytest.importorskip("torch")
    return torch.nn.Sequential(torch.nn.Linear(4, 2))


def an_estimator() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression().fit(X + np.eye(8, 4), Y)


def a_booster() -> Any:
    xgboost = pytest.importorskip("xgboost")
    return xgboost.train({"max_depth": 1}, xgboost.DMatrix(X, Y), 1)


def another_booster() -> Any:
    lightgbm = pytest.importorskip("lightgbm")
    return lightgbm.train({"verbosity": -1}, lightgbm.Dataset(X, Y), 1)


def a_keras_model() -> Any:
    keras = pytest.importorskip("keras")
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])


def a_function() -> Any:
    tensorflow = pytest.importorskip("tensorflow")
    weights = tensorflow.Variable(tensorflow.ones((4, 2)))

    @tensorflow.function
    def scored(x: Any) -> Any:
        return x @ weights

    scored(X)
    return scored


def a_pipeline() -> Any:
    transformers = pytest.importorskip("transformers")
    import tiny

    folder = Path(tempfile.mkdtemp()) / "moods"
    transformers.BertForSequenceClassification(tiny.bert()).save_pretrained(folder)
    tiny.tokenizer(folder)
    return transformers.pipeline("text-classification", model=str(folder), device="cpu")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (a_module, ("Sequential", 10, "float32")),
        (an_estimator, ("LogisticRegression", 5, "float64")),
        (a_booster, ("Booster", 1, "float32")),
        (another_booster, ("Booster", 1, "float64")),
        (a_keras_model, ("Sequential", 10, "float32")),
        (a_function, ("scored", 8, "float32")),
        (a_pipeline, ("moods", 12_610, "float32")),
        (lambda: object(), ("object", None, None)),
    ],
)
def test_models_are_described_by_their_framework(make: Any, expected: Any) -> None:
    facts = describe(make())
    name, parameters, dtype = facts.name, facts.parameters, facts.dtype
    assert (name if not name.startswith("sequential") else "Sequential", parameters, dtype) == expected


def test_a_session_is_described_by_its_file(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper, save
    from onnxruntime import InferenceSession

    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])
        for name, width in (("x", 4), ("y", 2))
    ]
    weights = numpy_helper.from_array(np.ones((4, 2), np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weights])
    save(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "fraud.onnx"
    )
    session = InferenceSession(tmp_path / "fraud.onnx", providers=["CPUExecutionProvider"])
    assert describe(session) == ModelFacts("fraud", 8, "float32", "cpu", None)

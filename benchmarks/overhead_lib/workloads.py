"""Workloads: small models, so that the overhead is visible beside the call itself.

A workload is a function without arguments that makes one call of its framework. ``kind`` selects its budget:
the span of a ``leaf`` is started off the request path; that of a ``container``, whose inner calls may have
their own spans, is started at its begin.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["WORKLOADS", "Engine", "Workload"]

Call = Callable[[], Any]


class Workload(NamedTuple):
    """One workload; those of a ``family`` share the worker processes."""

    name: str
    family: str
    kind: str
    about: str
    make: Callable[[Path], Call]


class Engine:
    """A custom framework that does nothing, so that only the overhead remains."""

    def infer(self, value: Any) -> Any:
        return value


def _noop(folder: Path) -> Call:
    engine, row = Engine(), [1.0]
    return lambda: engine.infer(row)


def _torch() -> Any:
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    return torch


def _mlp(folder: Path) -> Call:
    torch = _torch()
    model = torch.nn.Sequential(*(torch.nn.Linear(16, 16) for _ in range(20))).eval()
    row = torch.randn(1, 16)
    return lambda: model(row)


def _conv(folder: Path) -> Call:
    torch = _torch()
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(32, 10),
    ).eval()  # fmt: skip
    picture = torch.randn(1, 3, 32, 32)
    return lambda: model(picture)


def _bert(folder: Path) -> Call:
    torch = _torch()
    from transformers import BertConfig, BertModel

    config = BertConfig(num_hidden_layers=2, hidden_size=128, num_attention_heads=2, intermediate_size=512)
    model = BertModel(config).eval()
    ids = torch.randint(0, 1000, (1, 32))
    return lambda: model(input_ids=ids)


def _tiny() -> Any:
    """The transformers models of the tests, saved and loaded as usual."""
    sys.path.append(str(Path(__file__).parents[2] / "tests" / "integrations"))
    import tiny

    return tiny


def _generate(folder: Path) -> Call:
    torch, tiny = _torch(), _tiny()
    model, ids = tiny.causal(folder / "gpt"), torch.tensor([[6, 7, 8]])
    mask = torch.ones_like(ids)
    return lambda: model.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=False)


def _pipeline(folder: Path) -> Call:
    _torch()
    tiny = _tiny()
    from transformers import BertForSequenceClassification, pipeline

    BertForSequenceClassification(tiny.bert()).save_pretrained(folder / "moods")
    tiny.tokenizer(folder / "moods")
    classify = pipeline("text-classification", model=str(folder / "moods"), device="cpu")
    return lambda: classify("the cat sits")


def _text_generation(folder: Path) -> Call:
    _torch()
    tiny = _tiny()
    from transformers import pipeline

    tiny.causal(folder / "writer")
    tiny.tokenizer(folder / "writer", pairs=False)
    write = pipeline("text-generation", model=str(folder / "writer"), device="cpu")
    return lambda: write("the cat sits", max_new_tokens=4, do_sample=False)


def _onnx(folder: Path) -> Call:
    import numpy
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    random = numpy.random.default_rng(0)
    weights = [random.normal(size=(32, 32)).astype("float32") for _ in range(2)]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w1"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 32]) for name in "xy"]
    initial = [numpy_helper.from_array(value, f"w{index}") for index, value in enumerate(weights)]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {"x": random.normal(size=(1, 32)).astype("float32")}
    return lambda: session.run(None, feed)


def _linear(folder: Path) -> Call:
    from sklearn.datasets import make_classification
    from sklearn.linear_model import LogisticRegression

    rows, labels = make_classification(200, 20, random_state=0)
    model, row = LogisticRegression().fit(rows, labels), rows[:1]
    return lambda: model.predict(row)


def _forest(folder: Path) -> Call:
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier

    rows, labels = make_classification(200, 20, random_state=0)
    model, row = RandomForestClassifier(20, random_state=0, n_jobs=1).fit(rows, labels), rows[:1]
    return lambda: model.predict(row)


def _keras(folder: Path) -> Call:
    import keras
    import numpy

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(16, activation="relu") for _ in range(3)]
    model = keras.Sequential([keras.Input((16,)), *layers, keras.layers.Dense(2)])
    row = numpy.ones((1, 16), "float32")
    return lambda: model(row)


WORKLOADS = {
    one.name: one
    for one in (
        Workload("noop", "plain", "leaf", "an empty method, wrapped by leaf()", _noop),
        Workload("onnx", "plain", "leaf", "ONNX Runtime, two MatMul of 32", _onnx),
        Workload("linear", "plain", "leaf", "scikit-learn LogisticRegression.predict, one row", _linear),
        Workload("forest", "plain", "leaf", "scikit-learn RandomForestClassifier(20).predict, one row", _forest),
        Workload("mlp", "torch", "leaf", "torch, 20 Linear of 16", _mlp),
        Workload("conv", "torch", "leaf", "torch, a conv net of 8 modules, 32 x 32", _conv),
        Workload("bert", "torch", "leaf", "transformers BertModel, 2 layers of 128, 32 tokens", _bert),
        Workload("keras", "keras", "leaf", "Keras model(x), 4 Dense of 16", _keras),
        Workload("pipeline", "torch", "container", "text-classification of a tiny BERT", _pipeline),
        Workload(
            "writer", "torch", "container", "text-generation pipeline of a tiny GPT-2, 4 tokens", _text_generation
        ),
        Workload("generate", "torch", "container", "generate of a tiny GPT-2, 4 tokens", _generate),
    )
}

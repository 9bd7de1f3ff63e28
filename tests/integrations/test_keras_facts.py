"""Keras 3 on TensorFlow: batch sizes, names, numbers of weights and dtypes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecolyzer_keras import KerasInstrumentor

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
if keras.backend.backend() != "tensorflow":
    pytest.skip("another backend is chosen", allow_module_level=True)
layers = keras.layers

X = np.random.default_rng(1).normal(size=(6, 4)).astype("float32")


def _dense(units: int = 2, **options: Any) -> Any:
    return keras.Sequential([layers.Input((4,)), layers.Dense(units, **options)])


pytestmark = [
    pytest.mark.filterwarnings("ignore:Your input ran out of data"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]


@pytest.fixture(autouse=True)
def _patched(instrumented: Callable[[Any], Any]) -> None:
    instrumented(KerasInstrumentor())
    keras.backend.clear_session()


@pytest.mark.parametrize(
    ("predict", "items"),
    [
        (lambda model: model.predict(verbose=0, x=X), 6),
        (lambda model: model.predict(tf.data.Dataset.from_tensor_slices(X).batch(4), verbose=0), 6),
        (lambda model: model.predict(((X[at : at + 2],) for at in (0, 2)), verbose=0), 4),
        (lambda model: model.predict(X, batch_size=2, steps=1, verbose=0), 2),
        (lambda model: model.predict_on_batch(tf.constant(X[:3])), 3),
        (lambda model: model(inputs=X[:3]), 3),
    ],
    ids=["by-name", "dataset", "generator", "steps", "tensor", "named-input"],
)
def test_the_batch_size(calls: Any, predict: Callable[[Any], Any], items: int) -> None:
    predict(_dense())
    assert calls.one().items == items


@pytest.mark.parametrize("given", [[X, X], {"first": X, "second": X}], ids=["list", "dictionary"])
def test_the_batch_size_of_several_inputs(calls: Any, given: Any) -> None:
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    inputs = [first, second] if isinstance(given, list) else {"first": first, "second": second}
    model = keras.Model(inputs, layers.Add()([first, second]))
    model.predict(given, verbose=0)
    model(given)
    assert [call.items for call in calls.take()] == [6, 6]


def test_a_model_has_the_name_of_its_file_or_its_own_or_that_of_its_class(calls: Any, tmp_path: Path) -> None:
    class TextClassifier(keras.Model):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs

    given = keras.Input((4,))
    for file in ("toxicity.keras", "spam/model.keras", "old.h5"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        _dense(name="inner").save(tmp_path / file)
        keras.models.load_model(tmp_path / file)(X)
    for model in (keras.Sequential([_dense()], name="ranker"), _dense(), keras.Model(given, _dense()(given))):
        model(X)
    for _ in range(2):  # the second is called text_classifier_1
        TextClassifier()(X)
    names = [call.spec.describe(call.model).name for call in calls.take()]
    assert names[:3] == ["toxicity", "spam", "old"]
    assert names[3:] == ["ranker", "Sequential", "Functional", "TextClassifier", "TextClassifier"]


def test_all_weights_are_counted_once(calls: Any) -> None:
    shared = layers.Dense(4)
    model = keras.Sequential([layers.Input((4,)), shared, layers.BatchNormalization(), shared, layers.Dropout(0.5)])
    model(X)
    facts = calls.facts()
    assert facts.parameters == (4 * 4 + 4) + 4 * 4 == model.count_params()


@pytest.mark.parametrize(
    ("policy", "dtype"),
    [("mixed_bfloat16", "float32"), ("bfloat16", "bfloat16"), ("float16", "float16"), ("float64", "float64")],
)
def test_the_dtype_is_that_of_the_weights(calls: Any, policy: str, dtype: str) -> None:
    _dense(dtype=policy)(X)
    assert calls.facts().dtype == dtype


@pytest.mark.parametrize("mode", ["int8", "int4"])
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_a_quantized_model_is_described_anew(calls: Any, mode: str) -> None:
    model = _dense(7)
    calls.forgotten()
    try:
        model.quantize(mode)
    except (AttributeError, ValueError):
        pytest.skip("a later version of Keras has this")
    assert id(model) in calls.forgotten()
    model.predict(X, verbose=0)
    facts = calls.facts()
    packed = 4 * (7 - 4) if mode == "int4" else 0  # Keras counts bytes: four for the seven weights of a row
    assert (facts.dtype, facts.parameters) == (mode, model.count_params() + packed)


@pytest.mark.parametrize(
    ("policy", "dtype"), [("gptq/4/-1_from_float32", "int4"), ("gptq/8/-1_from_float32", "uint8")]
)
def test_a_model_saved_after_calibration(calls: Any, policy: str, dtype: str) -> None:
    try:
        model = _dense(7, dtype=policy)
    except ValueError:
        pytest.skip("a later version of Keras has this")
    model.layers[0].is_gptq_calibrated = True
    model(X)
    packed = 4 * (7 - 4) if dtype == "int4" else 0
    facts = calls.facts()
    assert (facts.dtype, facts.parameters) == (dtype, model.count_params() + packed)

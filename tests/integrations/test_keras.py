"""Keras 3 on TensorFlow: which calls of a model are requests, and what is told of it."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecolyzer_keras import KerasInstrumentor
from ecolyzer_otel import instrumentor as base
from ecolyzer_otel.worker import training
from ecolyzer_tensorflow import TensorFlowInstrumentor

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
if keras.backend.backend() != "tensorflow":
    pytest.skip("another backend is chosen", allow_module_level=True)
layers = keras.layers

X = np.random.default_rng(1).normal(size=(6, 4)).astype("float32")
Y = np.zeros((6, 2), "float32")
WEIGHTS = 4 * 8 + 8 + 4 * 8 + 8 * 2 + 2
WAYS: dict[str, Callable[[Any], Any]] = {
    "predict": lambda model: model.predict(X, batch_size=4, verbose=0),
    "predict_on_batch": lambda model: model.predict_on_batch(X),
    "evaluate": lambda model: model.evaluate(X, Y, verbose=0),
    "test_on_batch": lambda model: model.test_on_batch(X, Y),
    "call": lambda model: model(X),
}


def _sequential(**options: Any) -> Any:
    found = [layers.Input((4,)), layers.Dense(8), layers.BatchNormalization(), layers.Dense(2)]
    model = keras.Sequential(found, **options)
    model.compile("sgd", "mse")
    return model


def _functional(**options: Any) -> Any:
    given = keras.Input((4,))
    model = keras.Model(given, _sequential()(given), **options)
    model.compile("sgd", "mse")
    return model


class Classifier(keras.Model):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.body = _sequential()
        self.compile("sgd", "mse")

    def call(self, inputs: Any) -> Any:
        return self.body(inputs)


@pytest.fixture(autouse=True)
def _patched(instrumented: Callable[[Any], Any]) -> Iterator[None]:
    instrumented(TensorFlowInstrumentor())
    instrumented(KerasInstrumentor())
    yield
    keras.backend.clear_session()


# What is a request.


@pytest.mark.parametrize("make", [_sequential, _functional, Classifier], ids=["sequential", "functional", "class"])
def test_every_way_to_call_a_model_is_one_request(calls: Any, make: Callable[[], Any]) -> None:
    model = make()
    assert calls.take() == [], "building and compiling is none"
    for operation, run in WAYS.items():
        run(model)
        call = calls.one()
        assert (call.spec.framework, call.spec.operation, call.items) == ("keras", operation, 6)
        assert call.model is model
    facts = call.spec.describe(model)
    assert (facts.parameters, facts.dtype, facts.device) == (WEIGHTS, "float32", "cpu")
    assert facts.parameters == model.count_params()


def test_a_layer_on_its_own_and_symbolic_calls_are_none(calls: Any) -> None:
    model = _sequential()
    layers.Dense(3)(X)
    model(keras.Input((4,)))
    model.compute_output_spec(keras.Input((4,)))
    assert calls.take() == []


def test_tracing_exporting_and_datasets_are_none(calls: Any, tmp_path: Path) -> None:
    model = _sequential()
    tf.function(model).get_concrete_function(tf.TensorSpec((None, 4)))
    model.export(str(tmp_path / "exported"))
    assert len(list(tf.data.Dataset.from_tensor_slices(X).batch(2).map(model))) == 3
    assert calls.take() == []


def test_a_function_of_tensorflow_around_models_is_the_request(calls: Any) -> None:
    one, other = _sequential(), _sequential()

    @tf.function
    def ensemble(x: Any) -> Any:
        return one(x) + other(x)

    for _ in range(2):
        ensemble(X)
        call = calls.one()
        facts = call.spec.describe(call.model)
        assert (call.spec.framework, facts.name, facts.parameters) == ("tensorflow", "ensemble", 2 * WEIGHTS)


def test_the_call_that_traced_is_a_warm_up(calls: Any) -> None:
    model = _sequential()
    for run in (WAYS["predict"], WAYS["predict_on_batch"]):
        run(model)
        run(model)
        first, second = calls.take()
        assert first.ensure_details().warmup
        assert not second.ensure_details().warmup


# Training.


def test_training_is_told_apart(calls: Any) -> None:
    model = _sequential()
    model.fit(X, Y, validation_data=(X, Y), verbose=0)
    model.train_on_batch(X, Y)
    model(X, training=True)
    assert calls.take() == []
    model(X, training=False)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(X) ** 2)
    tape.gradient(loss, model.trainable_variables)
    served, trained = calls.take()
    assert not served.ensure_details().training
    assert trained.ensure_details().training


def test_training_counts_where_that_is_asked_for(calls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_counts", True)
    _sequential()(X, training=True)
    assert calls.operations() == ["call"]


# Nothing else changes.


def test_results_are_bit_identical(calls: Any) -> None:
    model = Classifier()
    patched = [np.asarray(run(model)).tobytes() for run in WAYS.values()]
    assert len(calls.take()) == len(WAYS)
    KerasInstrumentor().uninstrument()
    TensorFlowInstrumentor().uninstrument()
    assert [np.asarray(run(model)).tobytes() for run in WAYS.values()] == patched
    assert calls.take() == []


@pytest.mark.parametrize("operation", ["predict", "predict_on_batch", "call"])
def test_an_exception_of_the_model_is_the_callers(calls: Any, operation: str) -> None:
    class Broken(keras.Model):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            raise RuntimeError("no such feature")

    with pytest.raises(RuntimeError, match="no such feature"):
        WAYS[operation](Broken())
    assert calls.one().error is RuntimeError


def test_counts_are_exact_from_threads_and_event_loops(calls: Any, in_threads: Callable[..., None]) -> None:
    model = _sequential()
    model.predict_on_batch(X)
    calls.take()
    in_threads(lambda: (model(X), model.predict_on_batch(X)), 4, 20)
    assert sorted(calls.operations()) == ["call"] * 80 + ["predict_on_batch"] * 80

    async def serve() -> None:
        await asyncio.gather(*(asyncio.to_thread(model, X) for _ in range(20)))

    asyncio.run(serve())
    assert calls.operations() == ["call"] * 20


def test_uninstrument_restores_every_attribute() -> None:
    owners = [
        keras.Model, sys.modules["keras.src.saving.saving_lib"],
        sys.modules["keras.src.legacy.saving.legacy_h5_format"],
    ]  # fmt: skip
    signatures = {name: inspect.signature(getattr(keras.Model, name)) for name in WAYS if name != "call"}
    KerasInstrumentor().uninstrument()
    assert signatures == {name: inspect.signature(getattr(keras.Model, name)) for name in signatures}
    before = [dict(vars(owner)) for owner in owners]
    KerasInstrumentor().instrument(skip_dep_check=True)
    assert all(dict(vars(owner)) != found for owner, found in zip(owners, before, strict=True))
    KerasInstrumentor().uninstrument()
    assert [dict(vars(owner)) for owner in owners] == before


def test_ten_thousand_calls_leave_nothing_behind(calls: Any) -> None:
    class Echo(keras.Model):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs

    model, x = Echo(), tf.constant(X)
    assert calls.left_behind(lambda: model(x)) < 5_000


def test_keras_is_not_imported_by_us() -> None:
    code = """
import sys
from ecolyzer_keras import KerasInstrumentor
KerasInstrumentor().instrument(skip_dep_check=True)
sys.exit(bool({"keras", "tensorflow", "torch", "numpy"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=240).returncode == 0


@pytest.mark.parametrize("version", ["2.15.0", "4.0.0"])
def test_another_version_is_skipped_with_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, version: str
) -> None:
    KerasInstrumentor().uninstrument()
    monkeypatch.setattr(keras, "__version__", version)
    monkeypatch.setattr(base, "_warned", set())
    before = dict(vars(keras.Model))
    for _ in range(2):
        KerasInstrumentor().instrument(skip_dep_check=True)
        assert dict(vars(keras.Model)) == before
        KerasInstrumentor().uninstrument()
    (line,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert line.startswith(f"ecolyzer: keras {version} is not supported (3.0 and later, before 4)")

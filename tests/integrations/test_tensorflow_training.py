"""TensorFlow: functions that train are told apart from those that serve."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ecolyzer_otel.worker import training
from ecolyzer_tensorflow import TensorFlowInstrumentor

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf = pytest.importorskip("tensorflow")

X = np.ones((5, 4), "float32")


class Scorer(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.bias = tf.Variable(tf.ones((4, 3))), tf.Variable([0.1, 0.2, 0.3])

    @tf.function(input_signature=[tf.TensorSpec((None, 4), name="x")])
    def __call__(self, x: Any) -> Any:
        return tf.nn.softmax(x @ self.kernel + self.bias)


@pytest.fixture(autouse=True)
def _patched(instrumented: Callable[[Any], Any]) -> None:
    instrumented(TensorFlowInstrumentor())


def _training_step(scorer: Scorer) -> Any:
    @tf.function
    def step(x: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(scorer(x) ** 2)
        scorer.bias.assign_sub(tape.gradient(loss, scorer.bias))
        return loss

    return step


def test_a_function_that_takes_gradients_of_variables_is_training(calls: Any) -> None:
    step = _training_step(Scorer())
    step(X)
    assert calls.one().ensure_details().training
    step(X)
    assert calls.take() == []


def test_a_call_under_a_tape_is_training_once_gradients_are_taken(calls: Any) -> None:
    scorer = Scorer()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(scorer(tf.constant(X)))
    call = calls.one()
    assert (call.ensure_details().maybe_training, call.ensure_details().training) == (True, False)
    tape.gradient(loss, {"bias": scorer.bias})
    assert call.ensure_details().training


def test_gradients_with_respect_to_inputs_only_explain_a_prediction(calls: Any) -> None:
    scorer = Scorer()

    @tf.function
    def explain(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            best = tf.reduce_max(scorer(x), axis=-1)
        return tape.gradient(best, x)

    for _ in range(2):
        explain(tf.constant(X))
        assert not calls.one().ensure_details().training


def test_training_counts_where_that_is_asked_for(calls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_counts", True)
    step = _training_step(Scorer())
    for _ in range(2):
        step(X)
        assert not calls.one().ensure_details().training

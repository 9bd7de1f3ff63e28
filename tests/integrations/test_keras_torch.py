"""Keras 3 on torch, in a process of its own: the backend is chosen when Keras is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not (find_spec("keras") and find_spec("torch")), reason="needs Keras and torch")

SERVED = """
import json, sys
from ecolyzer_keras import KerasInstrumentor
from ecolyzer_torch import TorchInstrumentor
INSTRUMENTORS = KerasInstrumentor(), TorchInstrumentor()
for one in INSTRUMENTORS:
    one.instrument(skip_dep_check=True)
import numpy as np
import keras, torch
from ecolyzer_otel.call import replace_state, state
replace_state(lambda here: None)
told, layers = {}, keras.layers

def tell(name):
    here = state()
    assert not here.open and not here.dropped
    told[name] = []
    while here.done:
        call = here.done.popleft()
        facts = call.spec.describe(call.model)
        told[name].append([call.spec.framework, call.spec.operation, call.items, facts.name, facts.parameters,
                           facts.dtype, facts.device, call.error and call.error.__name__,
                           bool(call.more and call.more.training)])

x, y = np.ones((6, 4), "float32"), np.zeros((6, 2), "float32")

class Classifier(keras.Model):
    def __init__(self):
        super().__init__()
        self.body = keras.Sequential([layers.Dense(8), layers.Dense(2)])
    def call(self, inputs):
        return self.body(inputs)

model = Classifier()
model.compile("sgd", "mse")
model(x)
tell("call")
ways = {
    "predict": lambda: model.predict(x, batch_size=4, verbose=0),
    "predict_on_batch": lambda: model.predict_on_batch(x),
    "evaluate": lambda: model.evaluate(x, y, verbose=0),
    "test_on_batch": lambda: model.test_on_batch(x, y),
}
for name, run in ways.items():
    run()
    tell(name)
layers.Dense(3)(x)
model(keras.Input((4,)))
tell("layer and symbolic")
torch.nn.Linear(4, 4)(torch.ones(2, 4))
tell("torch")
try:
    model(np.ones((6, 5), "float32"))
except ValueError:
    tell("error")
model.fit(x, y, validation_data=(x, y), verbose=0)
model.train_on_batch(x, y)
model(x, training=True)
tell("training")
model(x).mean().backward()
tell("backward")
graphs = []
def backend(graph, inputs):
    graphs.append(graph)
    return graph.forward
compiled = torch.compile(model, backend=backend)
ones = torch.ones(6, 4)
with torch.no_grad():
    compiled(ones)
    compiled(ones)
tell("compiled")
patched, graphs_patched = [np.asarray(run()).tobytes() for run in ways.values()], len(graphs)
for one in INSTRUMENTORS:
    one.uninstrument()
state().done.clear()
told["same"] = [np.asarray(run()).tobytes() for run in ways.values()] == patched
graphs.clear()
torch._dynamo.reset()
with torch.no_grad():
    torch.compile(model, backend=backend)(ones)
told["graphs"] = [graphs_patched, len(graphs)]
owners = keras.Model, torch.nn.Module, sys.modules["keras.src.backend.torch.layer"].TorchLayer
told["left"] = [name for owner in owners for name, value in vars(owner).items()
                if "ecolyzer" in getattr(getattr(value, "__code__", None), "co_filename", "")]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    environment = {**os.environ, "KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", SERVED], capture_output=True, text=True, timeout=240, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


FACTS = ["Classifier", 4 * 8 + 8 + 8 * 2 + 2, "float32", "cpu"]


@pytest.mark.parametrize("operation", ["call", "predict", "predict_on_batch", "evaluate", "test_on_batch"])
def test_every_way_to_call_a_model_is_one_request(told: dict[str, Any], operation: str) -> None:
    assert told[operation] == [["keras", operation, 6, *FACTS, None, False]]


def test_layers_and_symbolic_calls_are_none_and_torchs_own_modules_are_torchs(told: dict[str, Any]) -> None:
    assert told["layer and symbolic"] == []
    assert told["torch"] == [["torch", "forward", 2, "Linear", 20, "float32", "cpu", None, False]]


def test_an_exception_of_the_model_is_the_callers(told: dict[str, Any]) -> None:
    assert told["error"] == [["keras", "call", 6, *FACTS, "ValueError", False]]


def test_training_is_told_apart(told: dict[str, Any]) -> None:
    assert told["training"] == []
    assert told["backward"] == [["keras", "call", 6, *FACTS, None, True]]


def test_a_compiled_model_is_one_request_and_its_graphs_are_as_without_us(told: dict[str, Any]) -> None:
    assert told["compiled"] == [["torch", "forward", 6, *FACTS, None, False]] * 2
    patched, plain = told["graphs"]
    assert patched == plain >= 1


def test_results_are_bit_identical_and_nothing_of_ours_is_left(told: dict[str, Any]) -> None:
    assert told["same"]
    assert told["left"] == []

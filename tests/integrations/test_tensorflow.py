"""TensorFlow: functions, concrete functions and SavedModels; what is a request, and what only looks like one."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecolyzer_otel.worker.thread_ids import get_ident
from ecolyzer_tensorflow import TensorFlowInstrumentor

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf = pytest.importorskip("tensorflow")

ROWS = tf.TensorSpec((None, 4), name="x")
X = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")


class Encoder(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(tf.random.stateless_normal((4, 8), (1, 2)))

    @tf.function(input_signature=[ROWS])
    def embed(self, x: Any) -> Any:
        return tf.nn.relu(x @ self.kernel)


class Ranker(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.kernel = tf.Variable(tf.random.stateless_normal((8, 3), (3, 4)))
        self.bias = tf.Variable([0.1, 0.2, 0.3])
        self.seen = tf.Variable([0, 0])

    @tf.function(input_signature=[ROWS])
    def __call__(self, x: Any) -> Any:
        return tf.nn.softmax(self.encoder.embed(x) @ self.kernel + self.bias)


#: Everything but the two integers that no function touches.
WEIGHTS = 4 * 8 + 8 * 3 + 3


@pytest.fixture(autouse=True)
def _patched(instrumented: Callable[[Any], Any]) -> None:
    instrumented(TensorFlowInstrumentor())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SavedModel where servers keep versions."""
    path = str(tmp_path_factory.mktemp("models") / "ranker" / "1")
    ranker = Ranker()
    tf.saved_model.save(ranker, path, signatures={"rank": ranker.__call__, "embed": ranker.encoder.embed})
    return path


# What is a request, and what is told of it.


def test_a_function_is_one_request_and_the_first_call_that_traced_a_warm_up(calls: Any) -> None:
    ranker = Ranker()
    doubled = tf.function(lambda x: ranker(x) * 2)
    doubled(X)
    doubled(X)
    doubled(tf.zeros((2, 4)))
    first, second, other_shape = calls.take()
    assert (second.spec.framework, second.spec.operation, second.items, second.thread) == (
        "tensorflow", "call", 5, get_ident(),
    )  # fmt: skip
    assert other_shape.items == 2
    assert [first.ensure_details().warmup, second.ensure_details().warmup] == [True, False]
    facts = second.spec.describe(doubled)
    assert (facts.name, facts.parameters, facts.dtype, facts.device) == ("lambda", WEIGHTS, "float32", "cpu")


@pytest.mark.parametrize(
    ("get", "name", "parameters"),
    [
        (lambda ranker: ranker, "Ranker", WEIGHTS),
        (lambda ranker: ranker.__call__.get_concrete_function(), "Ranker", WEIGHTS),
        (lambda ranker: ranker.encoder.embed, "embed", 4 * 8),
        (lambda ranker: tf.function(ranker.encoder.embed, jit_compile=True), "embed", 4 * 8),
    ],
    ids=["callable", "concrete", "method", "xla"],
)
def test_methods_and_concrete_functions_are_requests(
    calls: Any, get: Callable[[Any], Any], name: str, parameters: int
) -> None:
    ranker = Ranker()
    called = get(ranker)
    assert calls.take() == []
    called(tf.constant(X))
    (call,) = calls.take()
    facts = call.spec.describe(call.model)
    assert (call.items, facts.name, facts.parameters, facts.dtype) == (5, name, parameters, "float32")


@pytest.mark.parametrize(
    ("get", "operation", "parameters"),
    [
        (lambda loaded: loaded, "call", WEIGHTS),
        (lambda loaded: loaded.signatures["rank"], "rank", WEIGHTS),
        (lambda loaded: loaded.signatures["embed"], "embed", 4 * 8),
        (lambda loaded: loaded.encoder.embed, "embed", 4 * 8),
    ],
    ids=["itself", "signature", "other-signature", "part"],
)
def test_what_was_loaded_has_the_name_of_its_folder(
    calls: Any, folder: str, get: Callable[[Any], Any], operation: str, parameters: int
) -> None:
    loaded = tf.saved_model.load(folder)
    called = get(loaded)
    assert calls.take() == []
    called(x=tf.constant(X))
    (call,) = calls.take()
    facts = call.spec.describe(call.model)
    assert (call.spec.operation, call.items) == (operation, 5)
    assert (facts.name, facts.parameters, facts.dtype, facts.device) == ("ranker", parameters, "float32", "cpu")


def test_a_model_saved_by_tensorflow_1_is_one_request(calls: Any, tmp_path: Path) -> None:
    old, path = tf.compat.v1, str(tmp_path / "legacy")
    with tf.Graph().as_default(), old.Session() as session:
        x = old.placeholder(tf.float32, (None, 4))
        y = x @ old.get_variable("kernel", (4, 3))
        session.run(old.global_variables_initializer())
        old.saved_model.simple_save(session, path, {"x": x}, {"y": y})
    loaded = tf.saved_model.load(path)
    assert calls.take() == [], "variables are restored by functions"
    loaded.signatures["serving_default"](x=tf.constant(X))
    (call,) = calls.take()
    facts = call.spec.describe(call.model)
    assert (call.spec.operation, call.items) == ("serving_default", 5)
    assert (facts.name, facts.parameters, facts.dtype) == ("legacy", 12, "float32")


def test_the_batch_size_is_that_of_the_first_array_wherever_it_stands(calls: Any) -> None:
    @tf.function
    def score(query: Any, limit: Any = None, documents: Any = None) -> Any:
        return tf.constant(1)

    score(X)
    score(limit=3, query=X)
    score({"first": X, "second": X[:1]})
    score(None, 2, [X, X[:1]])
    score(2.0)
    assert [call.items for call in calls.take()] == [5, 5, 5, 5, 1]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_the_dtype_is_that_of_most_weights(calls: Any, dtype: str) -> None:
    kernel, bias = tf.Variable(tf.ones((4, 3), dtype)), tf.Variable(tf.zeros(3))
    tf.function(lambda x: tf.cast(tf.cast(x, dtype) @ kernel, tf.float32) + bias)(X)
    facts = calls.facts()
    assert (facts.parameters, facts.dtype) == (15, dtype)


def test_tracing_saving_loading_and_datasets_are_no_requests(calls: Any, tmp_path: Path) -> None:
    ranker = Ranker()
    words = tf.lookup.KeyValueTensorInitializer(["yes", "no"], [1, 0])
    ranker.table = tf.lookup.StaticHashTable(words, -1)  # initialised by a function when it is loaded
    ranker.__call__.get_concrete_function()
    tf.saved_model.save(ranker, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    loaded.table._initialize()
    del loaded
    gc.collect()  # here the table is ended by another
    tf.train.Checkpoint(model=ranker).save(str(tmp_path / "checkpoint"))
    assert len(list(tf.data.Dataset.from_tensor_slices(X).batch(2).map(ranker))) == 3
    assert calls.take() == []


def test_tensorflows_own_functions_are_none(calls: Any) -> None:
    boxes, scores = tf.constant([[[0.0, 0.0, 1.0, 1.0]] * 3]), tf.constant([[0.9, 0.8, 0.7]])
    tf.image.non_max_suppression_padded(boxes, scores, 2, pad_to_max_output_size=True)
    assert calls.take() == []


def test_functions_that_run_eagerly_are_requests_too(calls: Any) -> None:
    ranker = Ranker()
    tf.config.run_functions_eagerly(True)
    try:
        ranker(tf.constant(X))
    finally:
        tf.config.run_functions_eagerly(False)
    assert calls.one().items == 5


# Nothing else changes.


def test_results_are_bit_identical(calls: Any, folder: str) -> None:
    ranker = Ranker()
    ways = [ranker, tf.saved_model.load(folder), tf.function(ranker.encoder.embed, jit_compile=True)]
    patched = [way(tf.constant(X)).numpy().tobytes() for way in ways]
    assert len(calls.take()) == 3
    TensorFlowInstrumentor().uninstrument()
    assert [way(tf.constant(X)).numpy().tobytes() for way in ways] == patched
    assert calls.take() == []


def test_arguments_may_have_any_name(calls: Any) -> None:
    total = tf.function(lambda call, function, original: call + function + original)
    assert float(total(call=1.0, function=2.0, original=3.0)) == 6.0
    assert calls.operations() == ["call"]


def test_an_exception_of_the_function_is_the_callers(calls: Any) -> None:
    @tf.function
    def check(x: Any) -> Any:
        tf.debugging.assert_positive(x, "must be positive")
        return x

    with pytest.raises(tf.errors.InvalidArgumentError, match="must be positive"):
        check(-tf.ones(3))
    assert calls.one().error is tf.errors.InvalidArgumentError
    with pytest.raises(TypeError):
        Ranker()(tf.zeros((2, 7)))
    assert calls.one().error is TypeError


def test_counts_are_exact_from_threads_and_event_loops(calls: Any, in_threads: Callable[..., None]) -> None:
    ranker, x = Ranker(), tf.constant(X)
    in_threads(lambda: ranker(x), 4, 50)
    assert [call.items for call in calls.take()] == [5] * 200

    async def serve() -> None:
        await asyncio.gather(*(asyncio.to_thread(ranker, x) for _ in range(20)))

    asyncio.run(serve())
    assert calls.operations() == ["call"] * 20


def test_uninstrument_restores_every_attribute() -> None:
    from tensorflow.python.eager.polymorphic_function import concrete_function, polymorphic_function
    from tensorflow.python.saved_model import load

    owners = [
        polymorphic_function.Function, polymorphic_function._FrequentTracingDetectorManager,
        concrete_function.ConcreteFunction, tf.GradientTape, load, tf.lite.Interpreter,
        sys.modules["tensorflow.lite.python.interpreter"].SignatureRunner,
    ]  # fmt: skip
    TensorFlowInstrumentor().uninstrument()
    before = [dict(vars(owner)) for owner in owners]
    TensorFlowInstrumentor().instrument(skip_dep_check=True)
    assert all(dict(vars(owner)) != found for owner, found in zip(owners, before, strict=True))
    TensorFlowInstrumentor().uninstrument()
    assert [dict(vars(owner)) for owner in owners] == before


def test_ten_thousand_calls_leave_nothing_behind(calls: Any) -> None:
    half, x = tf.function(lambda x: x / 2), tf.constant(X)
    assert calls.left_behind(lambda: half(x)) < 5_000


def test_a_function_is_not_kept_alive(calls: Any) -> None:
    half = tf.function(lambda x: x / 2)
    half(X)
    gone = weakref.ref(half)
    calls.take()
    del half
    gc.collect()
    assert gone() is None


def test_tensorflow_is_not_imported_by_us() -> None:
    code = """
import sys
from ecolyzer_tensorflow import TensorFlowInstrumentor
TensorFlowInstrumentor().instrument(skip_dep_check=True)
sys.exit(bool({"tensorflow", "keras", "numpy"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=240).returncode == 0

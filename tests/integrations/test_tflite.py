"""TFLite interpreters, TensorFlow's and those of LiteRT: ``invoke`` and signature runners."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecolyzer_tensorflow import TensorFlowInstrumentor
from ecolyzer_tensorflow.flatbuffer import count_constants

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
X = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")
#: Large enough that the converter quantizes them.
WEIGHTS = 4 * 600 + 600 + 600 * 3 + 3


class Scorer(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        normal = tf.random.stateless_normal
        self.kernels = [tf.Variable(normal((4, 600), (1, 2))), tf.Variable(normal((600, 3), (3, 4)))]
        self.biases = [tf.Variable(normal((600,), (5, 6))), tf.Variable(normal((3,), (7, 8)))]

    @tf.function(input_signature=[tf.TensorSpec((None, 4), name="x")])
    def score(self, x: Any) -> Any:
        hidden = tf.nn.relu(x @ self.kernels[0] + self.biases[0])
        return {"scores": hidden @ self.kernels[1] + self.biases[1]}


def _converted(change: Callable[[Any], None]) -> bytes:
    scorer = Scorer()
    function = scorer.score.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], scorer)
    change(converter)
    return bytes(converter.convert())


def _plain(converter: Any) -> None:
    return


def _dynamic(converter: Any) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]


def _half(converter: Any) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


def _whole(converter: Any) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([X[:1]] for _ in range(3))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "scorer.tflite"
    path.write_bytes(_converted(_plain))
    return path


#: The packages of interpreters that are there.
MODULES = [
    name
    for name in ("tensorflow.lite.python.interpreter", "ai_edge_litert.interpreter", "tflite_runtime.interpreter")
    if importlib.util.find_spec(name.partition(".")[0])
]


@pytest.fixture(params=MODULES)
def interpreter(request: Any, instrumented: Callable[[Any], Any]) -> Any:
    """The class, of each package that has one."""
    module = importlib.import_module(request.param)
    instrumented(TensorFlowInstrumentor())
    return module.Interpreter


def _fed(interpreter: Any, x: Any = X) -> Any:
    where = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(where, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(where, x)
    return interpreter


def test_invoke_is_one_request_named_after_the_file(calls: Any, interpreter: Any, file: Path) -> None:
    model = _fed(interpreter(str(file)))
    assert calls.take() == []
    model.invoke()
    call = calls.one()
    assert (call.spec.framework, call.spec.operation, call.items) == ("tensorflow", "invoke", 5)
    assert call.model is model
    facts = call.spec.describe(model)
    assert (facts.name, facts.parameters, facts.dtype, facts.device) == ("scorer", WEIGHTS, "float32", "cpu")


def test_a_signature_runner_is_one_request_of_its_interpreter(calls: Any, interpreter: Any, file: Path) -> None:
    model = interpreter(model_path=file.as_posix())
    runner = model.get_signature_runner("serving_default")
    assert calls.take() == []
    runner(x=X)
    call = calls.one()
    assert (call.spec.operation, call.items) == ("serving_default", 5)
    assert call.model is model


def test_a_model_from_memory_is_described_too(calls: Any, interpreter: Any, file: Path) -> None:
    _fed(interpreter(model_content=file.read_bytes())).invoke()
    facts = calls.facts()
    assert (facts.name, facts.parameters, facts.dtype) == ("tflite", WEIGHTS, "float32")


def test_results_are_bit_identical_and_signatures_kept(calls: Any, interpreter: Any, file: Path) -> None:
    def run() -> list[bytes]:
        model = _fed(interpreter(str(file)))
        model.invoke()
        invoked = model.get_tensor(model.get_output_details()[0]["index"])
        (signed,) = interpreter(str(file)).get_signature_runner()(x=X).values()
        return [invoked.tobytes(), signed.tobytes()]

    patched = run()
    assert calls.operations() == ["invoke", "serving_default"]
    TensorFlowInstrumentor().uninstrument()
    assert run() == patched
    assert calls.take() == []


def test_exceptions_are_the_callers(calls: Any, interpreter: Any, file: Path) -> None:
    model = interpreter(str(file))
    with pytest.raises(RuntimeError, match="not ready"):
        model.invoke()
    assert calls.one().error is RuntimeError
    runner = model.get_signature_runner()
    for wrong in ({}, {"y": X}):
        with pytest.raises(ValueError, match="Invalid"):
            runner(**wrong)
        assert calls.one().error is ValueError
    with pytest.raises(TypeError):
        runner(X)
    with pytest.raises(ValueError, match="open"):
        interpreter("nowhere.tflite")


def test_an_interpreter_for_each_thread(calls: Any, interpreter: Any, file: Path, in_threads: Any) -> None:
    in_threads(lambda: _fed(interpreter(str(file))).invoke(), 4, 10)
    assert [call.items for call in calls.take()] == [5] * 40


def test_ten_thousand_calls_leave_nothing_behind(calls: Any, interpreter: Any, file: Path) -> None:
    model = _fed(interpreter(str(file)), X[:1])
    assert calls.left_behind(model.invoke) < 5_000
    runner = model.get_signature_runner()
    assert calls.left_behind(lambda: runner(x=X[:1]), 2_000) < 5_000


@pytest.mark.parametrize(
    ("change", "dtype"),
    [(_dynamic, "int8"), (_half, "float16"), (_whole, "int8")],
    ids=["dynamic-range", "half", "full-integer"],
)
def test_quantized_models_have_the_dtype_of_their_weights(tmp_path: Path, change: Any, dtype: str) -> None:
    content = _converted(change)
    assert count_constants(content) == (WEIGHTS, dtype)
    path = tmp_path / "quantized.tflite"
    path.write_bytes(content)
    assert count_constants(str(path)) == (WEIGHTS, dtype)


def test_what_is_no_model_is_counted_as_unknown(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for source in (b"", b"\0\0\0", b"\x10\0\0\0 nothing", str(tmp_path / "empty"), str(tmp_path / "absent")):
        assert count_constants(source) == (None, None)


def test_an_interpreter_imported_later_is_patched_without_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert" / "__init__.py").touch()
    (tmp_path / "ai_edge_litert" / "interpreter.py").write_text("""
class Interpreter:
    def __init__(self, model_path=None):
        pass
    def invoke(self):
        pass
class SignatureRunner:
    def __call__(self, **kwargs):
        pass
""")
    code = """
import sys
from ecolyzer_tensorflow import TensorFlowInstrumentor
TensorFlowInstrumentor().instrument(skip_dep_check=True)
from ecolyzer_otel.call import replace_state, state
replace_state(lambda here: None)
from ai_edge_litert.interpreter import Interpreter
Interpreter("scorer.tflite").invoke()
assert "tensorflow" not in sys.modules
print(*(call.spec.describe(call.model).name for call in state().done))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == ["scorer"]

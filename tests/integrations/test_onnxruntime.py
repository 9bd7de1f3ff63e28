"""ONNX Runtime with real models: magika's bundled one, and some built by hand."""

from __future__ import annotations

import asyncio
import gc
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import magika
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as native
from onnxruntime.capi.onnxruntime_inference_collection import IOBinding, Session

from ecolyzer_onnxruntime import OnnxRuntimeInstrumentor
from ecolyzer_otel.call import current_call, state
from ecolyzer_otel.wrap import training

MAGIKA = next(Path(magika.__file__).parent.rglob("*.onnx"))


@pytest.fixture(autouse=True)
def _patched(instrumented: Callable[[Any], Any]) -> None:
    instrumented(OnnxRuntimeInstrumentor())


def session(source: Any, threads: int = 1) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def linear(weights: np.ndarray[Any, Any], name: str = "linear") -> onnx.ModelProto:
    """y = x W, with W as an initialiser."""
    kind = helper.np_dtype_to_tensor_dtype(weights.dtype)
    held = numpy_helper.from_array(weights, "W")
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


def through_run(model: Any, x: Any) -> Any:
    return model.run(None, {"x": x})[0]


def through_ort_values(model: Any, x: Any) -> Any:
    return model.run_with_ort_values(None, {"x": onnxruntime.OrtValue.ortvalue_from_numpy(x)})[0].numpy()


def through_a_binding(model: Any, x: Any) -> Any:
    binding = model.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y")
    model.run_with_iobinding(binding)
    return binding.copy_outputs_to_cpu()[0]


def through_a_vector(model: Any, x: Any) -> Any:
    value = native.OrtValue.ortvalue_from_numpy(x, CPU)
    feeds, fetches = native.OrtValueVector(), native.OrtValueVector()
    feeds.push_back(value)
    model.run_with_ortvaluevector(onnxruntime.RunOptions(), ["x"], feeds, ["y"], fetches, [CPU])
    return fetches[0].numpy()


def through_a_callback(model: Any, x: Any) -> Any:
    return later(model, x)[0][0]


def later(model: Any, x: Any, **options: Any) -> tuple[Any, ...]:
    """What the callback of ``run_async`` was given."""
    given: list[tuple[Any, ...]] = []
    there = threading.Event()

    def callback(*results: Any) -> None:
        given.append(results)
        there.set()

    model.run_async(None, {"x": x}, callback, "mine", **options)
    assert there.wait(20)
    return given[0]


CPU = native.OrtDevice(native.OrtDevice.cpu(), native.OrtDevice.default_memory(), 0)
WAYS = {
    "run": through_run,
    "run_with_ort_values": through_ort_values,
    "run_with_iobinding": through_a_binding,
    "run_with_ortvaluevector": through_a_vector,
    "run_async": through_a_callback,
}


@pytest.mark.parametrize("operation", WAYS)
def test_each_way_to_run_is_one_request_with_the_same_results(calls: Any, operation: str) -> None:
    model = session(linear(WEIGHTS).SerializeToString(), threads=2)
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    patched = WAYS[operation](model, x).tobytes()
    call = calls.one()
    assert (call.spec.framework, call.spec.operation, call.items) == ("onnxruntime", operation, 50)
    assert (call.model, call.error) == (model, None)
    facts = call.spec.describe(call.model)
    assert (facts.name, facts.parameters, facts.dtype, facts.device) == ("linear", 12, "float32", "cpu")
    OnnxRuntimeInstrumentor().uninstrument()
    assert WAYS[operation](model, x).tobytes() == patched
    assert calls.take() == []


@pytest.mark.parametrize("operation", WAYS)
def test_within_another_request_or_training_no_way_to_run_is_one(calls: Any, operation: str) -> None:
    model = session(linear(WEIGHTS).SerializeToString(), threads=2)
    x = np.ones((2, 4), np.float32)
    training(lambda: WAYS[operation](model, x))()
    assert calls.take() == []

    class Service(onnxruntime.InferenceSession):  # type: ignore[misc]
        def run(self, *args: Any, **kwargs: Any) -> Any:
            return super().run(*args, **kwargs)

    Service(linear(WEIGHTS).SerializeToString()).run(None, {"x": x})
    assert calls.operations() == ["run"]


def test_the_batch_size_is_that_of_the_first_input(calls: Any) -> None:
    model = session(linear(WEIGHTS).SerializeToString())
    five, six = np.zeros((5, 4), np.float32), np.zeros((6, 4), np.float32)
    model.run(None, {"x": five})
    model.run(output_names=["y"], input_feed={"x": six})
    model.run(None, {"x": five.tolist()})
    model.run(None, {"x": onnxruntime.OrtValue.ortvalue_from_numpy(six)})
    model.run_with_ort_values(None, input_dict_ort_values={"x": onnxruntime.OrtValue.ortvalue_from_numpy(five)})
    assert [call.items for call in calls.take()] == [5, 6, 5, 6, 5]


def test_the_batch_size_of_a_binding_is_that_of_what_was_bound_last(calls: Any) -> None:
    model = session(linear(WEIGHTS).SerializeToString())
    x = np.ones((7, 4), np.float32)
    value = onnxruntime.OrtValue.ortvalue_from_numpy(x[:3])
    binding = model.io_binding()
    binds: list[Callable[[], None]] = [
        lambda: binding.bind_cpu_input("x", x),
        lambda: binding.bind_ortvalue_input("x", value),
        lambda: binding.bind_input("x", "cpu", 0, np.float32, (6, 4), x.ctypes.data),
        lambda: binding.bind_input(
            name="x",
            device_type="cpu",
            device_id=0,
            element_type=np.float32,
            shape=[2, 4],
            buffer_ptr=x.ctypes.data,
        ),
    ]
    for bind in binds:
        bind()
        binding.bind_output("y")
        model.run_with_iobinding(binding)
    binding.clear_binding_inputs()
    binding.bind_cpu_input(name="x", arr_on_cpu=x[:4])
    binding.bind_output("y")
    model.run_with_iobinding(iobinding=binding)
    assert [call.items for call in calls.take()] == [7, 3, 6, 2, 4]


# The callback of run_async.


def test_a_request_of_run_async_lasts_until_the_callback(calls: Any) -> None:
    # The callback may come before run_async returns: what is large takes a while.
    model = session(linear(np.ones((2048, 2048), np.float32)).SerializeToString(), threads=2)
    given: list[Any] = []
    ended = threading.Event()

    def callback(results: Any, user_data: Any, error: str) -> None:
        given.append((results[0].shape, user_data, error, list(state().open), state().done[-1].end_ns))
        ended.set()

    mine = object()
    model.run_async(["y"], {"x": np.ones((512, 2048), np.float32)}, callback, mine)
    assert current_call.get() is None
    assert ended.wait(20)
    call = calls.one()
    assert given == [((512, 2048), mine, "", [], call.end_ns)], "it has ended when the service is told"
    assert (call.thread, call.encloses) == (0, False)
    assert sum(call.extra_cpu) > 0, "what the caller spent is the request's"


def test_a_failed_run_async_is_told_to_the_callback_and_noted(calls: Any) -> None:
    model = session(linear(WEIGHTS).SerializeToString(), threads=2)
    results, user_data, error = later(model, np.zeros((5, 9), np.float32))
    assert (results, user_data) == ([], "mine")
    assert "invalid dimensions" in error
    assert calls.one().error is RuntimeError


@pytest.mark.skipif(onnxruntime.__version__ < "1.32", reason="older ones swallow it in silence")
def test_what_a_callback_raises_is_the_runtimes_to_handle(calls: Any, monkeypatch: Any) -> None:
    raised: list[Any] = []
    done = threading.Event()

    def unraisable(what: Any) -> None:
        raised.append(what.exc_type)
        done.set()

    monkeypatch.setattr(sys, "unraisablehook", unraisable)

    def callback(*results: Any) -> None:
        raise KeyError("mine")

    model = session(linear(WEIGHTS).SerializeToString(), threads=2)
    model.run_async(None, {"x": np.zeros((5, 4), np.float32)}, callback, None)
    assert done.wait(20)
    assert raised == [KeyError]
    assert calls.one().error is None


@pytest.mark.parametrize(
    ("threads", "arguments"),
    [
        (1, (None, {"x": np.zeros((5, 4), np.float32)}, print, None)),  # no threads for it
        (2, (None, {"x": np.zeros((5, 4), np.float32)}, "no callback", None)),
        (2, (None, {}, print, None)),
        (2, (None, {"x": np.zeros((5, 4), np.float32)})),
    ],
    ids=["threads", "callback", "feed", "arguments"],
)
def test_a_run_async_that_is_refused_ends_at_once(calls: Any, threads: int, arguments: Any) -> None:
    model = session(linear(WEIGHTS).SerializeToString(), threads)

    def refusal() -> tuple[type, str]:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the runtime raises
            model.run_async(*arguments)
        return type(caught.value), str(caught.value).partition("\n")[0]

    patched = refusal()
    assert calls.one().error is patched[0]
    OnnxRuntimeInstrumentor().uninstrument()
    assert refusal() == patched


def test_what_a_callback_runs_is_a_request_of_its_own(calls: Any) -> None:
    model = session(linear(WEIGHTS).SerializeToString(), threads=2)
    x = np.zeros((5, 4), np.float32)
    done = threading.Event()

    def callback(*results: Any) -> None:
        model.run(None, {"x": x[:1]})
        done.set()

    model.run_async(None, {"x": x}, callback, None)
    assert done.wait(20)
    assert sorted(calls.operations()) == ["run", "run_async"]


# What is real, what fails.


def test_magika_itself_makes_one_request_per_file(calls: Any) -> None:
    found = magika.Magika().identify_bytes(b"import os\n\n\ndef main() -> None:\n    print(os.getcwd())\n" * 20)
    assert found.output.label == "python"
    assert calls.one().spec.framework == "onnxruntime"


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
    assert calls.one().error is patched[0]
    OnnxRuntimeInstrumentor().uninstrument()
    assert refusal() == patched


# Threads, asyncio, many calls.


@pytest.mark.parametrize("operation", WAYS)
def test_counts_are_exact_from_four_threads_on_one_session(
    calls: Any, in_threads: Callable[..., None], operation: str
) -> None:
    model = session(linear(WEIGHTS).SerializeToString(), threads=2)
    in_threads(lambda: WAYS[operation](model, np.zeros((2, 4), np.float32)), 4, 100)
    assert Counter(calls.operations()) == {operation: 400}


def test_several_sessions_at_once_are_told_apart(calls: Any) -> None:
    models = [session(linear(WEIGHTS, name).SerializeToString()) for name in ("one", "other")]

    async def serve() -> None:
        x = np.zeros((2, 4), np.float32)
        await asyncio.gather(*(asyncio.to_thread(model.run, None, {"x": x}) for model in models * 20))

    asyncio.run(serve())
    names = Counter(call.spec.describe(call.model).name for call in calls.take())
    assert names == {"one": 20, "other": 20}


def test_ten_thousand_calls_leave_nothing_behind(calls: Any) -> None:
    model = session(linear(WEIGHTS).SerializeToString(), threads=2)
    x = np.zeros((2, 4), np.float32)
    binding = model.io_binding()
    binding.bind_output("y")

    def rounds(number: int) -> None:
        for _ in range(number):
            model.run(None, {"x": x})
            binding.bind_cpu_input("x", x)
            model.run_with_iobinding(binding)
            later(model, x)
        assert len(calls.take()) == 3 * number

    rounds(100)
    gc.collect()
    before, held = len(gc.get_objects()), sys.getrefcount(x)
    for _ in range(10):
        rounds(340)
    gc.collect()
    assert len(gc.get_objects()) - before < 50
    assert sys.getrefcount(x) == held


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


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("bert/model.onnx", "bert"),
        ("bert/onnx/model_int8.onnx", "bert"),
        ("hub/models--org--bert-base/snapshots/0123abc/onnx/model.onnx", "org/bert-base"),
        ("hub/models--org--bert-base/snapshots/0123abc/decoder.onnx", "decoder"),
    ],
)
def test_a_file_named_like_everybodys_is_told_by_where_it_lies(
    calls: Any, tmp_path: Path, path: str, name: str
) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes(linear(WEIGHTS).SerializeToString())
    assert facts_of(calls, session(tmp_path / path)).name == name


def test_a_session_with_weights_in_a_file_of_their_own(calls: Any, tmp_path: Path) -> None:
    onnx.save_model(
        linear(WEIGHTS), tmp_path / "big.onnx", save_as_external_data=True, location="weights", size_threshold=0
    )
    facts = facts_of(calls, session(tmp_path / "big.onnx"))
    assert (facts.name, facts.parameters, facts.dtype) == ("big", 12, "float32")


def test_facts_are_read_anew_when_the_session_moves_to_other_providers(calls: Any) -> None:
    model = session(linear(WEIGHTS).SerializeToString())
    assert calls.forgotten() == []
    model.set_providers(["CPUExecutionProvider"])
    assert calls.forgotten() == [id(model)]


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


def test_uninstrument_restores_the_binding_too() -> None:
    OnnxRuntimeInstrumentor().uninstrument()
    before = dict(vars(IOBinding))
    OnnxRuntimeInstrumentor().instrument(skip_dep_check=True)
    assert vars(IOBinding)["bind_input"] is not before["bind_input"]
    OnnxRuntimeInstrumentor().uninstrument()
    assert dict(vars(IOBinding)) == before
    OnnxRuntimeInstrumentor().instrument(skip_dep_check=True)


def test_an_absent_runtime_is_not_imported() -> None:
    program = (
        "import sys; from ecolyzer_onnxruntime import OnnxRuntimeInstrumentor as I;"
        "I().instrument(skip_dep_check=True); I().uninstrument();"
        "sys.exit(any(name.partition('.')[0] in ('onnxruntime', 'onnx', 'numpy') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=240).returncode == 0

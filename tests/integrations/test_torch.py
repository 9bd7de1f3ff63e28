"""PyTorch: the outermost module call is the request; compilers, exporters and tracers see no patch."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ecolyzer_torch import TorchInstrumentor


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Sequential(nn.Linear(16, 4), nn.Softmax(dim=-1)))
        self.register_buffer("scale", torch.ones(100))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


PARAMETERS = 8 * 16 + 16 + 16 * 4 + 4


@pytest.fixture(autouse=True)
def _patched(instrumented: Callable[[Any], Any]) -> None:
    torch.manual_seed(0)
    instrumented(TorchInstrumentor())


def test_the_root_is_one_request_and_its_modules_are_none(calls: Any) -> None:
    net = Net().eval()
    net(torch.randn(5, 8))
    call = calls.one()
    assert (call.spec.framework, call.spec.operation, call.items) == ("torch", "forward", 5)
    assert call.model is net


def test_a_module_called_on_its_own_is_a_root(calls: Any) -> None:
    net = Net()
    net.body[0](torch.randn(3, 8))
    assert calls.one().model is net.body[0]


def test_keyword_inputs_tell_the_batch(calls: Any) -> None:
    Net()(x=torch.randn(6, 8))
    assert calls.one().items == 6


def test_name_parameters_dtype_and_device_are_told(calls: Any) -> None:
    net = Net().to(torch.bfloat16)
    net(torch.randn(1, 8, dtype=torch.bfloat16))
    facts = calls.facts()
    assert (facts.name, facts.parameters, facts.dtype, facts.device) == ("Net", PARAMETERS, "bfloat16", "cpu")


def test_the_dtype_is_the_one_that_holds_most(calls: Any) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.small, self.big = nn.Linear(2, 2).double(), nn.Linear(50, 50)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    Mixed()(torch.zeros(1))
    assert calls.facts().dtype == "float32"


def test_shared_parameters_count_once(calls: Any) -> None:
    layer = nn.Linear(8, 8, bias=False)
    nn.Sequential(layer, layer)(torch.randn(1, 8))
    assert calls.facts().parameters == 64


def test_a_model_without_parameters_has_none(calls: Any) -> None:
    class Doubled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    Doubled()(torch.randn(2))
    facts = calls.facts()
    assert (facts.parameters, facts.dtype, facts.device) == (0, None, "cpu")


def test_what_is_done_around_a_model_is_no_request(calls: Any) -> None:
    net, x = Net().eval(), torch.randn(2, 8)
    with torch.no_grad():
        scores = nn.Softmax(dim=-1)(net(x))
        nn.CrossEntropyLoss()(scores, torch.tensor([0, 1]))
        torch.ao.quantization.MinMaxObserver()(scores)
        nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    assert calls.one().model is net


def test_a_module_on_another_device_is_told(calls: Any) -> None:
    nn.Linear(2, 2, device="meta")(torch.empty(1, 2, device="meta"))
    assert calls.facts().device == "meta"


def test_results_and_gradients_are_bit_identical(calls: Any) -> None:
    net, x = Net(), torch.randn(7, 8)

    def run() -> tuple[torch.Tensor, torch.Tensor | None]:
        net.zero_grad()
        out = net(x)
        out[:, 0].sum().backward()
        return out.detach().clone(), net.body[0].weight.grad

    patched = run()
    patched = patched[0], patched[1].clone()  # type: ignore[union-attr]
    TorchInstrumentor().uninstrument()
    plain = run()
    assert all(torch.equal(a, b) for a, b in zip(patched, plain, strict=True))
    assert len(calls.take()) == 1


def test_an_exception_passes_through_as_the_same_object(calls: Any) -> None:
    error = ArithmeticError("mine")

    class Failing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise error

    with pytest.raises(ArithmeticError) as caught:
        nn.Sequential(Failing())(torch.randn(1))
    assert caught.value is error
    assert calls.one().error is ArithmeticError


def test_hooks_run_as_before(calls: Any) -> None:
    net, order = Net(), []
    net.register_forward_pre_hook(lambda module, given: order.append("before"))
    net.register_forward_hook(lambda module, given, out: order.append("after"))
    net(torch.randn(1, 8))
    assert order == ["before", "after"]
    assert len(calls.take()) == 1


def test_copies_and_pickles_work_and_count(calls: Any) -> None:
    net, x = Net(), torch.randn(2, 8)
    expected = net(x)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x), expected)
    assert len(calls.take()) == 3


def test_counts_are_exact_from_four_threads(calls: Any, in_threads: Callable[..., None]) -> None:
    net, x = Net(), torch.randn(2, 8)
    in_threads(lambda: net(x), 4, 100)
    assert len(calls.take()) == 400


def test_a_traced_module_is_the_same_graph_and_counts_when_it_is_called(calls: Any) -> None:
    net, x = Net().eval(), torch.randn(2, 8)

    def trace() -> tuple[Any, str]:
        traced = torch.jit.trace(net, x, check_trace=False)  # a check would run it for real
        return traced, re.sub(r"___torch_mangle_\d+\.", "", f"{traced.graph}\n{traced.code}")

    patched, graph = trace()
    assert calls.take() == [], "tracing is no request"
    assert torch.equal(patched(x), net(x))
    assert len(calls.take()) == 2
    TorchInstrumentor().uninstrument()
    assert trace()[1] == graph


def test_a_symbolic_trace_is_the_same_graph(calls: Any) -> None:
    net = Net().eval()
    patched = torch.fx.symbolic_trace(net)
    TorchInstrumentor().uninstrument()
    assert str(patched.graph) == str(torch.fx.symbolic_trace(net).graph)


def test_strict_and_other_exports_work(calls: Any) -> None:
    net, x = Net().eval(), torch.randn(2, 8)
    for strict in (True, False):
        exported = torch.export.export(net, (x,), strict=strict)
        assert torch.allclose(exported.module()(x), net(x))


def test_uninstrument_restores_the_very_dictionary_of_module() -> None:
    TorchInstrumentor().uninstrument()
    before = dict(vars(nn.Module))
    TorchInstrumentor().instrument(skip_dep_check=True)
    assert vars(nn.Module)["__call__"] is not before["__call__"]
    TorchInstrumentor().uninstrument()
    after = dict(vars(nn.Module))
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


def test_under_a_container_a_model_is_no_request_and_its_time_is_the_containers(calls: Any) -> None:
    import ecolyzer_otel

    net = Net().eval()
    with ecolyzer_otel.request("answer"), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        net(torch.randn(2, 8))
        net(torch.randn(3, 8))
    assert calls.operations() == ["request"]


def test_in_another_thread_of_the_same_context_it_belongs_to_the_request_with_its_cpu_time(calls: Any) -> None:
    import asyncio

    import ecolyzer_otel

    net = nn.Sequential(*(nn.Linear(256, 256) for _ in range(8)))

    async def serve() -> None:
        async with ecolyzer_otel.request("answer"):
            await asyncio.gather(*(asyncio.to_thread(net, torch.randn(512, 256)) for _ in range(3)))

    asyncio.run(serve())
    call = calls.one()
    assert call.spec.operation == "request"
    assert len(call.extra_cpu) == 3
    assert sum(call.extra_cpu) > 3_000_000


def test_replicas_in_threads_belong_to_the_call_that_split_its_batch(calls: Any) -> None:
    from threading import Thread

    from ecolyzer_torch.parallel import applied

    replicas = [nn.Linear(8, 8), nn.Linear(8, 8)]

    def in_threads(modules: Any, inputs: Any) -> None:
        threads = [Thread(target=module, args=(one,)) for module, one in zip(modules, inputs, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    class Split(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            applied(in_threads)(replicas, x.chunk(2))
            return x

    Split()(torch.randn(4, 8))
    call = calls.one()
    assert (call.items, len(call.extra_cpu)) == (4, 2)


def test_a_script_function_and_an_exported_method_are_requests(calls: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        function, module = torch.jit.script(doubled), torch.jit.script(Encoder())
    calls.take()
    assert torch.equal(function(torch.ones(3)), torch.full((3,), 2.0))
    call = calls.one()
    assert (call.spec.describe(call.model).name, call.items) == ("doubled", 3)
    module.encode(torch.ones(5, 4))
    call = calls.one()
    assert (call.spec.describe(call.model).name, call.items) == ("Encoder", 5)
    module(torch.ones(6, 4))
    call = calls.one()
    assert (call.spec.operation, call.spec.describe(call.model).parameters, call.items) == ("forward", 20, 6)


def doubled(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encode(x)

    @torch.jit.export
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def test_a_change_of_dtype_is_noticed(calls: Any) -> None:
    net = Net()
    calls.forgotten()
    net.to("cpu")
    assert calls.forgotten() == [], "nothing has changed"
    net.to(torch.bfloat16)
    assert id(net) in calls.forgotten()


def test_ten_thousand_calls_leave_nothing_behind(calls: Any) -> None:
    net, x = nn.Sequential(nn.Linear(2, 2), nn.ReLU()).eval(), torch.ones(1, 2)
    assert calls.left_behind(lambda: net(x)) < 5_000


def test_torch_is_not_imported_by_us() -> None:
    code = """
import sys
from ecolyzer_torch import TorchInstrumentor
TorchInstrumentor().instrument(skip_dep_check=True)
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=240).returncode == 0


def test_wrappers_of_parallel_runs_are_one_request_under_the_models_name(calls: Any, tmp_path: Path) -> None:
    from torch import distributed

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        for wrapped in (nn.parallel.DistributedDataParallel(Net()), nn.DataParallel(Net())):
            with torch.no_grad():
                wrapped.eval()(torch.randn(3, 8))
            call = calls.one()
            assert (call.spec.operation, call.items) == ("forward", 3)
            assert call.spec.describe(call.model).name == "Net"
    finally:
        distributed.destroy_process_group()

"""PyTorch: the outermost module call is the request; compilers, exporters and tracers see no patch."""

from __future__ import annotations

import copy
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
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


def test_a_module_without_parameters_has_none(calls: Any) -> None:
    nn.ReLU()(torch.randn(2))
    facts = calls.facts()
    assert (facts.parameters, facts.dtype, facts.device) == (0, None, "cpu")


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


COMPILE = """
import json, sys
import torch
from torch import nn

patched = sys.argv[1] == "patched"
if patched:
    from ecolyzer_torch import TorchInstrumentor
    from ecolyzer_otel.call import replace_state, state
    replace_state(lambda here: None)
    TorchInstrumentor().instrument(skip_dep_check=True)

graphs = []
def backend(module, inputs):
    named = (f"{node.op} {getattr(node.target, '__name__', node.target)}" for node in module.graph.nodes)
    graphs.append(["placeholder" if name.startswith("placeholder") else name for name in named])
    return module.forward

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Sequential(nn.Linear(16, 4), nn.Softmax(dim=-1)))
    def forward(self, x):
        return self.body(x)

torch.manual_seed(0)
net, x = Net().eval(), torch.ones(2, 8)
module = torch.compile(net, backend=backend, fullgraph=True)
function = torch.compile(lambda x: net(x) + 1, backend=backend, fullgraph=True)
method = Net().eval()
method.compile(backend=backend, fullgraph=True)
results = {}
def watch(name, call):
    graphs.clear()
    torch._dynamo.reset()
    for _ in range(8):
        out = call(x)
    made = list(graphs)
    report = torch._dynamo.explain(call)(x) if name == "function" else None
    results[name] = {"graphs": made, "requests": None, "sum": float(out.sum()),
                     "breaks": report.graph_break_count if report else None}
    if patched:
        here = state()
        done = [here.done.popleft() for _ in range(len(here.done))]
        results[name]["requests"] = len(done)
        results[name]["facts"] = sorted({c.spec.describe(c.model).name for c in done})
watch("module", module)
watch("function", function)
watch("method", method)
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def compiled() -> dict[str, Any]:
    def run(how: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", COMPILE, how], capture_output=True, text=True, timeout=110, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return {how: run(how) for how in ("plain", "patched")}


@pytest.mark.parametrize("form", ["module", "function", "method"])
def test_compiling_makes_the_same_graphs_without_a_break(compiled: dict[str, Any], form: str) -> None:
    plain, patched = compiled["plain"][form], compiled["patched"][form]
    assert len(plain["graphs"]) == 1
    assert patched["graphs"] == plain["graphs"]
    assert patched["breaks"] == plain["breaks"]
    assert patched["sum"] == plain["sum"]


@pytest.mark.parametrize("form", ["module", "method"])
def test_every_call_of_a_compiled_module_is_a_request_under_the_name_of_the_original(
    compiled: dict[str, Any], form: str
) -> None:
    assert compiled["patched"][form]["requests"] == 8
    assert compiled["patched"][form]["facts"] == ["Net"]

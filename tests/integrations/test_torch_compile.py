"""Compiled by torch.compile: the same graphs without a break, and each call a request."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMPILE = """
import json, sys
import torch
from torch import nn

patched = sys.argv[1] == "patched"
if patched:
    from ecolyzer_torch import TorchInstrumentor
    from ecolyzer_otel.worker.state import replace_state, state
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
def rescaled(x):
    return net(x) + 1
function = torch.compile(rescaled, backend=backend, fullgraph=True)
@torch.compile(backend=backend, fullgraph=True)
def nested(x):
    return function(x) + net.body(net.body[0].weight[:2])
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
        results[name]["parameters"] = sorted({c.spec.describe(c.model).parameters for c in done})
        results[name]["items"] = sorted({c.items for c in done})
        results[name]["warmups"] = [c.details is not None and c.details.warmup for c in done]
watch("module", module)
watch("function", function)
watch("method", method)
watch("nested", nested)
if patched:
    TorchInstrumentor().uninstrument()
    watch("restored", function)
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def compiled() -> dict[str, Any]:
    def run(how: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", COMPILE, how], capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return {how: run(how) for how in ("plain", "patched")}


@pytest.mark.parametrize("form", ["module", "function", "method", "nested"])
def test_compiling_makes_the_same_graphs_without_a_break(compiled: dict[str, Any], form: str) -> None:
    plain, patched = compiled["plain"][form], compiled["patched"][form]
    assert len(plain["graphs"]) == 1
    assert patched["graphs"] == plain["graphs"]
    assert patched["breaks"] == plain["breaks"]
    assert patched["sum"] == plain["sum"]


@pytest.mark.parametrize(
    ("form", "name"), [("module", "Net"), ("method", "Net"), ("function", "rescaled"), ("nested", "nested")]
)
def test_every_call_is_one_request_of_what_was_compiled(compiled: dict[str, Any], form: str, name: str) -> None:
    seen = compiled["patched"][form]
    assert (seen["requests"], seen["facts"], seen["items"]) == (8, [name], [2])
    assert seen["parameters"] == [8 * 16 + 16 + 16 * 4 + 4], "of the module that is called, once"


@pytest.mark.parametrize("form", ["module", "method", "function", "nested"])
def test_the_call_in_which_it_was_compiled_is_a_warm_up(compiled: dict[str, Any], form: str) -> None:
    assert compiled["patched"][form]["warmups"] == [True] + [False] * 7


def test_what_was_compiled_before_uninstrument_is_no_request_after_it(compiled: dict[str, Any]) -> None:
    assert compiled["patched"]["restored"]["requests"] == 0
    assert compiled["patched"]["restored"]["graphs"] == compiled["plain"]["function"]["graphs"]


PACKAGE = """
import json, sys, torch
from ecolyzer_torch import TorchInstrumentor
from ecolyzer_otel.worker.state import replace_state, state
replace_state(lambda here: None)
TorchInstrumentor().instrument(skip_dep_check=True)
net, x = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU()).eval(), torch.ones(2, 8)
path = torch._inductor.aoti_compile_and_package(torch.export.export(net, (x,)), package_path=sys.argv[1])
package = torch._inductor.aoti_load_package(path)
state().done.clear()
close = torch.allclose(package(x), net.forward(x))
(call,) = [call for call in state().done if call.spec.operation == "call"]
print(json.dumps([call.spec.describe(call.model).name, call.items, close]))
"""


@pytest.mark.skipif(
    shutil.which("g++") is None and os.environ.get("ECOLYZER_NEEDS_SERVERS") != "1",
    reason="PyTorch compiles it with g++, which is not on PATH; make test brings it where there is apt-get",
)
def test_a_package_made_ahead_of_time_is_a_request_under_its_files_name(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PACKAGE, str(tmp_path / "shop.pt2")], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["shop", 2, True]

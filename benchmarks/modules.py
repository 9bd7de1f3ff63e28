"""The overhead of patching for the inner modules of a model, and for a complete forward pass.

    python benchmarks/modules.py                  # 40 rounds, about half a minute
    python benchmarks/modules.py --rounds 200

A BERT of two layers of width 128 (48 modules), one thread, one sequence of 32 tokens. In each round the same model
is run in blocks: with torch's own ``nn.Module.__call__``; patched and within an open request (overhead of the inner
modules); patched and outermost (with the overhead of the request); and within a call whose guard first asks the
compiler at each module (overhead of a plain guard). Order within a round is random; ratios are paired by round.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable

import torch
from transformers import BertConfig, BertModel

from ecolyzer_otel.worker.call import current_call
from ecolyzer_otel.worker.nesting import within
from ecolyzer_otel.worker.state import replace_state, state
from ecolyzer_otel.worker.wrap import leaf
from ecolyzer_torch import TorchInstrumentor
from ecolyzer_torch.facts import describe_module
from ecolyzer_torch.forward import spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--calls", type=int, default=50, help="per block")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = BertModel(
        BertConfig(num_hidden_layers=2, hidden_size=128, num_attention_heads=2, intermediate_size=512)
    )
    model.eval()
    inputs = {"input_ids": torch.randint(0, 1000, (1, 32))}
    module = torch.nn.Module
    bare = module.__call__
    replace_state(lambda here: None)
    TorchInstrumentor().instrument(skip_dep_check=True)
    patched = module.__call__
    guarded = leaf(bare, spec("forward", describe_module), lambda: torch.compiler.is_compiling())
    call = leaf(lambda self: current_call.get(), spec("forward", describe_module))(model)

    def block(function: Callable[..., object], *, enclosed: bool) -> Callable[[], float]:
        def run() -> float:
            module.__call__ = function
            began = time.perf_counter()
            for _ in range(options.calls):
                model(**inputs)
            took = time.perf_counter() - began
            state().done.clear()
            return took

        def run_enclosed() -> float:
            call.open = True
            with within(call):
                return run()

        return run_enclosed if enclosed else run

    kinds = {
        "bare": block(bare, enclosed=False),
        "inner modules": block(patched, enclosed=True),
        "whole forward": block(patched, enclosed=False),
        "full guard, inner": block(guarded, enclosed=True),
    }
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    with torch.inference_mode():
        for run in kinds.values():
            run()
        for _ in range(options.rounds):
            for kind in random.sample(list(kinds), len(kinds)):
                took[kind].append(kinds[kind]())
    module.__call__ = patched
    TorchInstrumentor().uninstrument()
    print(f"{'':20}{'us per pass':>12}{'over bare':>12}{'25 % to 75 %':>22}")
    for kind, times in took.items():
        ratios = [one / other - 1 for one, other in zip(times, took["bare"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{kind:20}{statistics.median(times) / options.calls * 1e6:12.1f}{middle:12.2%}"
            f"{f'{low:+.2%} to {high:+.2%}':>22}"
        )


if __name__ == "__main__":
    main()

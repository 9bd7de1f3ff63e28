"""The model of the served examples: a real ONNX model of one matrix product, in a file that the tests made."""

import os
import time

import numpy
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(
    os.environ["MODEL_FILE"], options, providers=["CPUExecutionProvider"]
)
ROW = numpy.ones((1, 4), dtype=numpy.float32)


def predict(seconds: float = 0.0) -> float:
    """One request."""
    return float(session.run(None, {"x": ROW})[0][0][0])


def burn(seconds: float) -> None:
    """CPU time of the service outside of requests."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass

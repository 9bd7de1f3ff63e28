"""Voice activity detection: the ONNX model of Silero VAD, one run per 32 ms, as for live sound."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from fastapi import HTTPException
from onnxruntime import InferenceSession, SessionOptions

RATE = 16_000
CHUNK = 512
#: Samples before each chunk that the model needs again.
CONTEXT = 64


def _session() -> InferenceSession:
    # The package itself imports torch; its model does not need it.
    package = find_spec("silero_vad")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("silero-vad is not installed")
    options = SessionOptions()
    options.intra_op_num_threads = 1
    path = Path(package.origin).parent / "data" / "silero_vad.onnx"
    return InferenceSession(path, options, providers=["CPUExecutionProvider"])


_detector = _session()


def segments_of(file: bytes) -> list[dict[str, float]]:
    """Begin and end of each segment with speech, in seconds."""
    segments: list[dict[str, float]] = []
    speaking = False
    for number, probability in enumerate(_probabilities(_samples(file))):
        # Hysteresis: within speech the threshold is lower.
        if speaking := probability >= (0.35 if speaking else 0.5):
            begin, end = number * CHUNK / RATE, (number + 1) * CHUNK / RATE
            if not segments or segments[-1]["end"] < begin:
                segments.append({"begin": begin, "end": end})
            segments[-1]["end"] = end
    return segments


def _samples(file: bytes) -> np.ndarray:
    try:
        with wave.open(io.BytesIO(file)) as sound:
            kind = sound.getframerate(), sound.getnchannels(), sound.getsampwidth()
            frames = sound.readframes(sound.getnframes())
    except (wave.Error, EOFError) as error:
        raise HTTPException(415, "no WAV file") from error
    if kind != (RATE, 1, 2):
        raise HTTPException(415, f"{RATE} samples a second of 16 bits, mono")
    return np.frombuffer(frames, "<i2").astype(np.float32) / 32768


def _probabilities(samples: np.ndarray) -> Iterator[float]:
    state = np.zeros((2, 1, 128), np.float32)
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), samples])
    for start in range(0, len(samples) - CHUNK + 1, CHUNK):
        chunk = padded[None, start : start + CONTEXT + CHUNK]
        speech, state = _detector.run(None, {"input": chunk, "state": state, "sr": np.array(RATE)})
        yield float(speech[0, 0])

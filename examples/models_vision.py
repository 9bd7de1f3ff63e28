"""The text in a picture: RapidOCR, which runs three ONNX models (detection, orientation, recognition)."""

from __future__ import annotations

import threading
from typing import Any

from fastapi import HTTPException
from PIL import UnidentifiedImageError
from rapidocr_onnxruntime import RapidOCR

# One thread, because clients are parallel already. Small pictures need little enlargement.
_reader = RapidOCR(intra_op_num_threads=1, det_limit_side_len=120)
#: The reader is not thread-safe.
_lock = threading.Lock()


def lines_of(picture: bytes) -> list[dict[str, Any]]:
    """The lines of text, from top to bottom."""
    try:
        with _lock:
            found, _ = _reader(picture)
    except UnidentifiedImageError as error:
        raise HTTPException(415, "no picture of a known format") from error
    return [{"text": text, "score": round(float(score), 4)} for _, text, score in found or []]

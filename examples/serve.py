"""A small web service with real models. It has no code for energy, and does not import ecolyzer-otel.

python examples/serve.py                                # plain
ecolyzer-instrument --zone FR python examples/serve.py  # measured

POST /filetype  the bytes of a file      -> what kind of file it is (magika, ONNX Runtime)
POST /tumour    {"rows": [[30 numbers]]} -> malignant or benign     (random forest, scikit-learn)
POST /digits    {"rows": [[64 pixels]]}  -> the handwritten digit   (neural network, scikit-learn)

and, if their packages are installed:

POST /ocr       the bytes of a picture   -> the text in it          (RapidOCR, three models, ONNX Runtime)
POST /speech    a WAV file, 16 kHz, mono -> segments with speech    (Silero VAD, ONNX Runtime)
POST /embed     {"texts": ["...", ...]}  -> how similar they are    (MiniLM, sentence-transformers, PyTorch);
                                            with FULL=1 also /embed?precision=bf16 and ?precision=int8
POST /continue  {"text": "...", "tokens": 40} -> letters that may follow (tiny writer, transformers, PyTorch)
"""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from types import ModuleType
from typing import Any

import uvicorn
from fastapi import FastAPI
from magika import Magika
from models_tables import Rows, digits, tumour
from uploads import File


def if_installed(name: str) -> ModuleType | None:
    """A module of this folder, or None if one of its packages is missing."""
    try:
        return import_module(name)
    except ImportError as missing:
        print(f"without {name}: {missing}")
        return None


magika = Magika()
vision, audio, text = if_installed("models_vision"), if_installed("models_audio"), if_installed("models_text")
writer = if_installed("models_writer")
app = FastAPI(title="Real models")


@app.get("/")
def listing() -> dict[str, str]:
    return {
        f"{method.upper()} {path}": about["description"]
        for path, methods in app.openapi()["paths"].items()
        for method, about in methods.items()
        if path != "/"
    }


@app.post("/filetype")
def filetype(data: File) -> dict[str, Any]:
    """The bytes of a file: what kind is it?"""
    found = magika.identify_bytes(data)
    return {"label": found.output.label, "mime": found.output.mime_type, "score": round(found.score, 4)}


@app.post("/tumour")
def classify_tumour(body: Rows) -> dict[str, Any]:
    """{"rows": [[30 numbers], ...]}: malignant or benign?"""
    return tumour.classify(body.rows)


@app.post("/digits")
def classify_digits(body: Rows) -> dict[str, Any]:
    """{"rows": [[64 pixels, 0 to 16], ...]}: which digits are these?"""
    return digits.classify(body.rows)


if vision:

    @app.post("/ocr")
    def ocr(data: File) -> dict[str, Any]:
        """The bytes of a picture: which text is in it?"""
        return {"lines": vision.lines_of(data)}


if audio:

    @app.post("/speech")
    def speech(data: File) -> dict[str, Any]:
        """A WAV file of 16 kHz, 16 bits, mono: which parts are speech?"""
        return {"segments": audio.segments_of(data)}


if text:

    @app.post("/embed")
    def embed(body: text.Texts, precision: text.Precision = "fp32") -> dict[str, Any]:
        """{"texts": ["...", ...]}: how similar are they to each other?"""
        return {"precision": precision, "similarities": text.similarities(body.texts, precision)}


if writer:

    @app.post("/continue")
    def write(body: writer.Beginning) -> dict[str, str]:
        """{"text": "...", "tokens": 1 to 200}: a possible continuation"""
        return {"text": writer.continued(body.text, body.tokens)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--host", default=os.environ.get("HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8000")))
    options = parser.parse_args()
    uvicorn.run(app, host=options.host, port=options.port, access_log=False)


if __name__ == "__main__":
    main()

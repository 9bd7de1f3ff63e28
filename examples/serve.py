"""A small web service with three real models. It knows nothing of energy, and nothing of ecolyzer-otel.

python examples/serve.py                                # as it is
ecolyzer-instrument --zone FR python examples/serve.py  # measured

POST /filetype  the bytes of a file      -> what kind of file it is (magika, ONNX Runtime)
POST /tumour    {"rows": [[30 numbers]]} -> malignant or benign     (random forest, scikit-learn)
POST /digits    {"rows": [[64 pixels]]}  -> the handwritten digit   (neural network, scikit-learn)
"""

from __future__ import annotations

import argparse
import os
from typing import Annotated, Any

import numpy as np
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from magika import Magika
from pydantic import BaseModel, Field
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

MAX_FILE_BYTES = 16 * 1024 * 1024


class Rows(BaseModel):
    """Rows of a table, one list of numbers each."""

    rows: list[list[float]] = Field(min_length=1, max_length=10_000)


class Classifier:
    """A scikit-learn model, trained when the service starts on data that scikit-learn brings along."""

    def __init__(self, model: Any, data: Any) -> None:
        self.model = model.fit(data.data, data.target)
        self.names = [str(name) for name in data.target_names]
        self.columns = data.data.shape[1]

    def classify(self, rows: list[list[float]]) -> dict[str, Any]:
        if any(len(row) != self.columns for row in rows):
            raise HTTPException(422, f"each row must have {self.columns} numbers")
        probabilities = self.model.predict_proba(np.asarray(rows))
        return {
            "classes": [self.names[best] for best in probabilities.argmax(axis=1)],
            "probabilities": probabilities.round(4).tolist(),
        }


magika = Magika()
tumour = Classifier(
    make_pipeline(StandardScaler(), RandomForestClassifier(100, random_state=0)), load_breast_cancer()
)
digits = Classifier(
    make_pipeline(
        MinMaxScaler(), MLPClassifier((128,), max_iter=100, tol=1e-2, n_iter_no_change=3, random_state=0)
    ),
    load_digits(),
)
app = FastAPI(title="Three models")


async def _file(request: Request) -> bytes:
    """The body as it is, whatever its content type says."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_FILE_BYTES:
            raise HTTPException(413, f"files of up to {MAX_FILE_BYTES} bytes")
    return bytes(data)


@app.get("/")
def listing() -> dict[str, str]:
    return {
        "POST /filetype": "the bytes of a file",
        "POST /tumour": f'{{"rows": [[{tumour.columns} numbers], ...]}}',
        "POST /digits": f'{{"rows": [[{digits.columns} pixels, 0 to 16], ...]}}',
        "GET /docs": "try it in the browser",
    }


@app.post("/filetype")
def filetype(data: Annotated[bytes, Depends(_file)]) -> dict[str, Any]:
    found = magika.identify_bytes(data)
    return {"label": found.output.label, "mime": found.output.mime_type, "score": round(found.score, 4)}


@app.post("/tumour")
def classify_tumour(body: Rows) -> dict[str, Any]:
    return tumour.classify(body.rows)


@app.post("/digits")
def classify_digits(body: Rows) -> dict[str, Any]:
    return digits.classify(body.rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--host", default=os.environ.get("HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8000")))
    options = parser.parse_args()
    uvicorn.run(app, host=options.host, port=options.port, access_log=False)


if __name__ == "__main__":
    main()

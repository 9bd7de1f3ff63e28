"""Two models of tables, trained at the start of the service on data sets of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import HTTPException
from pydantic import BaseModel, Field
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler


class Rows(BaseModel):
    """Rows of a table, one list of numbers each."""

    rows: list[list[float]] = Field(min_length=1, max_length=10_000)


class Classifier:
    """A scikit-learn model of one of scikit-learn's data sets."""

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


tumour = Classifier(
    make_pipeline(StandardScaler(), RandomForestClassifier(100, random_state=0)), load_breast_cancer()
)
digits = Classifier(
    make_pipeline(
        MinMaxScaler(), MLPClassifier((128,), max_iter=100, tol=1e-2, n_iter_no_change=3, random_state=0)
    ),
    load_digits(),
)

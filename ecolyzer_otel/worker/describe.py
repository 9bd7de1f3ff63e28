"""Facts of a model of any supported framework."""

from __future__ import annotations

import contextlib
from importlib import import_module
from typing import Any

from ecolyzer_otel.worker.spec import ModelFacts

__all__ = ["describe"]

#: The integration that describes models of each package; the first package that a class descends from counts.
_DESCRIBERS = {
    "sentence_transformers": "ecolyzer_sentence_transformers",
    "transformers": "ecolyzer_transformers",
    "keras": "ecolyzer_keras",
    "torch": "ecolyzer_torch",
    "onnxruntime": "ecolyzer_onnxruntime",
    "xgboost": "ecolyzer_xgboost",
    "lightgbm": "ecolyzer_lightgbm",
    "sklearn": "ecolyzer_sklearn",
    "tensorflow": "ecolyzer_tensorflow",
}


def describe(model: Any) -> ModelFacts:
    """Returns the facts of a model of any supported framework; for other objects, the name of the class."""
    roots = [one.__module__.partition(".")[0] for one in type(model).__mro__]
    for root, package in _DESCRIBERS.items():
        if root in roots:
            with contextlib.suppress(Exception):
                facts: ModelFacts = import_module(package).describe(model)
                return facts
    return ModelFacts(getattr(model, "__qualname__", None) or type(model).__name__)

"""What is told of the model behind a pipeline, a generation or a trainer."""

from __future__ import annotations

from typing import Any

from ecolyzer_otel.wrap import ModelFacts
from ecolyzer_torch.facts import describe_module, path_name

__all__ = ["describe", "describe_trainer"]


def describe(model: Any) -> ModelFacts:
    """Id on the hub or folder of a model; parameters, dtype and device where it is a torch module."""
    if hasattr(model, "named_modules"):
        return describe_module(model)
    path = getattr(getattr(model, "config", None), "_name_or_path", None)  # behind another runtime
    return ModelFacts(
        path_name(path) if path else type(model).__name__, device=str(getattr(model, "device", "cpu"))
    )


def describe_trainer(trainer: Any) -> ModelFacts:
    """Of the model that it trains."""
    return describe(trainer.model)

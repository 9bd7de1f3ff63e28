"""What is told of the model behind a pipeline, a generation or a trainer; how its calls are specified."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ecolyzer_otel.instrumentor import CallSpec, CallView, ModelFacts
from ecolyzer_torch.facts import describe_module, path_name
from ecolyzer_torch.kernels import kernels_of, record_end, record_start

__all__ = ["behind", "describe", "describe_trainer", "spec"]


def describe(model: Any) -> ModelFacts:
    """Id on the hub or folder of a model; parameters, dtype and device where it is a torch module."""
    if hasattr(model, "named_modules"):
        return describe_module(model)
    if hasattr(model, "task") and hasattr(model, "model"):
        return describe(model.model)  # a pipeline
    path = getattr(getattr(model, "config", None), "_name_or_path", None)
    name = path_name(path) if isinstance(path, str) and path else type(model).__name__
    return behind(model, name, str(getattr(model, "device", "cpu")))


def behind(model: Any, name: str, device: str) -> ModelFacts:
    """Of a model that runs in another runtime: what the instrumentor of that knows of its session."""
    from ecolyzer_otel.instrumentor import describe as describe_any

    for part in (model, getattr(model, "model", None)):
        for attribute in ("session", "model"):
            session = getattr(part, attribute, None)
            if type(session).__name__ == "InferenceSession":
                return replace(describe_any(session), name=name)
    return ModelFacts(name, device=device)


def describe_trainer(trainer: Any) -> ModelFacts:
    """Of the model that it trains."""
    return describe(trainer.model)


def _started(call: CallView, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    # Tensors first: the model's own device is that of the first of its parameters.
    record_start(call, (*args, *kwargs.values(), call.model), {})


def spec(
    operation: str,
    describe: Callable[[Any], ModelFacts],
    items: Callable[[tuple[Any, ...], dict[str, Any]], Any],
    framework: str = "transformers",
    *,
    container: bool = False,
) -> CallSpec:
    """A call that runs a model of torch, its kernels told by events where that is on CUDA."""
    return CallSpec(
        framework, operation, describe, items, container=container,
        kernels=kernels_of, started=_started, ended=record_end,
    )  # fmt: skip

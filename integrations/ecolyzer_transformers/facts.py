"""Facts of the model behind a pipeline, a generation or a trainer, and the specs of its calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ecolyzer_otel.instrumentor import CallSpec, CallView, ModelFacts
from ecolyzer_torch.facts import describe_module, path_name
from ecolyzer_torch.kernels import kernels_of, record_end, record_start

__all__ = ["behind", "describe", "describe_trainer", "spec"]


def describe(model: Any) -> ModelFacts:
    """Facts of a model: its id on the hub or its folder; parameters, dtype and device of a torch module."""
    if hasattr(model, "named_modules"):
        return describe_module(model)
    if hasattr(model, "task") and hasattr(model, "model"):
        return describe(model.model)  # a pipeline
    path = getattr(getattr(model, "config", None), "_name_or_path", None)
    name = path_name(path) if isinstance(path, str) and path else type(model).__name__
    return behind(model, name, str(getattr(model, "device", "cpu")))


def behind(model: Any, name: str, device: str) -> ModelFacts:
    """Facts of a model that runs in another runtime, by the instrumentor of that runtime."""
    from ecolyzer_otel.instrumentor import describe as describe_any

    for part in (model, getattr(model, "model", None)):
        for attribute in ("session", "model"):
            session = getattr(part, attribute, None)
            if type(session).__name__ == "InferenceSession":
                return replace(describe_any(session), name=name)
    return ModelFacts(name, device=device)


def describe_trainer(trainer: Any) -> ModelFacts:
    """Facts of the model that a trainer trains."""
    return describe(trainer.model)


def _started(call: CallView, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    # Tensors first: the model's own device is that of its first parameter.
    record_start(call, (*args, *kwargs.values(), call.model), {})


def spec(
    operation: str,
    describe: Callable[[Any], ModelFacts],
    items: Callable[[tuple[Any, ...], dict[str, Any]], Any],
    framework: str = "transformers",
    *,
    container: bool = False,
) -> CallSpec:
    """Returns the spec of a call that runs a model of torch; on CUDA, events time its kernels."""
    return CallSpec(
        framework, operation, describe, items, container=container,
        kernels=kernels_of, started=_started, ended=record_end,
    )  # fmt: skip

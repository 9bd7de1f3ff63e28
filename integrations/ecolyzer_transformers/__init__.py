"""OpenTelemetry instrumentor for transformers: every outermost pipeline call and every generation is a request.

Usage::

    from ecolyzer_transformers import TransformersInstrumentor

    TransformersInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. transformers is patched when it is imported, not imported by us.
Requests are calls of pipelines of any task (with a generator or a data set: from the call to the last result),
``generate`` in every mode, ``generate_batch`` and each request of a continuous batching manager,
``Trainer.predict`` and ``evaluate``. The forward pass of a model is :mod:`ecolyzer_torch`'s. ``Trainer.train`` is
training.

A generation has its tokens, its prefill and decode phases and the time to first token; those of a pipeline are its
own. What models can be asked beside (features, codes, speech, a ``generate`` of their own) is one request as well.

Run with transformers 5.24, 5.0, 4.57, 4.46 and 4.40; continuous batching from 4.57 on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ecolyzer_otel.instrumentor import FrameworkInstrumentor, forget_model, leaf, training
from ecolyzer_transformers.batching import (
    added,
    cancelled,
    failed,
    generated_batch,
    looped,
    started,
    stepped,
    stepping,
    stopped,
)
from ecolyzer_transformers.facts import describe, describe_trainer, spec
from ecolyzer_transformers.generation import counting, generated, preparing
from ecolyzer_transformers.methods import ours, patch_family
from ecolyzer_transformers.pipelines import answered, called
from ecolyzer_transformers.serving import noting_context, submitted

__all__ = ["TransformersInstrumentor", "describe"]

_BATCHING: Final = "transformers.generation.continuous_batching.continuous_api"


def _samples(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Of ``predict(test_dataset)``; None where the trainer's own set is used."""
    data: Any = args[0] if args else next(iter(kwargs.values()), None)
    return len(data) if hasattr(data, "__len__") else None


_TRAINER: Final = tuple(spec(name, describe_trainer, _samples, container=True) for name in ("predict", "evaluate"))


class TransformersInstrumentor(FrameworkInstrumentor):
    """Patches ``Pipeline``, ``GenerationMixin`` and what overrides its ``generate``, and the batching manager."""

    supported = {"transformers": ("4.40", "6")}  # noqa: RUF012 - declared as a ClassVar of the base

    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """See :class:`~ecolyzer_otel.instrumentor.FrameworkInstrumentor`."""
        return {
            "transformers.pipelines.base": self._patch_pipelines,
            "transformers.generation.utils": self._patch_generation,
            _BATCHING: self._patch_batching,
            "transformers.generation.streamers": self._patch_streamers,
            "transformers.modeling_utils": self._patch_models,
            "transformers.trainer": self._patch_trainer,
            "transformers.cli.serving.utils": self._patch_serving,
            "transformers.cli.serving.systemone": self._patch_decisions,
        }

    def _wrap(self, owner: Any, name: str, wrapped: Callable[[Any], Any]) -> None:
        if hasattr(owner, name):
            self.patches.replace(owner, name, wrapped(getattr(owner, name)))

    def _patch_pipelines(self, module: Any) -> None:
        self._wrap(module.Pipeline, "__call__", called)

    def _patch_generation(self, module: Any) -> None:
        mixin = module.GenerationMixin
        self._wrap(mixin, "generate", lambda original: ours(generated(original)))
        self._wrap(mixin, "_has_unfinished_sequences", counting)
        self._wrap(mixin, "_prepare_generated_length", preparing)
        patch_family(self.patches, mixin)

    def _patch_models(self, module: Any) -> None:
        patch_family(self.patches, module.PreTrainedModel)

    def _patch_streamers(self, module: Any) -> None:
        self._wrap(module.TextStreamer, "__init__", noting_context)

    def _patch_batching(self, module: Any) -> None:
        manager = module.ContinuousBatchingManager
        self._wrap(module.ContinuousMixin, "generate_batch", generated_batch)
        self._wrap(manager, "start", started)
        self._wrap(manager, "stop", stopped)
        self._wrap(manager, "_run_generation_loop", looped)
        self._wrap(manager, "_generation_step", stepping)
        self._wrap(manager, "_generation_loop_body", stepped)
        self._wrap(manager, "_inner_generation_loop", stepped)  # its older name
        self._wrap(manager, "add_request", added)
        self._wrap(manager, "cancel_request", cancelled)
        self._wrap(module.ContinuousBatchProcessor, "_handle_request_error", failed)

    def _patch_trainer(self, module: Any) -> None:
        trainer = module.Trainer
        self.patches.replace(trainer, "train", training(trainer.train, after=lambda it: forget_model(it.model)))
        for what in _TRAINER:
            self.patches.replace(trainer, what.operation, leaf(getattr(trainer, what.operation), what))

    def _patch_serving(self, module: Any) -> None:
        thread: Any = getattr(module, "InferenceThread", None)
        for name in ("submit", "async_submit"):
            self._wrap(thread, name, submitted)

    def _patch_decisions(self, module: Any) -> None:
        handler: Any = getattr(module, "SystemOneHandler", None)
        if hasattr(handler, "_answer"):
            self.patches.replace(handler, "_answer", staticmethod(answered(handler._answer)))

"""OpenTelemetry instrumentor for transformers: every outermost pipeline call and every generation is a request.

Usage::

    from ecolyzer_transformers import TransformersInstrumentor

    TransformersInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. transformers is patched when it is imported, not imported by us.
Requests are calls of pipelines of any task (with a generator or a data set: from the call to the last result),
``generate`` in every mode, ``generate_batch`` and each request of a continuous batching manager,
``Trainer.predict`` and ``evaluate``. The forward pass of a model is :mod:`ecolyzer_torch`'s. ``Trainer.train`` is
training.

A generation has tokens, the phases prefill and decode, and a time to first token; a pipeline has those of the
generations in it. Other methods of models (features, codes, speech, a ``generate`` of their own) are one request
each.

Run with transformers 5.24, 5.0, 4.57, 4.46 and 4.40; continuous batching from 4.57 on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ecolyzer_otel.instrumentor import FrameworkInstrumentor, forget_model, leaf, training
from ecolyzer_transformers.batching import (
    adding,
    cancelling,
    cycling,
    failing,
    generating_batch,
    looping,
    starting,
    stepping,
    stopping,
)
from ecolyzer_transformers.facts import describe, describe_trainer, spec
from ecolyzer_transformers.generation import counting_steps, generated, noting_length
from ecolyzer_transformers.methods import patch_class, registered
from ecolyzer_transformers.pipelines import answered, called
from ecolyzer_transformers.serving import keeping_context, noting_context

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

    def _patch_pipelines(self, module: Any) -> None:
        self.wrap_present(module.Pipeline, "__call__", called)

    def _patch_generation(self, module: Any) -> None:
        mixin = module.GenerationMixin
        self.wrap_present(mixin, "generate", lambda original: registered(generated(original)))
        self.wrap_present(mixin, "_has_unfinished_sequences", counting_steps)
        self.wrap_present(mixin, "_prepare_generated_length", noting_length)
        self.patch_subclasses(mixin, lambda cls: patch_class(self.patches, cls))

    def _patch_models(self, module: Any) -> None:
        self.patch_subclasses(module.PreTrainedModel, lambda cls: patch_class(self.patches, cls))

    def _patch_streamers(self, module: Any) -> None:
        self.wrap_present(module.TextStreamer, "__init__", noting_context)

    def _patch_batching(self, module: Any) -> None:
        manager = module.ContinuousBatchingManager
        self.wrap_present(module.ContinuousMixin, "generate_batch", generating_batch)
        self.wrap_present(manager, "start", starting)
        self.wrap_present(manager, "stop", stopping)
        self.wrap_present(manager, "_run_generation_loop", looping)
        self.wrap_present(manager, "_generation_step", stepping)
        self.wrap_present(manager, "_generation_loop_body", cycling)
        self.wrap_present(manager, "_inner_generation_loop", cycling)  # its older name
        self.wrap_present(manager, "add_request", adding)
        self.wrap_present(manager, "cancel_request", cancelling)
        self.wrap_present(module.ContinuousBatchProcessor, "_handle_request_error", failing)

    def _patch_trainer(self, module: Any) -> None:
        trainer = module.Trainer
        self.wrap(trainer, "train", training, after=lambda it: forget_model(it.model))
        for what in _TRAINER:
            self.wrap(trainer, what.operation, leaf, what)

    def _patch_serving(self, module: Any) -> None:
        thread: Any = getattr(module, "InferenceThread", None)
        for name in ("submit", "async_submit"):
            self.wrap_present(thread, name, keeping_context)

    def _patch_decisions(self, module: Any) -> None:
        handler: Any = getattr(module, "SystemOneHandler", None)
        if hasattr(handler, "_answer"):
            self.patches.replace(handler, "_answer", staticmethod(answered(handler._answer)))

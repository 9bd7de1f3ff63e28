"""OpenTelemetry instrumentor for Keras 3: every outermost call of a model is a request.

Usage::

    from ecolyzer_keras import KerasInstrumentor

    KerasInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. Keras is patched when it is imported, not imported by us. Requests
are ``predict``, ``predict_on_batch``, ``evaluate``, ``test_on_batch`` and the call of a model; that of a layer on
its own is none. Calls inside ``fit`` and ``train_on_batch``, with ``training=True``, or under a TensorFlow tape
that then takes gradients of variables are training. Symbolic calls, which build models, and tracing are nothing.

Verified with Keras 3.0.5, 3.6.0 and 3.15.1 on TensorFlow 2.21.0 and torch 2.13.0, with 3.5.0 on TensorFlow 2.17.1
and with 3.15.1 on JAX 0.10.2. With TensorFlow, :mod:`ecolyzer_tensorflow` marks the calls that compiled; functions
made by ``jax.jit`` around a model are not seen.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from ecolyzer_keras.facts import describe, noting_file
from ecolyzer_keras.models import called, predicted, sized, sizes
from ecolyzer_otel.instrumentor import CallSpec, FrameworkInstrumentor, forget_model, leaf, training

__all__ = ["KerasInstrumentor"]

_METHODS: Final = (
    CallSpec("keras", "predict", describe, predicted, ended=sized),
    CallSpec("keras", "predict_on_batch", describe, sizes),
    CallSpec("keras", "evaluate", describe, sizes),
    CallSpec("keras", "test_on_batch", describe, sizes),
)


class KerasInstrumentor(FrameworkInstrumentor):
    """Patches ``keras.Model``, which inherits its methods from the backend's trainer and from ``Layer``."""

    supported = {"keras": ("3.0", "4")}  # noqa: RUF012 - declared as a ClassVar of the base

    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """See :class:`~ecolyzer_otel.instrumentor.FrameworkInstrumentor`."""
        return {"keras": self._patch}  # the root package: it sets its version last

    def _patch(self, keras: Any) -> None:
        source = sys.modules
        self._patch_model(keras.Model, source["keras.src.backend"])
        if "keras.src.backend.torch.layer" in source:
            self._patch_torch(source["keras.src.backend.torch.layer"])
        self.wrap(source["keras.src.saving.saving_lib"], "load_model", noting_file)
        self.wrap(source["keras.src.legacy.saving.legacy_h5_format"], "load_model_from_hdf5", noting_file)

    def _patch_model(self, model: Any, backend: Any) -> None:
        for spec in _METHODS:
            self.wrap(model, spec.operation, leaf, spec)
        for name in ("fit", "train_on_batch", "quantize"):  # these may change the weights
            self.wrap_present(model, name, training, after=forget_model)
        self.wrap(model, "__call__", called, backend)

    def _patch_torch(self, module: Any) -> None:
        """Layers are torch modules there: they call torch's own ``__call__``, not the one that counts requests."""
        original = getattr(module.torch.nn.Module, "_wrapped_call_impl", None)
        if original is not None:
            self.patches.replace(module.TorchLayer, "__call__", original)

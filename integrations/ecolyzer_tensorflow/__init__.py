"""OpenTelemetry instrumentor for TensorFlow: every outermost call of a function, a SavedModel or a TFLite model.

Usage::

    from ecolyzer_tensorflow import TensorFlowInstrumentor

    TensorFlowInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. TensorFlow is patched when it is imported, not imported by us.
Requests are calls of ``tf.function`` objects, of concrete functions, of what ``tf.saved_model.load`` gives (its
signatures, its functions, itself), ``invoke`` and the signature runners of TFLite interpreters, also of those in
the packages ``ai_edge_litert`` and ``tflite_runtime``. While a function is traced the patch steps aside; a call
that traced is marked as warm-up. A function that takes gradients with respect to variables is training, and so is a
call under a tape that then does. TensorFlow's own functions (checkpoints, loading) are no requests.

Keras models are :mod:`ecolyzer_keras`'s. Verified with TensorFlow 2.21.0; the interpreters of the other packages
are the same classes, by source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ecolyzer_otel.instrumentor import FrameworkInstrumentor
from ecolyzer_otel.wrap import leaf
from ecolyzer_tensorflow.functions import requests
from ecolyzer_tensorflow.lite import INVOKE, run_by_signature, taking_notes
from ecolyzer_tensorflow.loading import naming
from ecolyzer_tensorflow.phases import learning, tracing

__all__ = ["TensorFlowInstrumentor"]

_EAGER: Final = "tensorflow.python.eager"
_FUNCTIONS: Final = f"{_EAGER}.polymorphic_function"


class TensorFlowInstrumentor(FrameworkInstrumentor):
    """Patches the classes of functions and interpreters, the loader, and where functions are traced."""

    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """See :class:`~ecolyzer_otel.instrumentor.FrameworkInstrumentor`."""
        return {
            f"{_FUNCTIONS}.polymorphic_function": self._patch_functions,
            f"{_FUNCTIONS}.concrete_function": self._patch_concrete,
            f"{_EAGER}.backprop": self._patch_tape,
            "tensorflow.python.saved_model.load": self._patch_loading,
            "tensorflow.lite.python.interpreter": self._patch_interpreter,
            "ai_edge_litert.interpreter": self._patch_interpreter,
            "tflite_runtime.interpreter": self._patch_interpreter,
        }

    def _patch_functions(self, module: Any) -> None:
        self._wrap(module.Function, "__call__", requests)
        detector = getattr(module, "_FrequentTracingDetectorManager", None)
        if detector is not None:  # it is told of every call that traced
            self._wrap(detector, "called_with_tracing", tracing)

    def _patch_concrete(self, module: Any) -> None:
        self._wrap(module.ConcreteFunction, "__call__", requests)

    def _patch_tape(self, module: Any) -> None:
        self._wrap(module.GradientTape, "gradient", learning)

    def _patch_loading(self, module: Any) -> None:
        # ``load`` itself is copied into the public namespace; what it calls is not.
        self._wrap(module, "load_partial", naming)

    def _patch_interpreter(self, module: Any) -> None:
        self._wrap(module.Interpreter, "__init__", taking_notes)
        self._wrap(module.Interpreter, "invoke", lambda original: leaf(original, INVOKE))
        self._wrap(module.SignatureRunner, "__call__", run_by_signature)

    def _wrap(self, owner: Any, name: str, wrapped: Callable[[Any], Any]) -> None:
        self.patches.replace(owner, name, wrapped(getattr(owner, name)))

"""OpenTelemetry instrumentor for TensorFlow: every outermost call of a function, a SavedModel or a TFLite model.

Usage::

    from ecolyzer_tensorflow import TensorFlowInstrumentor

    TensorFlowInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. TensorFlow is patched when it is imported, not imported by us.
Requests are calls of ``tf.function`` objects, of concrete functions, of what ``tf.saved_model.load`` returns (its
signatures, its functions, itself), ``invoke`` and the signature runners of TFLite interpreters, also of those in
the packages ``ai_edge_litert`` and ``tflite_runtime``. Calls that trace into another function are none; a call that
traced is marked as warm-up. A function that takes gradients with respect to variables is training, and so is a call
under a tape that then does. TensorFlow's own functions (checkpoints, loading) are no requests.

Keras models are :mod:`ecolyzer_keras`'s. Verified with TensorFlow 2.17.1 and 2.21.0 and the interpreter of
``ai_edge_litert`` 2.3.0; that of ``tflite_runtime`` has the same shape.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from ecolyzer_otel.instrumentor import FrameworkInstrumentor, ModelFacts, leaf
from ecolyzer_tensorflow.functions import counting_calls, describe_function, naming_concrete
from ecolyzer_tensorflow.lite import INVOKE, describe_interpreter, noting_file, run_by_signature
from ecolyzer_tensorflow.loading import naming
from ecolyzer_tensorflow.phases import noting_gradient, noting_tracing

__all__ = ["TensorFlowInstrumentor", "describe"]

_FUNCTIONS: Final = "tensorflow.python.eager.polymorphic_function"


def describe(model: Any) -> ModelFacts:
    """Facts of a function or of an interpreter."""
    return describe_interpreter(model) if hasattr(model, "invoke") else describe_function(model)


class TensorFlowInstrumentor(FrameworkInstrumentor):
    """Patches the classes of functions and interpreters, the loader, and where functions are traced."""

    supported = {"tensorflow": ("2.17", "3")}  # noqa: RUF012 - declared as a ClassVar of the base

    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """See :class:`~ecolyzer_otel.instrumentor.FrameworkInstrumentor`."""
        return {
            "tensorflow": self._patch,  # the root package: it sets its version last
            "ai_edge_litert.interpreter": self._patch_interpreter,
            "tflite_runtime.interpreter": self._patch_interpreter,
        }

    def _patch(self, tensorflow: Any) -> None:
        functions = sys.modules[f"{_FUNCTIONS}.polymorphic_function"]
        self.wrap(functions.Function, "__call__", counting_calls)
        self.wrap(functions.Function, "get_concrete_function", naming_concrete)
        detector = getattr(functions, "_FrequentTracingDetectorManager", None)
        if detector is not None:  # it is called after each call that traced
            self.wrap(detector, "called_with_tracing", noting_tracing)
        self.wrap(sys.modules[f"{_FUNCTIONS}.concrete_function"].ConcreteFunction, "__call__", counting_calls)
        self.wrap(tensorflow.GradientTape, "gradient", noting_gradient)
        # ``load`` itself is copied into the public namespace; what it calls is not.
        self.wrap(sys.modules["tensorflow.python.saved_model.load"], "load_partial", naming)
        if "tensorflow.lite.python.interpreter" in sys.modules:
            self._patch_interpreter(sys.modules["tensorflow.lite.python.interpreter"])

    def _patch_interpreter(self, module: Any) -> None:
        self.wrap(module.Interpreter, "__init__", noting_file)
        self.wrap(module.Interpreter, "invoke", leaf, INVOKE)
        self.wrap(module.SignatureRunner, "__call__", run_by_signature)

"""TFLite interpreters.

An interpreter is read in the caller's thread only: it must not be used while it runs, and it does not run while
other code holds the interpreter that it wraps. For its facts, the file or content that it was made from is read.
"""

from __future__ import annotations

import contextlib
import functools
import os
import weakref
from typing import Any, Final

from ecolyzer_otel.instrumentor import CallSpec, CallView, ModelFacts, leaf
from ecolyzer_tensorflow.batches import first_size
from ecolyzer_tensorflow.facts import stem
from ecolyzer_tensorflow.tflite_format import count_constants

__all__ = ["INVOKE", "describe_interpreter", "noting_file", "run_by_signature"]

#: The file of each interpreter.
_files: Final[weakref.WeakKeyDictionary[Any, str]] = weakref.WeakKeyDictionary()


def noting_file(original: Any) -> Any:
    """Wrap ``Interpreter.__init__(model_path, model_content, ...)``."""

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        with contextlib.suppress(Exception):  # a name is not worth the model
            path = args[0] if args else kwargs.get("model_path")
            if path:
                _files[self] = os.path.abspath(os.fsdecode(path))

    return wrapper


def run_by_signature(original: Any) -> Any:
    """Wrap ``SignatureRunner.__call__``: the model is its interpreter, the operation its signature."""

    def run(interpreter: Any, runner: Any, kwargs: dict[str, Any]) -> Any:
        return original(runner, **kwargs)

    requests = functools.lru_cache(maxsize=1000)(
        lambda key: leaf(run, CallSpec("tensorflow", key, describe_interpreter, _fed)),
    )

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if args:  # it takes none
            return original(self, *args, **kwargs)
        return requests(self._signature_key)(self._interpreter, self, kwargs)

    return wrapper


def _fed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return first_size((), args[1])


def _one(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return 1


def _started(call: CallView, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    wrapped = call.model._interpreter
    call.items = int(wrapped.TensorSize(int(wrapped.InputIndices()[0]), 0)[0])


def describe_interpreter(interpreter: Any) -> ModelFacts:
    """Facts of an interpreter: the name of its file, and the constants in it."""
    path = _files.get(interpreter)
    source = path or getattr(interpreter, "_model_content", None)
    parameters, dtype = count_constants(source) if source else (None, None)
    return ModelFacts(stem(path) if path else "tflite", parameters, dtype)


INVOKE: Final = CallSpec("tensorflow", "invoke", describe_interpreter, _one, started=_started)

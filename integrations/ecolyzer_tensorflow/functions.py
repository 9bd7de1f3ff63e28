"""Functions, polymorphic and concrete: which of their calls are requests, and their facts."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import weakref
from types import FunctionType
from typing import Any, Final

from ecolyzer_otel.instrumentor import (
    CallSpec,
    CallView,
    ModelFacts,
    begin,
    enclosing_call,
    leaf,
    measured,
    training,
)
from ecolyzer_tensorflow.batches import first_size
from ecolyzer_tensorflow.facts import function_name, measure
from ecolyzer_tensorflow.phases import note_tape

__all__ = ["counting_calls", "describe_function", "naming_concrete", "register"]

#: As ``tensorflow/python/trackable/resource.py`` names what it saves.
_OF_RESOURCE: Final = re.compile(r"__inference__(creator|initializer|destroyer)_\d+$")


class _Kind:
    """How calls of one function are counted: not at all without a spec."""

    __slots__ = ("name", "spec", "trains")

    def __init__(self, spec: CallSpec | None, name: str | None = None) -> None:
        self.spec = spec
        self.name = name
        self.trains = False


#: Of each function that was called or loaded. Not an attribute of the function, which may be pickled or saved.
_kinds: Final[weakref.WeakKeyDictionary[Any, _Kind]] = weakref.WeakKeyDictionary()


def counting_calls(original: Any) -> Any:
    """Wrap ``__call__`` of a class of functions: ``leaf`` with a spec per function."""
    eagerly = sys.modules["tensorflow.python.eager.context"].executing_eagerly
    enclosed, trained = leaf(original, _spec("call")), training(original)

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not eagerly():  # it is traced into the graph of another
            return original(self, *args, **kwargs)
        if enclosing_call() is not None:
            return enclosed(self, *args, **kwargs)
        kind = _kinds.get(self) or _first_seen(self)
        if kind.spec is None:
            return original(self, *args, **kwargs)
        if kind.trains:
            return trained(self, *args, **kwargs)
        return measured(begin(kind.spec, self, args, kwargs, True), original, self, *args, **kwargs)

    return wrapper


def naming_concrete(original: Any) -> Any:
    """Wrap ``Function.get_concrete_function``: a concrete function has no link to its function and name."""

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        concrete = original(self, *args, **kwargs)
        with contextlib.suppress(Exception):  # a name is not worth the function
            kind = _kinds.get(self) or _first_seen(self)
            _kinds.setdefault(concrete, _Kind(kind.spec, kind.name or function_name(self)))
        return concrete

    return wrapper


def register(function: Any, operation: str, name: str) -> None:
    """Count calls of a loaded ``function`` as ``operation`` of the model ``name``."""
    _kinds[function] = _Kind(None if _is_of_resource(function) else _spec(operation), name)


def _first_seen(function: Any) -> _Kind:
    python = getattr(function, "_python_function", None)
    restored = hasattr(function, "concrete_functions")
    module = str(getattr(python, "__module__", "")).partition(".")[0]
    own = isinstance(python, FunctionType) and module == "tensorflow"
    skipped = _is_of_resource(function) if restored else own
    kind = _kinds[function] = _Kind(None if skipped else _spec("call"))
    return kind


def _is_of_resource(function: Any) -> bool:
    """Whether it creates, fills or destroys a loaded resource, such as a table."""
    return any(_OF_RESOURCE.match(os.fsdecode(one.name)) for one in getattr(function, "concrete_functions", ()))


@functools.lru_cache(maxsize=1000)
def _spec(operation: str) -> CallSpec:
    return CallSpec("tensorflow", operation, describe_function, first_size, started=note_tape, ended=_ended)


def _ended(call: CallView, result: Any) -> None:
    if call.details is not None and call.details.training:  # gradients are taken where it is traced, so from now on
        kind = _kinds.get(call.model)
        if kind is not None:
            kind.trains = True


def describe_function(function: Any) -> ModelFacts:
    """Facts of a function: the name of its loaded model or of the Python function, and what it holds."""
    kind = _kinds.get(function)
    parameters, dtype, device = measure(function)
    return ModelFacts((kind and kind.name) or function_name(function), parameters, dtype, device)

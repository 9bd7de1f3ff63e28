"""Functions, polymorphic and concrete: which calls are requests, and what is told of them."""

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
    current_call,
    leaf,
    measured,
    training,
)
from ecolyzer_tensorflow.batches import first_size
from ecolyzer_tensorflow.facts import function_name, measure
from ecolyzer_tensorflow.phases import note_tape

__all__ = ["describe_function", "know", "named", "requests"]

#: As ``tensorflow/python/trackable/resource.py`` names what it saves.
_OF_RESOURCE: Final = re.compile(r"__inference__(creator|initializer|destroyer)_\d+$")


class _Kind:
    """What calls of one function are: nothing to us without a spec."""

    __slots__ = ("name", "spec", "trains")

    def __init__(self, spec: CallSpec | None, name: str | None = None) -> None:
        self.spec = spec
        self.name = name
        self.trains = False


#: Of each function that was called or loaded. Not kept on the function: it may be pickled or saved.
_kinds: Final[weakref.WeakKeyDictionary[Any, _Kind]] = weakref.WeakKeyDictionary()


def requests(original: Any) -> Any:
    """Wrap ``__call__`` of a class of functions: ``leaf`` with a spec per function."""
    eagerly = sys.modules["tensorflow.python.eager.context"].executing_eagerly
    enclosed, trained = leaf(original, _spec("call")), training(original)

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not eagerly():  # it becomes part of the graph of another
            return original(self, *args, **kwargs)
        outer = current_call.get()
        if outer is not None and outer.open:
            return enclosed(self, *args, **kwargs)
        kind = _kinds.get(self) or _first_seen(self)
        if kind.spec is None:
            return original(self, *args, **kwargs)
        if kind.trains:
            return trained(self, *args, **kwargs)
        return measured(begin(kind.spec, self, args, kwargs, True), original, self, *args, **kwargs)

    return wrapper


def named(original: Any) -> Any:
    """Wrap ``Function.get_concrete_function``: what it gives does not know what it was made of."""

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        concrete = original(self, *args, **kwargs)
        with contextlib.suppress(Exception):  # a name is not worth the function
            kind = _kinds.get(self) or _first_seen(self)
            _kinds.setdefault(concrete, _Kind(kind.spec, kind.name or function_name(self)))
        return concrete

    return wrapper


def know(function: Any, operation: str, name: str) -> None:
    """``function`` was loaded: from the model of this name, as ``operation``."""
    _kinds[function] = _Kind(None if _is_of_resource(function) else _spec(operation), name)


def _first_seen(function: Any) -> _Kind:
    python = getattr(function, "_python_function", None)
    restored = hasattr(function, "concrete_functions")
    module = str(getattr(python, "__module__", "")).partition(".")[0]
    own = isinstance(python, FunctionType) and module == "tensorflow"
    aside = _is_of_resource(function) if restored else own
    kind = _kinds[function] = _Kind(None if aside else _spec("call"))
    return kind


def _is_of_resource(function: Any) -> bool:
    """Whether it makes, fills or ends a table or the like that was loaded; it is called last by its destructor."""
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
    """Name of the model that it was loaded from, or of the Python function; what it holds."""
    kind = _kinds.get(function)
    parameters, dtype, device = measure(function)
    return ModelFacts((kind and kind.name) or function_name(function), parameters, dtype, device)

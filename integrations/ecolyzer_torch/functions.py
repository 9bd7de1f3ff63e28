"""Callables that are no modules: compiled functions, TorchScript functions and methods, packaged programs."""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable
from types import CodeType
from typing import Any, Final

from ecolyzer_otel.instrumentor import ModelFacts, leaf
from ecolyzer_torch.facts import describe_module, describe_modules, path_name
from ecolyzer_torch.forward import current, spec

__all__ = ["compiling", "describe_method", "describe_package", "describe_script", "note_package"]

#: How deep the search for the modules that a function may call goes into its closure, globals and containers.
_DEPTH: Final = 3
_packages: Final[weakref.WeakKeyDictionary[Any, str]] = weakref.WeakKeyDictionary()


def compiling(original: Any, torch: Any, active: Callable[[], bool]) -> Any:
    """Wrap ``torch.compile``: the outermost call of a compiled function is a request, as long as ``active()``.

    The call of a compiled module is one by ``Module.__call__``.
    """
    module_type = torch.nn.Module

    @functools.wraps(original)
    def compile(*args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        function = args[0] if args else kwargs.get("model")
        if function is None or isinstance(made, module_type) or made is function:
            return made  # a decorator, which calls this again; a module; or compiling is switched off
        owner = getattr(function, "__self__", None)
        if isinstance(owner, module_type) and getattr(function, "__name__", "") == "_call_impl":
            return made  # of Module.compile
        return _counted(torch, made, function, active)

    return compile


def _counted(torch: Any, made: Any, function: Any, active: Callable[[], bool]) -> Any:
    under_compiler, tracing = torch.compiler.is_compiling, torch.jit.is_tracing

    def run(_: Any, /, *args: Any, **kwargs: Any) -> Any:
        return made(*args, **kwargs)

    counted = leaf(run, _COMPILED, lambda: bool(under_compiler() or tracing() or not active()))

    @functools.wraps(made)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        outer = current()
        if outer is not None and outer.encloses:
            return made(*args, **kwargs)
        return counted(function, *args, **kwargs)

    if hasattr(made, "_torchdynamo_wrapper_id"):
        # Then torch compiles again, or explains, the function inside, as without us.
        wrapper._torchdynamo_wrapper_id = id(wrapper)  # type: ignore[attr-defined]
    return wrapper


def describe_function(function: Any) -> ModelFacts:
    """The function's name; parameters of the modules that it calls, as far as it refers to them."""
    owner = getattr(function, "__self__", None)
    if owner is not None and hasattr(owner, "parameters"):
        return describe_module(owner)
    while isinstance(function, functools.partial):
        function = function.func
    name = str(getattr(function, "__qualname__", type(function).__name__)).rpartition("<locals>.")[2]
    name = "lambda" if name == "<lambda>" else name
    modules = _modules(function, _DEPTH)
    return describe_modules(modules, name) if modules else ModelFacts(name)


def _modules(value: Any, depth: int) -> list[Any]:
    if hasattr(value, "named_modules"):
        return [value]
    if depth <= 0:
        return []
    if isinstance(value, (list, tuple)):
        return [one for item in value for one in _modules(item, depth - 1)]
    if isinstance(value, dict):
        return _modules(list(value.values()), depth)
    code = getattr(value, "__code__", None)
    if not isinstance(code, CodeType):
        return []
    names = getattr(value, "__globals__", {})
    reached = [names[name] for name in code.co_names if name in names]
    for cell in getattr(value, "__closure__", None) or ():
        try:
            reached.append(cell.cell_contents)
        except ValueError:  # empty
            continue
    reached += getattr(value, "__defaults__", None) or ()
    return [one for item in reached for one in _modules(item, depth - 1)]


_COMPILED: Final = spec("call", describe_function)


def describe_script(function: Any) -> ModelFacts:
    """A TorchScript function has a name and no parameters."""
    return ModelFacts(str(function.name), 0)


def describe_method(method: Any) -> ModelFacts:
    """A method of a scripted module: the module that owns it."""
    return describe_module(sys.modules["torch"].jit._recursive.wrap_cpp_module(method.owner))


def note_package(original: Any) -> Any:
    """Wrap ``load_package(path, ...)`` of ahead-of-time compiled programs."""

    @functools.wraps(original)
    def load_package(*args: Any, **kwargs: Any) -> Any:
        package = original(*args, **kwargs)
        path = args[0] if args else kwargs.get("path")
        if isinstance(path, (str, bytes)) or hasattr(path, "__fspath__"):
            _packages[package] = path_name(str(path)).partition(".pt2")[0]
        return package

    return load_package


def describe_package(package: Any) -> ModelFacts:
    """The file's name; parameters are compiled in and cannot be counted."""
    device = str(package.get_metadata().get("AOTI_DEVICE_KEY", "cpu"))
    return ModelFacts(
        _packages.get(package, type(package).__name__), None, None, "cuda:0" if device == "cuda" else device
    )

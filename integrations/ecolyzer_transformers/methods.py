"""Methods of models beside ``model(...)``: a ``generate`` of their own, features, codes, speech.

Each runs several modules one after the other, or the common ``generate`` several times, and is one request.
Classes are patched where they define such a method, when they are defined.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from types import FunctionType
from typing import Any, Final

from ecolyzer_otel.instrumentor import CallView, Patches, batch_of, leaf, may_be_training
from ecolyzer_torch.kernels import record_start
from ecolyzer_torch.learning import trains
from ecolyzer_transformers.facts import describe, spec

__all__ = ["patch_class", "registered"]

_GENERATING: Final = ("generate", "generate_speech")
_FEATURES: Final = (
    "get_text_features", "get_image_features", "get_audio_features", "get_video_features", "get_image_embeddings",
    "encode", "decode",
)  # fmt: skip
#: Our wrappers. Not an attribute of them: :func:`functools.wraps` would copy it.
_ours: Final[weakref.WeakSet[Any]] = weakref.WeakSet()


def _items(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    for value in (*args, *kwargs.values()):
        if getattr(value, "shape", None) is not None:
            return batch_of(value)
    return 1


def _started(call: CallView, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    record_start(call, (*args, *kwargs.values(), call.model), {})
    if call.model.training and sys.modules["torch"].is_grad_enabled():
        may_be_training(call)


_SPECS: Final = {
    name: replace(spec(name, describe, _items, container=True), started=_started) for name in _GENERATING
} | {name: replace(spec(name, describe, _items), started=_started) for name in _FEATURES}


def registered(wrapper: Any) -> Any:
    """Register ``wrapper`` as ours, for classes that copy it by name."""
    _ours.add(wrapper)
    return wrapper


def patch_class(patches: Patches, cls: type) -> None:
    """Patch the methods that ``cls`` itself defines."""
    for name, what in _SPECS.items():
        found = vars(cls).get(name)
        if not isinstance(found, FunctionType):
            continue
        if found in _ours:
            if not found.__qualname__.startswith(f"{cls.__qualname__}."):  # copied by name
                patches.adopt(cls, name, found)
        else:
            patches.replace(cls, name, registered(leaf(found, what, _bypass(features=name in _FEATURES))))


def _bypass(*, features: bool) -> Callable[[], bool]:
    torch = sys.modules["torch"]
    compiling, tracing, graded = torch.compiler.is_compiling, torch.jit.is_tracing, torch.is_grad_enabled

    def bypass() -> bool:
        # A compiler must not trace us. In a process that trains, the modules inside decide whether this is
        # training.
        return bool(compiling() or tracing() or (features and trains() and graded()))

    return bypass

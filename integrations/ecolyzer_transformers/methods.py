"""What models themselves can be asked beside ``model(...)``: a ``generate`` of their own, features, codes, speech.

Each runs several modules one after the other, or the common ``generate`` several times, and is one request.
Classes are patched where they define such a method, when they are made.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from types import FunctionType
from typing import Any, Final

from ecolyzer_otel.instrumentor import CallView, Patches, batch_of, leaf
from ecolyzer_torch.kernels import record_start
from ecolyzer_torch.learning import learns, may_be_training
from ecolyzer_transformers.facts import describe, spec

__all__ = ["ours", "patch_class", "patch_family"]

_GENERATING: Final = ("generate", "generate_speech")
_FEATURES: Final = (
    "get_text_features", "get_image_features", "get_audio_features", "get_video_features", "get_image_embeddings",
    "encode", "decode",
)  # fmt: skip
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


def ours(wrapper: Any) -> Any:
    """Remember that ``wrapper`` is ours, for classes that take it over by name."""
    _ours.add(wrapper)
    return wrapper


def patch_family(patches: Patches, base: Any) -> None:
    """Patch all classes that inherit from ``base``, also those yet to be made."""
    found = list(base.__subclasses__())
    seen = set(found)
    for cls in found:
        patch_class(patches, cls)
        new = [one for one in cls.__subclasses__() if one not in seen]
        seen.update(new)
        found += new
    own = vars(base).get("__init_subclass__")

    def __init_subclass__(cls: type, /, **kwargs: Any) -> None:
        if own is None:
            super(base, cls).__init_subclass__(**kwargs)
        else:
            own.__func__(cls, **kwargs)
        with contextlib.suppress(Exception):  # a class must come to be whatever we think of it
            patch_class(patches, cls)

    patches.replace(base, "__init_subclass__", classmethod(__init_subclass__))


def patch_class(patches: Patches, cls: type) -> None:
    """Patch the methods that ``cls`` itself defines."""
    for name, what in _SPECS.items():
        found = vars(cls).get(name)
        if not isinstance(found, FunctionType):
            continue
        if found in _ours:
            if not found.__qualname__.startswith(f"{cls.__qualname__}."):  # taken over by name
                patches.adopt(cls, name, found)
        else:
            patches.replace(cls, name, ours(leaf(found, what, _bypass(learning=name in _FEATURES))))


def _bypass(*, learning: bool) -> Callable[[], bool]:
    torch = sys.modules["torch"]
    compiling, tracing, graded = torch.compiler.is_compiling, torch.jit.is_tracing, torch.is_grad_enabled

    def aside() -> bool:
        # A compiler must not see us; what learns is left to the modules inside, which know whether it is training.
        return bool(compiling() or tracing() or (learning and learns() and graded()))

    return aside

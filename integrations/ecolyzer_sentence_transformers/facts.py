"""What is told of an encoder, and how many texts a call has."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from ecolyzer_otel.wrap import ModelFacts, batch_of
from ecolyzer_torch.facts import describe_module, path_name

__all__ = ["describe", "pairs", "ranked", "texts"]

#: Modules that are looked at for where the model comes from: an encoder, its transformer, and what that holds.
_LOOKED_AT: Final = 4


def describe(model: Any) -> ModelFacts:
    """Named after the hub's id or the folder that the transformer in it was loaded from."""
    module = model if hasattr(model, "named_modules") else model.model  # a cross-encoder before version 5
    for part in islice(module.modules(), _LOOKED_AT):
        path = getattr(getattr(part, "config", None), "_name_or_path", None)
        if isinstance(path, str) and path:
            return describe_module(module, path_name(path))
    return describe_module(module)


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else next(iter(kwargs.values()), None)


def texts(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A text is one, a list has as many as are in it."""
    return batch_of(_first(args, kwargs))


def pairs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A pair of texts is one, a list of pairs has as many as are in it."""
    given = _first(args, kwargs)
    single = isinstance(given, (list, tuple)) and len(given) == 2 and isinstance(given[0], str)
    return 1 if single else batch_of(given)


def ranked(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Documents of ``rank(query, documents)``."""
    return batch_of(args[1] if len(args) > 1 else kwargs.get("documents"))

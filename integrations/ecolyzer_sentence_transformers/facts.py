"""Facts of an encoder, and the number of texts in a call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from ecolyzer_otel.instrumentor import ModelFacts, batch_of
from ecolyzer_torch.facts import describe_module, path_name
from ecolyzer_transformers.facts import behind

__all__ = ["describe", "pairs", "ranked", "texts"]

#: Modules that are searched for the origin of the model: an encoder, its transformer, and the first ones in that.
_SEARCHED: Final = 4


def describe(model: Any) -> ModelFacts:
    """Facts of an encoder, named after the hub's id or the folder that its transformer was loaded from."""
    module = model if hasattr(model, "named_modules") else model.model  # a cross-encoder before version 4
    paths = [path_name(path) for path in _paths(model, module)]
    facts = describe_module(module, paths[0] if paths else None)
    if facts.parameters:
        return facts
    for part in islice(module.modules(), _SEARCHED):  # ONNX or OpenVINO behind it
        for attribute in ("auto_model", "model"):
            if hasattr(part, attribute):
                return behind(getattr(part, attribute), facts.name, facts.device)
    return replace(facts, parameters=None)


def _paths(model: Any, module: Any) -> Iterator[str]:
    """Yields where the model comes from, the best first."""
    for part in islice(module.modules(), _SEARCHED):
        for holder in (part, getattr(part, "auto_model", None)):
            path = getattr(getattr(holder, "config", None), "_name_or_path", None)
            if isinstance(path, str) and path:
                yield path
    base = getattr(getattr(model, "model_card_data", None), "base_model", None)
    if isinstance(base, str) and base:
        yield base


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else next(iter(kwargs.values()), None)


def texts(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns 1 for a text, an image, a sound or a conversation; the length of a list of them."""
    given = _first(args, kwargs)
    if isinstance(given, (list, tuple)):
        return 1 if given and isinstance(given[0], dict) and "role" in given[0] else len(given)
    if getattr(getattr(given, "dtype", None), "kind", None) in (
        "U",
        "O",
    ):  # texts; numbers are a sound
        return batch_of(given)
    single = isinstance(given, (str, bytes, dict)) or hasattr(given, "dtype") or not hasattr(given, "__len__")
    return 1 if single else len(given)


def pairs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns 1 for a pair, the length of a list of pairs."""
    given = _first(args, kwargs)
    shape = getattr(given, "shape", None)
    if shape is not None:
        return shape[0] if len(shape) > 1 else 1
    single = isinstance(given, (list, tuple)) and bool(given) and not isinstance(given[0], (list, tuple))
    return 1 if single else batch_of(given)


def ranked(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns the number of documents of ``rank(query, documents)``."""
    return batch_of(args[1] if len(args) > 1 else kwargs.get("documents"))

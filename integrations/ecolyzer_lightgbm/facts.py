"""Facts of a booster: the name of its file or class, and its nodes. All builds of LightGBM predict on the CPU."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import weakref
from pathlib import PurePath
from typing import Any, Final

from ecolyzer_otel.instrumentor import ModelFacts, forget_model

__all__ = ["count_nodes", "describe", "noting_file", "noting_string"]

#: Trees that are written out at a time; all of a large model would be hundreds of megabytes of text.
_TREES: Final = 256
_LEAVES: Final = re.compile(r"^num_leaves=(\d+)$", re.M)
#: Of trees with linear models in their leaves: how many features each leaf uses.
_FEATURES: Final = re.compile(r"^num_features=([\d ]+)$", re.M)
#: The file of each loaded booster.
_files: Final[weakref.WeakKeyDictionary[Any, str]] = weakref.WeakKeyDictionary()


def describe(model: Any) -> ModelFacts:
    """Facts of a booster, of several from cross-validation, or of a scikit-learn wrapper; held in float64.

    The name is that of the file that it was loaded from, else of its class.
    """
    booster = model.booster_ if hasattr(type(model), "booster_") else model
    name = _files.get(booster) or type(model).__name__
    parameters = sum(map(count_nodes, vars(booster).get("boosters", (booster,))))
    return ModelFacts(name, parameters, "float64", "cpu", "lightgbm")


def count_nodes(booster: Any) -> int:
    """Returns the number of splits and leaves of all trees, with the coefficients of linear models in leaves."""
    each = max(1, int(booster.num_model_per_iteration()))
    rounds, step = int(booster.num_trees()) // each, max(1, _TREES // each)
    total = 0
    for start in range(0, rounds, step):
        text = booster.model_to_string(num_iteration=min(step, rounds - start), start_iteration=start)
        total += sum(2 * int(leaves) - 1 for leaves in _LEAVES.findall(text))
        total += sum(int(number) for leaf in _FEATURES.findall(text) for number in leaf.split())
    return total


def noting_file(original: Any) -> Any:
    """Wrap ``Booster.__init__(params, train_set, model_file, model_str)``."""

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        with contextlib.suppress(Exception):  # a name is not worth the model
            source = args[2] if len(args) > 2 else kwargs.get("model_file")
            if isinstance(source, (str, os.PathLike)):
                _files[self] = PurePath(os.fspath(source)).stem

    return __init__


def noting_string(original: Any) -> Any:
    """Wrap ``Booster.model_from_string(model_str)``, which replaces the model."""

    @functools.wraps(original)
    def model_from_string(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        finally:
            with contextlib.suppress(Exception):  # a name is not worth the model
                forget_model(self)
                _files.pop(self, None)

    return model_from_string

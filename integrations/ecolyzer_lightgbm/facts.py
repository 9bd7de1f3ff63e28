"""What is told of a booster: its file or class, its nodes, where it runs."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import weakref
from pathlib import PurePath
from typing import Any, Final

from ecolyzer_otel.wrap import ModelFacts

__all__ = ["count_nodes", "describe", "noting_file"]

#: Rounds whose trees are written out at a time; all of a large model would be hundreds of megabytes of text.
_ROUNDS: Final = 64
_LEAVES: Final = re.compile(r"^num_leaves=(\d+)$", re.M)
_DEVICES: Final = {"gpu": "gpu:0", "cuda": "cuda:0"}
#: The file of each loaded booster.
_files: Final[weakref.WeakKeyDictionary[Any, str]] = weakref.WeakKeyDictionary()


def describe(booster: Any) -> ModelFacts:
    """Name of its file or class, exact number of nodes; they are held in float64."""
    params = getattr(booster, "params", None) or {}
    device = next((str(params[key]) for key in ("device_type", "device") if key in params), "cpu")
    name = _files.get(booster) or type(booster).__name__
    return ModelFacts(name, count_nodes(booster), "float64", _DEVICES.get(device, "cpu"))


def count_nodes(booster: Any) -> int:
    """Splits and leaves of all trees, one each."""
    rounds = -(-int(booster.num_trees()) // max(1, int(booster.num_model_per_iteration())))
    total = 0
    for start in range(0, rounds, _ROUNDS):
        text = booster.model_to_string(num_iteration=min(_ROUNDS, rounds - start), start_iteration=start)
        total += sum(2 * int(leaves) - 1 for leaves in _LEAVES.findall(text))
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

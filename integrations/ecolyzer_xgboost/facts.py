"""Facts of a booster: the name of its file or class, its nodes or coefficients, its device."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import weakref
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, Final

from ecolyzer_otel.instrumentor import ModelFacts, forget_model

__all__ = ["count_nodes", "describe", "noting_file"]

#: Trees that are written out at a time: XGBoost keeps its last buffer for as long as the thread lives.
_TREES: Final = 256
#: In each tree of a model in UBJSON: a string (``S``) of eight bytes of length (``L``), then its digits.
_NODES: Final = re.compile(rb"num_(nodes|deleted)SL\0{7}[\1-\x14](\d+)")
#: The file of each loaded booster.
_files: Final[weakref.WeakKeyDictionary[Any, str]] = weakref.WeakKeyDictionary()


def describe(model: Any) -> ModelFacts:
    """Facts of a booster or of its scikit-learn wrapper: numbers are held in float32.

    The name is that of the file that it was loaded from, else of its class. The device is the one that it runs on,
    which differs from the requested one where the build or the machine does not have that.
    """
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    learner = json.loads(booster.save_config())["learner"]
    if learner["gradient_booster"]["name"] == "gblinear":
        parameters = _count_coefficients(booster)
    else:
        parameters = count_nodes(booster)
    name = _files.get(booster) or type(model).__name__
    return ModelFacts(name, parameters, "float32", _device(learner.get("generic_param", {})), "xgboost")


def _device(generic: dict[str, str]) -> str:
    """Where predictions run; before XGBoost 2 ``gpu_id`` has it."""
    device, number = generic.get("device"), generic.get("gpu_id", "-1")
    if device is None:
        return "cpu" if number == "-1" else f"cuda:{number}"
    return "cuda:0" if device == "cuda" else device


def count_nodes(booster: Any) -> int:
    """Returns the number of splits and leaves of all trees, counted as by :mod:`ecolyzer_sklearn`."""
    return sum(
        int(number) if what == b"nodes" else -int(number)
        for part in _parts(booster)
        for what, number in _NODES.findall(part.save_raw("ubj"))
    )


def _parts(booster: Any) -> Iterator[Any]:
    """Yields the booster in slices of rounds. Slices are made and written by reading it: predictions may go on."""
    rounds = int(booster.num_boosted_rounds())
    model = json.loads(booster.save_config())["learner"]["gradient_booster"]
    model = model.get("gbtree", model)  # dart holds a gbtree
    trees = int(model.get("gbtree_model_param", {}).get("num_trees", rounds))
    step = max(1, _TREES * rounds // max(1, trees))
    for start in range(0, rounds, step):
        yield booster[start : min(start + step, rounds)]


def _count_coefficients(booster: Any) -> int:
    """Returns the number of coefficients and biases of a linear booster: the lines of its dump that are numbers."""
    return sum(_is_number(line) for part in booster.get_dump() for line in part.splitlines())


def _is_number(line: str) -> bool:
    try:
        float(line)
    except ValueError:
        return False
    return True


def noting_file(original: Any) -> Any:
    """Wrap ``Booster.load_model(fname)``, which the constructor calls as well."""

    @functools.wraps(original)
    def load_model(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        with contextlib.suppress(Exception):  # a name is not worth the model
            forget_model(self)
            _files.pop(self, None)
            source = args[0] if args else kwargs.get("fname")
            if isinstance(source, (str, os.PathLike)):
                _files[self] = PurePath(os.fspath(source)).stem
        return result

    return load_model

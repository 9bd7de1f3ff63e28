"""What is told of a booster: its file or class, its nodes or coefficients, where it runs."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import weakref
from pathlib import PurePath
from typing import Any, Final

from ecolyzer_otel.call import forget_model
from ecolyzer_otel.wrap import ModelFacts

__all__ = ["count_nodes", "describe", "noting_file"]

#: Rounds whose trees are written out at a time; all of a large model would be hundreds of megabytes of text.
_ROUNDS: Final = 64
#: The file of each loaded booster.
_files: Final[weakref.WeakKeyDictionary[Any, str]] = weakref.WeakKeyDictionary()


def describe(booster: Any) -> ModelFacts:
    """Name of its file or class, exact number of nodes or coefficients; they are held in float32."""
    config = json.loads(booster.save_config())
    device = str(config["learner"].get("generic_param", {}).get("device", "cpu"))
    name = _files.get(booster) or type(booster).__name__
    return ModelFacts(name, count_nodes(booster), "float32", "cuda:0" if device == "cuda" else device)


def count_nodes(booster: Any) -> int:
    """Splits and leaves of all trees, one each; of a linear booster, coefficients and biases."""
    config = json.loads(booster.save_config())
    if config["learner"]["gradient_booster"]["name"] == "gblinear":
        return sum(_is_number(line) for part in booster.get_dump() for line in part.splitlines())
    rounds = int(booster.num_boosted_rounds())
    parts = (booster[start : min(start + _ROUNDS, rounds)] for start in range(0, rounds, _ROUNDS))
    return sum(tree.count("\n") for part in parts for tree in part.get_dump())


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
            source = args[0] if args else kwargs.get("fname")
            if isinstance(source, (str, os.PathLike)):
                _files[self] = PurePath(os.fspath(source)).stem
        return result

    return load_model

"""OpenTelemetry instrumentor for LightGBM: every prediction of a booster is a request.

Usage::

    from ecolyzer_lightgbm import LightGBMInstrumentor

    LightGBMInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. LightGBM is patched when it is imported, not imported by us.
Requests are ``Booster.predict`` and that of a ``CVBooster``, which runs all of its boosters; the scikit-learn
wrappers (``LGBMClassifier`` and the like) are :mod:`ecolyzer_sklearn`'s, and count for this framework. ``train``,
``cv`` and a booster's own ``update``, ``refit`` and ``eval`` are training, with whatever their callbacks and
metrics predict.

Verified with LightGBM 3.3.5, 4.0.0, 4.3.0 and 4.7.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ecolyzer_lightgbm.facts import describe, noting_file, noting_string
from ecolyzer_otel.instrumentor import (
    CallSpec,
    FrameworkInstrumentor,
    batch_from_result,
    batch_of,
    forget_model,
    leaf,
    training,
)

__all__ = ["LightGBMInstrumentor", "describe"]

_LEARNING: Final = ("update", "rollback_one_iter")
#: These do not change their booster: ``refit`` returns another one.
_TRAINING: Final = ("refit", "eval", "eval_train", "eval_valid")


def _rows(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Rows of an array or a table; None for a file, whose rows only the result shows."""
    data = args[0] if args else kwargs.get("data")
    return batch_of(data) if hasattr(data, "shape") or isinstance(data, list) else None


_PREDICT: Final = CallSpec("lightgbm", "predict", describe, _rows, ended=batch_from_result)


class LightGBMInstrumentor(FrameworkInstrumentor):
    """Patches ``lightgbm.Booster``, and ``train`` and ``cv`` wherever the package holds them."""

    supported = {"lightgbm": ("3.3", "5")}  # noqa: RUF012 - declared as a ClassVar of the base

    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """See :class:`~ecolyzer_otel.instrumentor.FrameworkInstrumentor`."""
        return {"lightgbm": self._patch}

    def _patch(self, lightgbm: Any) -> None:
        booster = lightgbm.Booster
        self.wrap(booster, "predict", leaf, _PREDICT)
        for name in _LEARNING:
            self.wrap(booster, name, training, after=forget_model)
        for name in _TRAINING:
            self.wrap(booster, name, training)
        self.wrap(booster, "__init__", noting_file)
        self.wrap(booster, "model_from_string", noting_string)
        self.patches.replace(lightgbm.CVBooster, "predict", leaf(_predict_with_all, _PREDICT))
        for name in ("train", "cv"):
            self.patches.replace_copies("lightgbm", getattr(lightgbm, name), training(getattr(lightgbm, name)))


def _predict_with_all(self: Any, /, *args: Any, **kwargs: Any) -> Any:
    """``CVBooster`` defines no ``predict``: its ``__getattr__`` makes one that calls those of its boosters."""
    return self.__getattr__("predict")(*args, **kwargs)

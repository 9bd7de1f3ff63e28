"""OpenTelemetry instrumentor for LightGBM: every prediction of a booster is a request.

Usage::

    from ecolyzer_lightgbm import LightGBMInstrumentor

    LightGBMInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. LightGBM is patched when it is imported, not imported by us.
Requests are ``Booster.predict`` and that of a ``CVBooster``, which asks all of its boosters; the scikit-learn
wrappers (``LGBMClassifier`` and the like) are :mod:`ecolyzer_sklearn`'s, and count for this framework. ``train``,
``cv`` and a booster's own ``update``, ``refit`` and ``eval`` are training, with whatever their callbacks and
metrics predict.

Verified with LightGBM 3.3.5, 4.0.0, 4.3.0 and 4.7.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ecolyzer_lightgbm.facts import describe, noting_file, noting_model
from ecolyzer_otel.instrumentor import (
    CallSpec,
    CallView,
    FrameworkInstrumentor,
    batch_of,
    forget_model,
    leaf,
    training,
)

__all__ = ["LightGBMInstrumentor", "describe"]

_LEARNING: Final = ("update", "rollback_one_iter")
#: They read their booster: ``refit`` gives another one.
_TRAINING: Final = ("refit", "eval", "eval_train", "eval_valid")


def _rows(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Rows of an array or a table; of a file they are not known before the end."""
    data = args[0] if args else kwargs.get("data")
    return batch_of(data) if hasattr(data, "shape") or isinstance(data, list) else None


def _rows_at_last(call: CallView, result: Any) -> None:
    if call.items is None:
        call.items = batch_of(result)


_PREDICT: Final = CallSpec("lightgbm", "predict", describe, _rows, ended=_rows_at_last)


class LightGBMInstrumentor(FrameworkInstrumentor):
    """Patches ``lightgbm.Booster``, and ``train`` and ``cv`` wherever the package holds them."""

    supported = {"lightgbm": ("3.3", "5")}  # noqa: RUF012 - declared as a ClassVar of the base

    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """See :class:`~ecolyzer_otel.instrumentor.FrameworkInstrumentor`."""
        return {"lightgbm": self._patch}

    def _patch(self, lightgbm: Any) -> None:
        booster, replace = lightgbm.Booster, self.patches.replace
        replace(booster, "predict", leaf(booster.predict, _PREDICT))
        for name in _LEARNING:
            replace(booster, name, training(getattr(booster, name), after=forget_model))
        for name in _TRAINING:
            replace(booster, name, training(getattr(booster, name)))
        replace(booster, "__init__", noting_file(booster.__init__))
        replace(booster, "model_from_string", noting_model(booster.model_from_string))
        replace(lightgbm.CVBooster, "predict", leaf(_predict_with_all, _PREDICT))
        for name in ("train", "cv"):
            self.patches.replace_copies("lightgbm", getattr(lightgbm, name), training(getattr(lightgbm, name)))


def _predict_with_all(self: Any, /, *args: Any, **kwargs: Any) -> Any:
    """``CVBooster`` has no such method: it makes one of those of its boosters when it is asked."""
    return self.__getattr__("predict")(*args, **kwargs)

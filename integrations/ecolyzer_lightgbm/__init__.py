"""OpenTelemetry instrumentor for LightGBM: every prediction of a booster is a request.

Usage::

    from ecolyzer_lightgbm import LightGBMInstrumentor

    LightGBMInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. LightGBM is patched when it is imported, not imported by us.
Requests are ``Booster.predict``; the scikit-learn wrappers (``LGBMClassifier`` and the like) are
:mod:`ecolyzer_sklearn`'s, and count for this framework. ``train``, ``cv`` and a booster's own ``update``, ``refit``
and ``eval`` are training, with whatever their callbacks and metrics predict.

Verified with LightGBM 4.7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ecolyzer_lightgbm.facts import describe, noting_file
from ecolyzer_otel.call import forget_model
from ecolyzer_otel.instrumentor import FrameworkInstrumentor
from ecolyzer_otel.wrap import CallSpec, leaf, training

__all__ = ["LightGBMInstrumentor", "describe"]

_PREDICT: Final = CallSpec("lightgbm", "predict", describe)
_TRAINING: Final = ("update", "refit", "rollback_one_iter", "eval", "eval_train", "eval_valid")


class LightGBMInstrumentor(FrameworkInstrumentor):
    """Patches ``lightgbm.Booster``, and ``train`` and ``cv`` wherever the package holds them."""

    supported = {"lightgbm": ("3.3", "5")}  # noqa: RUF012 - declared as a ClassVar of the base

    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """See :class:`~ecolyzer_otel.instrumentor.FrameworkInstrumentor`."""
        return {"lightgbm": self._patch}

    def _patch(self, lightgbm: Any) -> None:
        booster = lightgbm.Booster
        self.patches.replace(booster, "predict", leaf(booster.predict, _PREDICT))
        for name in _TRAINING:
            self.patches.replace(booster, name, training(getattr(booster, name), after=forget_model))
        self.patches.replace(booster, "__init__", noting_file(booster.__init__))
        for name in ("train", "cv"):
            self.patches.replace_copies("lightgbm", getattr(lightgbm, name), training(getattr(lightgbm, name)))

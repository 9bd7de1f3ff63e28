"""OpenTelemetry instrumentor for XGBoost: every prediction of a booster is a request.

Usage::

    from ecolyzer_xgboost import XGBoostInstrumentor

    XGBoostInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. XGBoost is patched when it is imported, not imported by us.
Requests are ``Booster.predict`` and ``inplace_predict``; the scikit-learn wrappers (``XGBClassifier`` and the like)
are :mod:`ecolyzer_sklearn`'s, and count for this framework. ``train``, ``cv`` and a booster's own ``update``,
``boost`` and ``eval`` are training, with whatever their callbacks and metrics predict.

Verified with XGBoost 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ecolyzer_otel.call import forget_model
from ecolyzer_otel.instrumentor import FrameworkInstrumentor
from ecolyzer_otel.wrap import CallSpec, batch_of, leaf, training
from ecolyzer_xgboost.facts import describe, noting_file

__all__ = ["XGBoostInstrumentor", "describe"]


def _rows(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Rows of a matrix of XGBoost's, or of any array."""
    data = args[0] if args else kwargs.get("data")
    count = getattr(data, "num_row", None)
    return batch_of(data) if count is None else count()


_SPECS: Final = tuple(CallSpec("xgboost", name, describe, _rows) for name in ("predict", "inplace_predict"))


class XGBoostInstrumentor(FrameworkInstrumentor):
    """Patches ``xgboost.Booster``, and ``train`` and ``cv`` wherever the package holds them."""

    supported = {"xgboost": ("1.7", "4")}  # noqa: RUF012 - declared as a ClassVar of the base

    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """See :class:`~ecolyzer_otel.instrumentor.FrameworkInstrumentor`."""
        return {"xgboost": self._patch}

    def _patch(self, xgboost: Any) -> None:
        booster = xgboost.Booster
        for spec in _SPECS:
            self.patches.replace(booster, spec.operation, leaf(getattr(booster, spec.operation), spec))
        for name in ("update", "boost", "eval", "eval_set"):
            self.patches.replace(booster, name, training(getattr(booster, name), after=forget_model))
        self.patches.replace(booster, "load_model", noting_file(booster.load_model))
        for name in ("train", "cv"):
            self.patches.replace_copies("xgboost", getattr(xgboost, name), training(getattr(xgboost, name)))

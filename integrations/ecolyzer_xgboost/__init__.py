"""OpenTelemetry instrumentor for XGBoost: every prediction of a booster is a request.

Usage::

    from ecolyzer_xgboost import XGBoostInstrumentor

    XGBoostInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. XGBoost is patched when it is imported, not imported by us.
Requests are ``Booster.predict`` and ``inplace_predict``; the scikit-learn wrappers (``XGBClassifier`` and the like)
are :mod:`ecolyzer_sklearn`'s, and count for this framework. ``train``, ``cv`` and a booster's own ``update``,
``boost`` and ``eval`` are training, with whatever their callbacks and metrics predict; so is a prediction with
``training=True``.

Verified with XGBoost 1.7.6, 2.0.3, 2.1.4, 3.0.5 and 3.2.0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

from ecolyzer_otel.instrumentor import (
    CallSpec,
    CallView,
    FrameworkInstrumentor,
    batch_from_result,
    batch_of,
    changing,
    forget_model,
    leaf,
    training,
)
from ecolyzer_xgboost.facts import describe, noting_file

__all__ = ["XGBoostInstrumentor", "describe"]


def _rows(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Rows of an array or a table; None for XGBoost's own matrix, which takes a call into the library."""
    data = args[0] if args else kwargs.get("data")
    return batch_of(data) if hasattr(data, "shape") else None


def _for_training(call: CallView, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A loop that trains by ``boost`` predicts with ``training=True`` in between."""
    if kwargs.get("training"):
        call.ensure_details().training = True


_PREDICT: Final = CallSpec("xgboost", "predict", describe, _rows, started=_for_training, ended=batch_from_result)
_INPLACE: Final = CallSpec("xgboost", "inplace_predict", describe, _rows, ended=batch_from_result)


class XGBoostInstrumentor(FrameworkInstrumentor):
    """Patches ``xgboost.Booster``, and ``train`` and ``cv`` wherever the package holds them."""

    supported = {"xgboost": ("1.7", "4")}  # noqa: RUF012 - declared as a ClassVar of the base

    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """See :class:`~ecolyzer_otel.instrumentor.FrameworkInstrumentor`."""
        return {"xgboost": self._patch}

    def _patch(self, xgboost: Any) -> None:
        booster, wrapper = xgboost.Booster, xgboost.XGBModel
        for spec in (_PREDICT, _INPLACE):
            self.wrap(booster, spec.operation, leaf, spec)
        for name, after in (("update", forget_model), ("boost", forget_model), ("eval", None), ("eval_set", None)):
            self.wrap(booster, name, training, after)
        self.wrap(booster, "load_model", noting_file)
        self.wrap(booster, "set_param", changing)
        self.wrap(wrapper, "load_model", changing)
        self.wrap(wrapper, "set_params", _moving)
        for name in ("train", "cv"):
            self.patches.replace_copies("xgboost", getattr(xgboost, name), training(getattr(xgboost, name)))


def _moving(original: Any) -> Any:
    """Wrap ``set_params(**params)`` of a wrapper: its booster may run on another device afterwards."""
    moved = changing(original)

    @functools.wraps(original)
    def set_params(self: Any, /, **params: Any) -> Any:
        return (moved if "device" in params else original)(self, **params)

    return set_params

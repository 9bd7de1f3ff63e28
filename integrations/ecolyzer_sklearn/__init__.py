"""OpenTelemetry instrumentor for scikit-learn: every outermost inference method of an estimator is a request.

Usage::

    from ecolyzer_sklearn import SklearnInstrumentor

    SklearnInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. scikit-learn is patched when it is imported, not imported by us.
Estimators have no common base method, so each class is patched where it (or a mixin that it inherits from) defines
one, when the class is defined. Calls inside ``fit``, cross-validation, search and inspection are training, not
requests. Wrappers of XGBoost and LightGBM count for those frameworks.

Verified with scikit-learn 1.3.2, 1.5.2, 1.7.2 and 1.9.1.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any, ClassVar, Final

from ecolyzer_otel.instrumentor import (
    CallSpec,
    CallView,
    FrameworkInstrumentor,
    ModelFacts,
    current_call,
    enclosing_call,
    forget_model,
    leaf,
    lending,
    streamed,
    training,
)
from ecolyzer_sklearn.count import Learned, booster_facts

__all__ = ["SklearnInstrumentor"]

_INFERENCE: Final = (
    "predict", "predict_proba", "predict_log_proba", "predict_joint_log_proba", "decision_function", "transform",
    "inverse_transform", "score", "score_samples", "apply", "decision_path", "kneighbors", "kneighbors_graph",
    "radius_neighbors", "radius_neighbors_graph", "mahalanobis", "error_norm", "perplexity", "aic", "bic", "gibbs",
    "latent_mean_and_variance", "sample", "sample_y",
)  # fmt: skip
#: They yield one result per stage of an ensemble; the request lasts until the last is taken.
_STAGED: Final = ("staged_predict", "staged_predict_proba", "staged_decision_function", "staged_score")
_TRAINING: Final = ("fit", "fit_transform", "fit_predict", "partial_fit")
_INSPECTION: Final = ("_calculate_permutation_scores", "_weights_scorer", "_partial_dependence_brute")
_VALIDATION: Final = (
    "cross_validate", "cross_val_score", "cross_val_predict", "learning_curve", "validation_curve",
    "permutation_test_score", "_fit_and_score", "_fit_and_predict", "_incremental_fit_estimator",
)  # fmt: skip


def describe(estimator: Any) -> ModelFacts:
    """Facts of an estimator: class name (with a pipeline's last step), learned numbers, dominant dtype, device."""
    facts = booster_facts(estimator)
    if facts is not None:
        return facts
    name = type(estimator).__name__
    steps = getattr(estimator, "steps", None)
    if isinstance(steps, list):
        last = [type(step).__name__ for _, step in steps if step is not None and not isinstance(step, str)][-1:]
        name = f"{name}({last[0]})" if last else name
    learned = Learned(estimator)
    return ModelFacts(name, learned.parameters, learned.dtype, learned.device)


#: Stands for the call of a task that was sent to another process; ignored where that is not instrumented.
_IN_ANOTHER_PROCESS: Final = True
#: Our wrappers. Not an attribute of them: :func:`functools.wraps` would copy it to scikit-learn's.
_ours: Final[weakref.WeakSet[Any]] = weakref.WeakSet()

_SPECS: Final = {name: CallSpec("sklearn", name, describe) for name in (*_INFERENCE, *_STAGED)}


class SklearnInstrumentor(FrameworkInstrumentor):
    """Patches estimator classes when they are defined, validation functions, and the threads of ``n_jobs``."""

    supported = {"sklearn": ("1.3", "2")}  # noqa: RUF012 - declared as a ClassVar of the base
    _functions: ClassVar[dict[str, tuple[Any, Any]]] = {}

    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """See :class:`~ecolyzer_otel.instrumentor.FrameworkInstrumentor`."""
        return {
            "sklearn.base": self._patch_base,
            "sklearn.model_selection._validation": self._patch_validation,
            "sklearn.inspection._permutation_importance": self._patch_inspection,
            "sklearn.inspection._partial_dependence": self._patch_inspection,
            "sklearn.utils.parallel": self._patch_parallel,
        }

    def _uninstrument(self, **kwargs: Any) -> None:
        super()._uninstrument(**kwargs)
        self._restore_imported()

    def _restore_imported(self) -> None:
        """Put back what scikit-learn's own packages imported by name while it was patched."""
        packages = [module for name, module in sys.modules.items() if name.partition(".")[0] == "sklearn"]
        for name, (wrapper, original) in self._functions.items():
            for module in packages:
                if vars(module).get(name) is wrapper:
                    setattr(module, name, original)
        self._functions.clear()

    def _patch_base(self, module: Any) -> None:
        self._patch_class(module.BaseEstimator)
        self.patch_subclasses(module.BaseEstimator, self._patch_class)

    def _patch_class(self, cls: type) -> None:
        for name in (*_INFERENCE, *_STAGED, *_TRAINING):
            owner = next((one for one in cls.__mro__ if name in vars(one)), None)
            if owner is None or owner.__module__ == "sklearn.utils._set_output":
                continue
            found = vars(owner)[name]
            if isinstance(found, (staticmethod, classmethod, property)):
                continue
            # sklearn's available_if is a descriptor that checks first, then binds ``fn``
            holder, key = (owner, name) if callable(found) else (found, "fn")
            function = getattr(holder, "__dict__", {}).get(key)
            if not callable(function):
                continue
            if not _is_ours(function):
                self.patches.replace(holder, key, _wrapped(function, name))
            elif owner is cls and isinstance(function, FunctionType) and function in _ours:
                # A class body copied a patched method by name.
                self.patches.adopt(holder, key, function)
                if getattr(found, "__wrapped__", None) is function:
                    self.patches.adopt(found, "__wrapped__", function)

    def _patch_validation(self, module: Any) -> None:
        for name in _VALIDATION:
            if hasattr(module, name):
                original = getattr(module, name)
                wrapper = training(original)
                self.patches.replace(module, name, wrapper)
                self._functions[name] = wrapper, original

    def _patch_inspection(self, module: Any) -> None:
        for name in _INSPECTION:
            self.wrap_present(module, name, training)

    def _patch_parallel(self, module: Any) -> None:
        """Threads of ``n_jobs`` work for the call that started them; tasks in other processes are no requests."""
        helper = getattr(module, "_FuncWrapper", None)
        if helper is None:
            return
        run, call = module.Parallel.__call__, helper.__call__
        elsewhere = training(call)

        # Tasks are made lazily, and not all of them by the calling thread: each carries its call.
        @functools.wraps(run)
        def parallel(self: Any, iterable: Any, *args: Any, **kwargs: Any) -> Any:
            outer = enclosing_call()
            if outer is not None:
                iterable = _owned(iterable, outer.share())
            return run(self, iterable, *args, **kwargs)

        @functools.wraps(call)
        def task(self: Any, *args: Any, **kwargs: Any) -> Any:
            outer = vars(self).get("_ecolyzer_call")
            if outer is None or current_call.get() is outer:
                return call(self, *args, **kwargs)
            if outer is _IN_ANOTHER_PROCESS:
                return elsewhere(self, *args, **kwargs)
            with lending(outer):
                return call(self, *args, **kwargs)

        def __getstate__(self: Any) -> dict[str, Any]:
            # Another process cannot work for a call of this one, and the task is no request of its own there.
            state = dict(vars(self))
            if "_ecolyzer_call" in state:
                state["_ecolyzer_call"] = _IN_ANOTHER_PROCESS
            return state

        self.patches.replace(module.Parallel, "__call__", parallel)
        self.patches.replace(helper, "__call__", task)
        self.patches.replace(helper, "__getstate__", __getstate__)


def _owned(tasks: Any, call: CallView) -> Iterator[Any]:
    for task in tasks:
        with contextlib.suppress(AttributeError, TypeError, IndexError):  # not one of sklearn's own
            task[0]._ecolyzer_call = call
        yield task


def _wrapped(function: Any, name: str) -> Any:
    spec = _SPECS.get(name)
    if spec is None:
        wrapper = training(function, after=forget_model)
    else:
        wrapper = streamed(function, spec) if name in _STAGED else leaf(function, spec)
    _ours.add(wrapper)
    return wrapper


def _is_ours(function: Any) -> bool:
    """Whether ``function`` is our wrapper, or one of scikit-learn's around it."""
    while function is not None:
        if isinstance(function, FunctionType) and function in _ours:
            return True
        function = getattr(function, "__wrapped__", None)
    return False

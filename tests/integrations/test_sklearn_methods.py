"""Every inference method of every estimator of scikit-learn is one request; inspection is none."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.utils import all_estimators

from ecolyzer_sklearn import _INFERENCE, _STAGED, _TRAINING, SklearnInstrumentor

X, Y = make_classification(n_samples=60, n_features=4, random_state=3)
X = np.abs(X)  # counts are asked for by some
#: Neither inference nor training: settings, shapes, names, pieces of what was learned.
NEITHER = frozenset(
    [
        "build_analyzer",
        "build_preprocessor",
        "build_tokenizer",
        "correct_covariance",
        "cost_complexity_pruning_path",
        "dbscan_clustering",
        "decode",
        "densify",
        "fit",
        "get_covariance",
        "get_depth",
        "get_feature_names_out",
        "get_indices",
        "get_metadata_routing",
        "get_n_leaves",
        "get_params",
        "get_precision",
        "get_shape",
        "get_stop_words",
        "get_submatrix",
        "get_support",
        "log_marginal_likelihood",
        "path",
        "reconstruction_error",
        "restrict",
        "reweight_covariance",
        "set_callbacks",
        "set_output",
        "set_params",
        "sparsify",
    ]
)


@pytest.fixture(autouse=True)
def _patched(instrumented: Callable[[Any], Any]) -> Iterator[None]:
    instrumented(SklearnInstrumentor())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_every_public_method_of_every_estimator_is_known_as_inference_training_or_neither() -> None:
    known = {*_INFERENCE, *_STAGED, *_TRAINING, *NEITHER}
    unknown = {
        f"{name}.{method}"
        for name, cls in all_estimators()
        for method in dir(cls)
        if not method.startswith(("_", "set_"))
        and not isinstance(found := inspect.getattr_static(cls, method), property)
        and (inspect.isfunction(found) or hasattr(found, "fn"))
        and method not in known
    }
    assert unknown == set()


def fitted(cls: type) -> Any:
    """An estimator that needs nothing but rows and their classes, fitted; else None."""
    try:
        estimator = cls()
        return estimator.set_params(**{"n_estimators": 3} if "n_estimators" in estimator.get_params() else {}).fit(
            X, Y
        )
    except Exception:
        return None


def ask(estimator: Any, method: str) -> Any:
    """What a method says of the rows; None where it needs something else."""
    try:
        function = getattr(estimator, method)
        given = (X, Y) if method in ("score", "staged_score") else (X,)
        if method in ("sample", "sample_y"):
            given = () if method == "sample" else (X,)
        found = function(*given)
        return list(found) if method in _STAGED else found
    except Exception:
        return None


def same(one: Any, other: Any) -> bool:
    if isinstance(one, str):
        return bool(one == other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    one, other = (value.toarray() if hasattr(value, "toarray") else np.asarray(value) for value in (one, other))
    if one.dtype.hasobject:
        return len(one) == len(other) and all(map(same, one.tolist(), other.tolist()))
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind in "fc"))


def test_each_that_answers_is_one_request_with_the_result_that_it_gives_unpatched(calls: Any) -> None:
    answers = {}
    for name, cls in all_estimators():
        estimator = fitted(cls)
        assert calls.take() == [], f"{name}.fit is no request"
        for method in (*_INFERENCE, *_STAGED) if estimator is not None else ():
            if not hasattr(estimator, method):
                continue
            np.random.seed(0)
            answer = ask(estimator, method)
            operations = calls.operations()
            if answer is not None:
                assert operations == [method], f"{name}.{method}"
                answers[name, method] = estimator, answer
    SklearnInstrumentor().uninstrument()
    for (name, method), (estimator, answer) in answers.items():
        np.random.seed(0)
        assert same(ask(estimator, method), answer), f"{name}.{method}"
    assert len({name for name, _ in answers}) > 130
    there = {name for name in (*_INFERENCE, *_STAGED) for _, cls in all_estimators() if hasattr(cls, name)}
    assert {method for _, method in answers} >= there - {"error_norm"}


def test_the_items_of_a_request_are_its_rows(calls: Any) -> None:
    NearestNeighbors().fit(X).kneighbors(X[:7])
    call = calls.one()
    assert (call.spec.operation, call.items) == ("kneighbors", 7)


# Stages.


def test_stages_are_one_request_until_the_last_and_what_is_done_between_is_not_part_of_it(calls: Any) -> None:
    model, other = GradientBoostingClassifier(n_estimators=4).fit(X, Y), LogisticRegression().fit(X, Y)
    for _ in model.staged_predict(X):
        other.predict(X)
    assert sorted(calls.operations()) == ["predict"] * 4 + ["staged_predict"]


def test_stages_that_are_not_taken_to_the_end_end_with_their_generator(calls: Any) -> None:
    stages = GradientBoostingClassifier(n_estimators=4).fit(X, Y).staged_predict(X)
    next(stages)
    stages.close()
    call = calls.one()
    assert (call.spec.operation, call.error) == ("staged_predict", None)
    assert calls.take() == []


# Inspection.


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_inspection_of_a_model_is_no_request(calls: Any, n_jobs: int) -> None:
    model = RandomForestClassifier(3).fit(X, Y)
    permutation_importance(model, X, Y, n_repeats=2, n_jobs=n_jobs)
    partial_dependence(model, X, [0], grid_resolution=3)
    assert calls.take() == []


def test_ten_thousand_calls_leave_nothing_behind(calls: Any) -> None:
    model, row = KNeighborsClassifier(1, algorithm="brute").fit(X[:2], [0, 1]), X[:1]
    apply = LogisticRegression().fit(X, Y).decision_function
    assert model.predict(row).shape == (1,)
    calls.take()
    assert calls.left_behind(lambda: apply(row)) < 5_000


def test_stages_belong_to_whoever_takes_them(calls: Any) -> None:
    import ecolyzer_otel

    model = GradientBoostingClassifier(n_estimators=4).fit(X, Y)
    made_outside = model.staged_predict(X)
    with ecolyzer_otel.request("mine"):
        list(made_outside)
        made_inside = model.staged_predict(X)
    assert calls.operations() == ["request"]
    list(made_inside)
    assert calls.operations() == ["staged_predict"]

"""scikit-learn: what is counted of each kind of model. Each learned number once, and nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import make_classification
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import HuberRegressor, LinearRegression, LogisticRegression, LogisticRegressionCV
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KernelDensity, KNeighborsClassifier, LocalOutlierFactor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, PowerTransformer, RobustScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier

from ecolyzer_sklearn import describe

N, D = 60, 4
X, Y = make_classification(n_samples=N, n_features=D, random_state=3)
X = np.abs(X)
Three = np.arange(N) % 3


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def trees(fitted: Any) -> int:
    return sum(tree.tree_.node_count for tree in np.ravel(fitted.estimators_))


def vectors(fitted: Any) -> int:
    """Support vectors, a weight for each, and one intercept."""
    return len(fitted.support_) * (D + 1) + 1


CASES: list[tuple[Any, int | Callable[[Any], int]]] = [
    # Linear models: coefficients and intercepts.
    (LinearRegression(), D + 1),
    (LinearRegression(fit_intercept=False), D),
    (LogisticRegression(), D + 1),
    (OneVsRestClassifier(LogisticRegression()), D + 1),
    (LogisticRegressionCV(cv=2, Cs=3), D + 1),
    (HuberRegressor(), D + 1),
    (LinearSVC(), D + 1),
    # Trees: splits and leaves.
    (DecisionTreeClassifier(), lambda tree: tree.tree_.node_count),
    (RandomForestRegressor(5), trees),
    (IsolationForest(n_estimators=5), trees),
    (GradientBoostingClassifier(n_estimators=5), lambda model: trees(model) + 2),  # the first guess: two priors
    (AdaBoostClassifier(n_estimators=3), lambda model: trees(model) + 3),
    (BaggingClassifier(n_estimators=3), trees),
    (
        HistGradientBoostingClassifier(max_iter=5),
        lambda model: sum(len(tree.nodes) for round in model._predictors for tree in round),
    ),
    # What keeps samples.
    (SVC(), vectors),
    (OneClassSVM(), vectors),
    (KNeighborsClassifier(), N * (D + 1)),  # the samples and their classes
    (LocalOutlierFactor(novelty=True), N * D),
    (KernelDensity(), N * D),
    # Others.
    (MLPClassifier((7,), max_iter=5), D * 7 + 7 + 7 + 1),
    (GaussianNB(), 2 * D + 2 * D + 2),
    (MultinomialNB(), 2 * D + 2),
    (GaussianMixture(3), 3 + 3 * D + 3 * D * D),
    (PCA(2), 2 * D + D + 2),  # directions, mean, variances
    (StandardScaler(), 2 * D),
    (MinMaxScaler(), 2 * D),
    (RobustScaler(), 2 * D),
    (PowerTransformer(), D + 2 * D),
    (OneHotEncoder(handle_unknown="ignore"), 0),
    # Of others: the sum, each part once.
    (make_pipeline(StandardScaler(), "passthrough", LogisticRegression()), 2 * D + D + 1),
    (make_pipeline(make_pipeline(StandardScaler()), PCA(2), LinearSVC()), 2 * D + (2 * D + D + 2) + 2 + 1),
    (FeatureUnion([("a", StandardScaler()), ("b", MinMaxScaler())]), 4 * D),
    (ColumnTransformer([("a", StandardScaler(), [0, 1]), ("b", "drop", [2])], remainder=MinMaxScaler()), 4 + 2),
    (VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())]), D + 1 + 4 * D + 2),
    (StackingClassifier([("a", LinearSVC())], LogisticRegression(), cv=2), D + 1 + 1 + 1),
    (CalibratedClassifierCV(LinearSVC(), cv=3), 3 * (D + 1 + 2)),
    (TransformedTargetRegressor(LinearRegression(), transformer=StandardScaler()), D + 1 + 2),
    (GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, cv=2), D + 1),
]


@pytest.mark.parametrize(("model", "expected"), CASES, ids=lambda value: type(value).__name__)
def test_each_learned_number_is_counted_once(model: Any, expected: int | Callable[[Any], int]) -> None:
    assert describe(model).parameters is None, "nothing is learned yet"
    model.fit(X, Y)
    facts = describe(model)
    number = expected(model) if callable(expected) else expected
    assert (facts.parameters, facts.dtype) == ((number, "float64") if number else (None, None))


def test_models_that_a_class_of_the_service_has_learned_are_counted() -> None:
    class Ours(BaseEstimator):
        """One for all, one for each kind of customer, and one of XGBoost's own."""

        def fit(self, X: Any, y: Any) -> Any:
            self.common_ = LogisticRegression().fit(X, y)
            self.kinds_ = {"new": LinearSVC().fit(X, y), "old": self.common_}
            self.booster_ = xgb.train({"max_depth": 1, "nthread": 1}, xgb.DMatrix(X, y), 5)
            self.seen_ = ["customer"] * 100
            return self

        def predict(self, X: Any) -> Any:
            return self.common_.predict(X)

    assert describe(Ours().fit(X, Y)).parameters == 2 * (D + 1) + 5 * 3


def test_three_classes_have_three_rows_of_coefficients() -> None:
    assert describe(LogisticRegression().fit(X, Three)).parameters == 3 * (D + 1)
    assert describe(OneVsRestClassifier(LinearSVC()).fit(X, Three)).parameters == 3 * (D + 1)


def test_a_sparse_model_has_what_it_holds() -> None:
    model = LogisticRegression().fit(X, Y)
    model.coef_[0, 0] = 0.0
    assert describe(model.sparsify()).parameters == D - 1 + 1


def test_the_dtype_is_the_one_that_holds_most() -> None:
    single = KNeighborsClassifier().fit(X.astype(np.float32), Y)
    assert describe(single).dtype == "float32"
    assert describe(make_pipeline(StandardScaler(), single).fit(X, Y)).dtype == "float64"


def test_words_have_a_weight_each() -> None:
    assert describe(TfidfVectorizer().fit(["a cat sat", "a cat ran far"])).parameters == len(
        {"cat", "sat", "ran", "far"}
    )


def test_the_name_of_a_pipeline_tells_its_last_step() -> None:
    assert describe(make_pipeline(StandardScaler(), LinearSVC(), "passthrough")).name == "Pipeline(LinearSVC)"
    assert describe(make_pipeline("passthrough")).name == "Pipeline"

"""scikit-learn: meta-estimators, ``n_jobs`` and joblib: one request per outermost call, whoever works for it."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_classification
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators
from sklearn.utils.parallel import Parallel, delayed

from ecolyzer_sklearn import _INFERENCE, _STAGED, SklearnInstrumentor

X, Y = make_classification(n_samples=60, n_features=4, random_state=3)
MODEL = LogisticRegression().fit(X, Y)
TWO = [("a", LogisticRegression()), ("b", DecisionTreeClassifier(random_state=0))]
META = [
    VotingClassifier(TWO, n_jobs=2),
    StackingClassifier(TWO, cv=2, n_jobs=2),
    BaggingClassifier(n_estimators=4, n_jobs=2, random_state=0),
    OneVsRestClassifier(LogisticRegression(), n_jobs=2),
    GridSearchCV(RandomForestClassifier(3, random_state=0), {"max_depth": [1, 2]}, cv=2, n_jobs=2),
    KNeighborsClassifier(n_jobs=2),
    make_pipeline(FeatureUnion([("a", StandardScaler()), ("b", MinMaxScaler())], n_jobs=2), LogisticRegression()),
    make_pipeline(
        ColumnTransformer([("a", StandardScaler(), [0, 1]), ("b", MinMaxScaler(), [2])], n_jobs=2), SVC()
    ),
]


@pytest.fixture(autouse=True)
def _patched(instrumented: Callable[[Any], Any]) -> Iterator[None]:
    instrumented(SklearnInstrumentor())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("model", META, ids=lambda model: type(model).__name__)
def test_estimators_of_others_are_one_request(calls: Any, model: Any) -> None:
    with joblib.parallel_backend("threading"):
        model.fit(X, Y)
        assert calls.take() == []
        patched = model.predict(X[:7])
    call = calls.one()
    assert (call.model, call.spec.operation, call.items) == (model, "predict", 7)
    SklearnInstrumentor().uninstrument()
    assert np.array_equal(model.predict(X[:7]), patched)


def test_one_that_is_searched_or_validated_in_processes_is_no_request(calls: Any) -> None:
    cross_validate(LogisticRegression(), X, Y, cv=2, n_jobs=2)
    ColumnTransformer([("a", StandardScaler(), [0]), ("b", MinMaxScaler(), [1])], n_jobs=2).fit(X).transform(X)
    assert calls.operations() == ["transform"]


def test_a_task_in_another_process_is_no_request_of_it(calls: Any) -> None:
    sent = []

    class Sending(BaseEstimator):
        """Keeps its task as joblib would send it to a process."""

        def fit(self, X: Any, y: Any = None) -> Any:
            return self

        def predict(self, X: Any) -> Any:
            function, args, kwargs = task = delayed(MODEL.predict)(X)
            (answer,) = Parallel(n_jobs=1)([task])
            sent.append((pickle.dumps(function), args, kwargs))
            return answer

    answer = Sending().fit(X).predict(X[:3])
    assert calls.operations() == ["predict"]
    ((function, args, kwargs),) = sent
    assert np.array_equal(pickle.loads(function)(*args, **kwargs), answer)
    assert calls.take() == [], "it belongs to the call in the process that sent it"


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_calls_that_are_each_a_task_are_each_a_request_of_their_process(calls: Any, backend: str) -> None:
    joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(MODEL.predict)(X[:2]) for _ in range(6))
    assert len(calls.take()) == (6 if backend == "threading" else 0)


def test_an_estimator_from_a_file_is_a_request(calls: Any, tmp_path: Path) -> None:
    joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y), tmp_path / "model.joblib")
    code = f"""
import sys
from ecolyzer_sklearn import SklearnInstrumentor
from ecolyzer_otel.call import replace_state, state
SklearnInstrumentor().instrument(skip_dep_check=True)
replace_state(lambda here: None)
import joblib
joblib.load({str(tmp_path / "model.joblib")!r}).predict([[0.0] * 4])
print([call.spec.describe(call.model).name for call in state().done])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.strip() == "['Pipeline(LogisticRegression)']"


def test_a_coroutine_may_predict_in_a_thread(calls: Any) -> None:
    async def serve() -> None:
        await asyncio.gather(*(asyncio.to_thread(MODEL.predict, X[:3]) for _ in range(5)))

    asyncio.run(serve())
    assert calls.operations() == ["predict"] * 5


def test_a_request_that_asks_in_a_thread_is_one_request(calls: Any) -> None:
    class Asking(BaseEstimator):
        """Answers through another in a thread that has its context."""

        def fit(self, X: Any, y: Any = None) -> Any:
            return self

        def predict(self, X: Any) -> Any:
            return asyncio.run(self._ask(X))

        async def _ask(self, X: Any) -> Any:
            return await asyncio.to_thread(MODEL.predict, X)

    Asking().fit(X).predict(X)
    assert type(calls.one().model) is Asking


def test_every_estimator_has_the_methods_that_it_has_unpatched() -> None:
    def abilities() -> dict[str, list[str]]:
        made = [*META, SVC(probability=True)]
        for _, cls in all_estimators():
            with contextlib.suppress(TypeError):  # it needs others
                made.append(cls())
        return {repr(one): [name for name in (*_INFERENCE, *_STAGED) if hasattr(one, name)] for one in made}

    patched = abilities()
    SklearnInstrumentor().uninstrument()
    assert patched == abilities()
    assert "predict_proba" not in patched[repr(SVC())]
    assert "predict_proba" in patched[repr(SVC(probability=True))]


def test_several_outputs_are_one_request(calls: Any) -> None:
    MultiOutputClassifier(LogisticRegression(), n_jobs=2).fit(X, np.c_[Y, Y]).predict_proba(X)
    assert calls.operations() == ["predict_proba"]

"""scikit-learn: which calls are requests, what is told of the model, and that nothing else changes."""

from __future__ import annotations

import functools
import inspect
import io
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from time import thread_time_ns
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, learning_curve
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators
from sklearn.utils.metaestimators import available_if

from ecolyzer_sklearn import SklearnInstrumentor

X, Y = make_classification(n_samples=200, n_features=8, random_state=3)
Take = Callable[..., Any]


@pytest.fixture(autouse=True)
def _patched(instrumented: Callable[[Any], Any]) -> None:
    instrumented(SklearnInstrumentor())


# What is a request.


@pytest.mark.parametrize(
    ("model", "operation"),
    [
        (LogisticRegression(), "predict"),
        (LogisticRegression(), "predict_proba"),
        (LogisticRegression(), "predict_log_proba"),
        (LogisticRegression(), "decision_function"),
        (LinearSVC(), "predict"),
        (LinearSVC(), "decision_function"),
        (SVC(), "predict"),
        (DecisionTreeClassifier(), "predict_proba"),
        (StandardScaler(), "transform"),
        (make_pipeline(StandardScaler(), LogisticRegression()), "predict_proba"),
        (VotingClassifier([("a", LogisticRegression()), ("b", DecisionTreeClassifier())]), "predict"),
        (CalibratedClassifierCV(LinearSVC(), cv=2), "predict_proba"),
        (GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, cv=2), "predict"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_an_inference_method_is_one_request_and_fit_is_none(calls: Any, model: Any, operation: str) -> None:
    model.fit(X, Y)
    assert calls.take() == []
    getattr(model, operation)(X[:7])
    call = calls.one()
    assert (call.spec.framework, call.spec.operation, call.items) == ("sklearn", operation, 7)
    assert call.model is model


def test_methods_that_need_an_ability_are_requests_where_it_is_there(calls: Any) -> None:
    with_it, without = SVC(probability=True).fit(X, Y), SVC().fit(X, Y)
    with_it.predict_proba(X)
    assert calls.operations() == ["predict_proba"]
    assert hasattr(with_it, "predict_proba")
    assert not hasattr(without, "predict_proba")
    with pytest.raises(AttributeError):
        without.predict_proba(X)
    assert calls.take() == []


@pytest.mark.parametrize(
    "train",
    [
        lambda: cross_val_score(LogisticRegression(), X, Y, cv=3),
        lambda: cross_val_predict(LogisticRegression(), X, Y, cv=3),
        lambda: learning_curve(LogisticRegression(), X, Y, cv=2, train_sizes=[0.5, 1.0]),
        lambda: StandardScaler().fit_transform(X),
        lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y),
        lambda: GridSearchCV(RandomForestClassifier(5), {"max_depth": [2, 3]}, cv=2, n_jobs=2).fit(X, Y),
    ],
    ids=["cross_val_score", "cross_val_predict", "learning_curve", "fit_transform", "pipeline", "search"],
)
def test_training_and_validation_are_no_requests(calls: Any, train: Callable[[], Any]) -> None:
    train()
    assert calls.take() == []


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("operation", ["predict", "predict_proba"])
def test_a_forest_is_one_request_however_many_threads_work_for_it(calls: Any, n_jobs: int, operation: str) -> None:
    forest = RandomForestClassifier(20, n_jobs=n_jobs, random_state=0).fit(X, Y)
    getattr(forest, operation)(X)
    assert calls.one().model is forest


def test_the_cpu_time_of_helper_threads_belongs_to_the_request(calls: Any) -> None:
    spent: dict[int, int] = {}

    class Busy(ClassifierMixin, BaseEstimator):
        """A tree whose prediction is expensive and tells what it cost its thread."""

        def fit(self, X: Any, y: Any) -> Busy:
            self.classes_ = np.unique(y)
            return self

        def predict(self, X: Any) -> Any:
            start = thread_time_ns()
            while thread_time_ns() - start < 60_000_000:
                pass
            spent[threading.get_ident()] = spent.get(threading.get_ident(), 0) + thread_time_ns() - start
            return np.zeros(len(X), dtype=int)

    from sklearn.utils.parallel import Parallel, delayed

    class Fan(ClassifierMixin, BaseEstimator):
        """Asks four others in threads, as scikit-learn's own ensembles do."""

        def fit(self, X: Any, y: Any) -> Fan:
            self.members_ = [Busy().fit(X, y) for _ in range(4)]
            return self

        def predict(self, X: Any) -> Any:
            found = Parallel(n_jobs=2, require="sharedmem")(delayed(one.predict)(X) for one in self.members_)
            return found[0]

    Fan().fit(X, Y).predict(X)
    call = calls.one()
    assert type(call.model) is Fan
    elsewhere = sum(ns for thread, ns in spent.items() if thread != threading.get_ident())
    assert elsewhere >= 100_000_000, "the work was done in helper threads"
    assert sum(call.extra_cpu) == pytest.approx(elsewhere, rel=0.3)
    assert call.cpu_ns < elsewhere


def test_counts_are_exact_from_four_threads(calls: Any, in_threads: Take) -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    in_threads(lambda: model.predict(X[:3]), 4, 50)
    assert calls.operations() == ["predict"] * 200


@pytest.mark.parametrize(("given", "items"), [(X[:5], 5), (X[:5].tolist(), 5)], ids=["array", "list"])
def test_the_batch_size_comes_from_the_first_argument(calls: Any, given: Any, items: int) -> None:
    model = LogisticRegression().fit(X, Y)
    model.predict(given)
    model.predict(X=given)
    assert [call.items for call in calls.take()] == [items, items]


def test_an_exception_of_the_model_is_the_callers(calls: Any) -> None:
    model = LogisticRegression().fit(X, Y)
    with pytest.raises(ValueError, match="8 features"):
        model.predict(X[:, :3])
    assert calls.one().error is ValueError


# User-defined estimators.


def _user_classes() -> tuple[type, type]:
    class Shift(TransformerMixin, BaseEstimator):
        def __init__(self, by: float = 1.0) -> None:
            self.by = by

        def fit(self, X: Any, y: Any = None) -> Any:
            self.n_features_in_ = X.shape[1]
            return self

        def transform(self, X: Any) -> Any:
            return X + self.by

        def get_feature_names_out(self, input_features: Any = None) -> Any:
            return np.array([f"shifted{i}" for i in range(self.n_features_in_)], dtype=object)

    class Able(ClassifierMixin, BaseEstimator):
        def __init__(self, able: bool = True) -> None:
            self.able = able

        def fit(self, X: Any, y: Any) -> Any:
            self.classes_ = np.unique(y)
            return self

        def predict(self, X: Any) -> Any:
            return np.zeros(len(X), dtype=int)

        @available_if(lambda self: self.able)
        def predict_proba(self, X: Any) -> Any:
            return np.full((len(X), 2), 0.5)

    return Shift, Able


def test_a_users_transformer_is_a_request_and_keeps_set_output(calls: Any) -> None:
    shift, _ = _user_classes()
    model = shift(by=2.0).set_output(transform="pandas")
    assert calls.take() == []
    frame = model.fit(X).transform(X)
    assert list(frame.columns) == [f"shifted{i}" for i in range(8)]
    assert calls.operations() == ["transform"]
    assert np.array_equal(shift(by=2.0).fit(X).transform(X), X + 2.0)
    assert calls.operations() == ["transform"]
    shift().fit_transform(X)
    assert calls.take() == []


def test_a_users_method_that_needs_an_ability_is_a_request(calls: Any) -> None:
    _, able = _user_classes()
    able().fit(X, Y).predict_proba(X)
    assert calls.operations() == ["predict_proba"]
    assert not hasattr(able(able=False), "predict_proba")


def test_a_users_class_made_before_is_patched_as_well(calls: Any) -> None:
    SklearnInstrumentor().uninstrument()
    shift, able = _user_classes()
    SklearnInstrumentor().instrument(skip_dep_check=True)
    shift().fit(X).transform(X)
    able().fit(X, Y).predict(X)
    assert calls.operations() == ["transform", "predict"]


def test_a_subclass_that_overrides_and_calls_the_original_is_one_request(calls: Any) -> None:
    class Careful(LogisticRegression):
        def predict(self, X: Any) -> Any:
            return super().predict(np.asarray(X))

    Careful().fit(X, Y).predict(X)
    assert type(calls.one().model).__name__ == "Careful"


# What is told of a model.


@pytest.mark.parametrize(
    ("model", "name", "parameters"),
    [
        (LogisticRegression(), "LogisticRegression", 8 + 1),
        (LinearSVC(), "LinearSVC", 8 + 1),
        (make_pipeline(StandardScaler(), LogisticRegression()), "Pipeline(LogisticRegression)", 2 * 8 + 8 + 1),
    ],
    ids=["logistic", "svc", "pipeline"],
)
def test_the_learned_numbers_are_counted(calls: Any, model: Any, name: str, parameters: int) -> None:
    model.fit(X, Y).predict(X)
    facts = calls.facts()
    assert (facts.name, facts.parameters, facts.dtype, facts.device) == (name, parameters, "float64", "cpu")


def test_the_parameters_of_trees_are_their_nodes(calls: Any) -> None:
    forest = RandomForestClassifier(7, random_state=0).fit(X, Y)
    forest.predict(X)
    assert calls.facts().parameters == sum(tree.tree_.node_count for tree in forest.estimators_)


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "inside-a-pipeline"])
def test_a_refitted_model_is_described_anew(calls: Any, nested: bool) -> None:
    model = LogisticRegression().fit(X, Y)
    calls.forgotten()
    trainer = Pipeline([("model", model)]) if nested else model
    trainer.fit(X[:, :3], Y)
    assert id(model) in calls.forgotten()
    model.predict(X[:, :3])
    assert calls.facts().parameters == 3 + 1


# Nothing else changes.


def test_results_are_bit_identical(calls: Any) -> None:
    models = [
        make_pipeline(StandardScaler(), LogisticRegression()),
        RandomForestClassifier(10, n_jobs=2, random_state=1),
        SVC(probability=True, random_state=1),
    ]
    for model in models:
        model.fit(X, Y)
        patched = model.predict_proba(X)
        SklearnInstrumentor().uninstrument()
        plain = model.predict_proba(X)
        again = clone(model).fit(X, Y).predict_proba(X)
        SklearnInstrumentor().instrument(skip_dep_check=True)
        assert patched.tobytes() == plain.tobytes() == again.tobytes()
    assert len(calls.take()) == len(models)


def test_pickles_clones_parameters_and_signatures_are_as_they_were(calls: Any) -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3)).fit(X, Y)
    copy = pickle.loads(pickle.dumps(model))
    assert np.array_equal(copy.predict(X), model.predict(X))
    assert len(calls.take()) == 2
    assert clone(model).get_params()["logisticregression__C"] == 0.3
    patched = {name: str(inspect.signature(getattr(LogisticRegression, name))) for name in ("predict", "fit")}
    document = LogisticRegression.predict.__doc__
    pickled = pickle.dumps(model)
    SklearnInstrumentor().uninstrument()
    assert patched == {name: str(inspect.signature(getattr(LogisticRegression, name))) for name in patched}
    assert LogisticRegression.predict.__doc__ == document
    assert pickle.dumps(model) == pickled
    SklearnInstrumentor().instrument(skip_dep_check=True)


def test_joblib_takes_a_forest_to_another_process(calls: Any) -> None:
    scores = cross_val_score(RandomForestClassifier(5, n_jobs=2), X, Y, cv=2, n_jobs=2)
    assert len(scores) == 2
    assert calls.take() == []


# Un-patching.


def _everything() -> dict[tuple[str, str], Any]:
    """Every attribute of every estimator class and all that it inherits, and what hangs on descriptors."""
    found = {}
    for _, estimator in all_estimators():
        for cls in estimator.__mro__:
            for name, value in vars(cls).items():
                found[f"{cls.__module__}.{cls.__qualname__}", name] = value
                if "fn" in getattr(value, "__dict__", {}):
                    found[f"{cls.__module__}.{cls.__qualname__}", f"{name}.fn"] = value.fn
    return found


def _cells(one: Any) -> Any:
    return one.__closure__ or () if inspect.isfunction(one) else ()


def _holds_ours(function: Any) -> bool:
    """Whether a wrapper of ours is anywhere in a chain of wrappers, by what it is compiled from."""
    todo, seen = [function], set()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        code = getattr(one, "__code__", None)
        if code is not None and "ecolyzer" in code.co_filename:
            return True
        todo += [cell.cell_contents for cell in _cells(one)]
        todo += [getattr(one, name, None) for name in ("__wrapped__", "__func__", "fn")]
    return False


def test_uninstrument_restores_every_attribute_of_every_estimator() -> None:
    SklearnInstrumentor().uninstrument()
    _everything()  # imports what is not imported yet
    before = _everything()
    assert len(before) > 3_000
    SklearnInstrumentor().instrument(skip_dep_check=True)
    changed = [key for key, value in _everything().items() if before.get(key) is not value]
    assert len(changed) > 300
    SklearnInstrumentor().uninstrument()
    after = _everything()
    ignored = {"_abc_impl", "__abstractmethods__"}
    assert after.keys() == before.keys()
    assert [key for key in before if after[key] is not before[key] and key[1] not in ignored] == []


def test_classes_made_while_patched_hold_nothing_of_ours_afterwards(calls: Any) -> None:
    shift, able = _user_classes()
    shift().fit(X).transform(X)
    assert len(calls.take()) == 1
    SklearnInstrumentor().uninstrument()
    held = [name for cls in (shift, able) for name, value in vars(cls).items() if _holds_ours(value)]
    assert held == []
    assert np.array_equal(shift().fit(X).transform(X), X + 1.0)
    assert calls.take() == []
    SklearnInstrumentor().instrument(skip_dep_check=True)
    shift().fit(X).transform(X)
    assert calls.operations() == ["transform"], "patched again, it counts again"


def test_a_wrapper_put_around_ours_is_patched_again_the_next_time(calls: Any) -> None:
    class Model(ClassifierMixin, BaseEstimator):
        def fit(self, X: Any, y: Any) -> Any:
            return self

        def predict(self, X: Any) -> Any:
            return X

    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    Model.predict = logged(Model.predict)  # type: ignore[method-assign]
    for _ in range(2):
        Model().predict(X)
        assert calls.operations() == ["predict"]
        SklearnInstrumentor().uninstrument()
        Model().predict(X)
        assert calls.take() == []
        SklearnInstrumentor().instrument(skip_dep_check=True)


IMPORTED_WHILE_PATCHED = """
import sys
from ecolyzer_sklearn import SklearnInstrumentor
SklearnInstrumentor().instrument(skip_dep_check=True)
import numpy
from ecolyzer_otel.call import replace_state, state
replace_state(lambda here: None)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.utils import all_estimators
model = LogisticRegression().fit([[0.0], [1.0], [0.1], [0.9]], [0, 1, 0, 1])
cross_val_score(model, [[0.0], [1.0]] * 6, [0, 1] * 6, cv=2)
model.predict([[0.0]])
counted = len(state().done)
all_estimators()
SklearnInstrumentor().uninstrument()

def cells(one):
    return one.__closure__ or () if type(one) is type(cells) else ()

def holds_ours(function):
    todo, seen = [function], set()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if type(one) is type(cells) and "ecolyzer" in one.__code__.co_filename:
            return True
        todo += [cell.cell_contents for cell in cells(one)]
        todo += [vars(one).get(name) for name in ("__wrapped__", "fn")] if hasattr(one, "__dict__") else []
        todo += [one.__func__] if isinstance(one, (classmethod, staticmethod)) else []
    return False

left = {f"{cls.__name__}.{name}" for _, one in all_estimators() for cls in one.__mro__
        for name, value in vars(cls).items() if holds_ours(value)}
left |= {f"{module}.{name}" for module, found in list(sys.modules.items()) if module.startswith("sklearn")
         for name, value in list(vars(found).items()) if holds_ours(value)}
import json
print(json.dumps({"counted": counted, "left": sorted(left)}))
"""


def test_what_was_imported_while_patched_holds_nothing_of_ours_afterwards() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED_WHILE_PATCHED], capture_output=True, text=True, timeout=240, check=True
    )
    assert json.loads(done.stdout) == {"counted": 1, "left": []}


def test_instrumenting_twice_patches_once(calls: Any) -> None:
    SklearnInstrumentor().instrument(skip_dep_check=True)
    model = LogisticRegression().fit(X, Y)
    model.predict(X)
    assert len(calls.take()) == 1
    buffer = io.BytesIO()
    pickle.dump(model, buffer)
    assert buffer.tell() > 0

"""XGBoost: predictions of boosters are requests, whatever interface they are called by; training is none."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import xgboost as xgb
from sklearn.datasets import make_classification
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ecolyzer_sklearn import SklearnInstrumentor
from ecolyzer_xgboost import XGBoostInstrumentor

X, Y = make_classification(n_samples=200, n_features=8, random_state=3)
PARAMS = {"max_depth": 3, "nthread": 1, "objective": "binary:logistic"}


@pytest.fixture(autouse=True)
def _patched(instrumented: Callable[[Any], Any]) -> None:
    instrumented(SklearnInstrumentor())
    instrumented(XGBoostInstrumentor())


@pytest.fixture
def booster(calls: Any) -> Any:
    made = xgb.train(PARAMS, xgb.DMatrix(X, Y), num_boost_round=5)
    calls.take()
    return made


def nodes(booster: Any) -> int:
    return len(booster.trees_to_dataframe())


def test_a_prediction_is_one_request_with_its_rows(calls: Any, booster: Any) -> None:
    booster.predict(xgb.DMatrix(X[:70]))
    call = calls.one()
    assert (call.spec.framework, call.spec.operation, call.items) == ("xgboost", "predict", 70)
    booster.inplace_predict(X[:30])
    call = calls.one()
    assert (call.spec.operation, call.items) == ("inplace_predict", 30)
    for more in ({"pred_leaf": True}, {"pred_contribs": True}, {"pred_interactions": True}, {"strict_shape": True}):
        booster.predict(xgb.DMatrix(X[:9]), **more)
        assert calls.one().items == 9


@pytest.mark.parametrize("of", [np.asarray, pd.DataFrame, scipy.sparse.csr_matrix])
def test_rows_of_any_table_are_the_items(calls: Any, booster: Any, of: Callable[[Any], Any]) -> None:
    booster.inplace_predict(data=of(X[:6]), validate_features=False)
    assert calls.one().items == 6
    booster.predict(xgb.DMatrix(of(X[:6])), validate_features=False)
    assert calls.one().items == 6


def test_name_nodes_and_dtype_are_told(calls: Any, booster: Any) -> None:
    booster.predict(xgb.DMatrix(X))
    facts = calls.facts()
    assert (facts.name, facts.parameters, facts.dtype, facts.device) == (
        "Booster",
        nodes(booster),
        "float32",
        "cpu",
    )


def test_nodes_of_many_rounds_and_classes_are_counted(calls: Any) -> None:
    data = xgb.DMatrix(X, np.arange(200) % 3)
    many = xgb.train({"objective": "multi:softprob", "num_class": 3, "max_depth": 2}, data, num_boost_round=130)
    many.predict(data)
    assert calls.facts().parameters == nodes(many)


@pytest.mark.parametrize(
    "params",
    [
        {"booster": "dart"},
        {"num_parallel_tree": 300, "subsample": 0.5},
        {"tree_method": "exact", "gamma": 2.0, "max_depth": 6},
    ],
    ids=["dart", "forest", "pruned"],
)
def test_nodes_of_every_kind_of_trees_are_counted(calls: Any, params: dict[str, Any]) -> None:
    trained = xgb.train(params, xgb.DMatrix(X, Y), num_boost_round=3)
    trained.predict(xgb.DMatrix(X))
    assert calls.facts().parameters == nodes(trained)


@pytest.mark.skipif(xgb.__version__ < "2", reason="trees with many outputs came with XGBoost 2")
def test_a_node_of_a_tree_with_many_outputs_is_one_parameter(calls: Any) -> None:
    params = {"multi_strategy": "multi_output_tree", "tree_method": "hist", "max_depth": 1}
    stumps = xgb.train(params, xgb.DMatrix(X, X[:, :2]), num_boost_round=4)
    stumps.predict(xgb.DMatrix(X))
    assert calls.facts().parameters == 4 * 3


def test_a_linear_booster_has_its_coefficients(calls: Any) -> None:
    linear = xgb.train({"booster": "gblinear", "objective": "reg:squarederror"}, xgb.DMatrix(X, Y), 3)
    linear.predict(xgb.DMatrix(X))
    assert calls.facts().parameters == 8 + 1


def test_a_loaded_booster_has_the_name_of_its_file(calls: Any, booster: Any, tmp_path: Path) -> None:
    booster.save_model(tmp_path / "fraud.json")
    for loaded in (xgb.Booster(model_file=str(tmp_path / "fraud.json")), xgb.Booster()):
        loaded.load_model(tmp_path / "fraud.json")
        loaded.predict(xgb.DMatrix(X))
        assert calls.facts().name == "fraud"
    wrapper = xgb.XGBClassifier(n_jobs=1)
    wrapper.load_model(tmp_path / "fraud.json")
    wrapper.predict(X)
    facts = calls.facts()
    assert (facts.name, facts.framework, facts.parameters) == ("fraud", "xgboost", nodes(booster))
    loaded.load_model(booster.save_raw())
    loaded.predict(xgb.DMatrix(X))
    assert calls.facts().name == "Booster"


@pytest.mark.parametrize(
    "kind", ["XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor"]
)
def test_wrappers_of_scikit_learn_are_one_request_of_this_framework(calls: Any, kind: str) -> None:
    model = getattr(xgb, kind)(n_estimators=4, max_depth=2, n_jobs=1)
    model.fit(X, Y, **({"group": [100, 100]} if kind == "XGBRanker" else {}))
    assert calls.take() == []
    model.predict(X)
    call = calls.one()
    facts = call.spec.describe(call.model)
    assert (facts.name, facts.framework, call.spec.operation, call.items) == (kind, "xgboost", "predict", 200)
    assert facts.parameters == nodes(model.get_booster())
    operations = ["predict_proba", "apply"] if "Classifier" in kind else ["apply"]
    for operation in operations:
        getattr(model, operation)(X)
        assert calls.operations() == [operation]


def test_in_a_pipeline_it_is_part_of_the_request(calls: Any) -> None:
    model = make_pipeline(StandardScaler(), xgb.XGBClassifier(n_estimators=2, n_jobs=1)).fit(X, Y)
    model.predict(X)
    call = calls.one()
    assert (call.spec.framework, call.model) == ("sklearn", model)
    facts = call.spec.describe(call.model)
    assert (facts.name, facts.framework, facts.dtype) == ("Pipeline(XGBClassifier)", None, "float32")
    assert facts.parameters == 2 * 8 + nodes(model[-1].get_booster())


def test_a_class_made_from_a_wrapper_counts_for_this_framework(calls: Any) -> None:
    class Fraud(xgb.XGBClassifier):
        """Ours."""

    model = Fraud(n_estimators=2, n_jobs=1).fit(X, Y)
    model.predict(X)
    facts = calls.facts()
    assert (facts.name, facts.framework, facts.parameters) == ("Fraud", "xgboost", nodes(model.get_booster()))


class Peeking(xgb.callback.TrainingCallback):
    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        model.predict(xgb.DMatrix(X))
        return False


@pytest.mark.parametrize(
    "train",
    [
        lambda data: xgb.train(PARAMS, data, 3, evals=[(data, "train")], callbacks=[Peeking()], verbose_eval=False),
        lambda data: xgb.train(
            PARAMS, data, 3, evals=[(data, "train")], verbose_eval=False,
            obj=lambda guess, known: (guess - known.get_label(), np.ones(len(guess))),
            custom_metric=lambda guess, known: ("mine", float(np.mean(guess))),
        ),
        lambda data: xgb.cv(PARAMS, data, 3, nfold=2),
        lambda data: xgb.XGBClassifier(n_estimators=3).fit(X, Y, eval_set=[(X, Y)], verbose=False),
    ],
)  # fmt: skip
def test_training_is_no_request(calls: Any, train: Callable[[Any], Any]) -> None:
    train(xgb.DMatrix(X, Y))
    assert calls.take() == []


def test_a_prediction_for_training_is_no_request(calls: Any, booster: Any) -> None:
    booster.predict(xgb.DMatrix(X), training=True)
    assert calls.one().note().training


def test_a_booster_that_learns_on_is_described_anew(calls: Any, booster: Any) -> None:
    calls.forgotten()
    booster.update(xgb.DMatrix(X, Y), 5)
    assert id(booster) in calls.forgotten()
    booster.eval(xgb.DMatrix(X, Y))
    assert calls.forgotten() == []


def test_a_model_that_moves_or_is_loaded_is_described_anew(calls: Any, booster: Any, tmp_path: Path) -> None:
    booster.save_model(tmp_path / "fraud.json")
    wrapper = xgb.XGBClassifier(n_estimators=2, n_jobs=1).fit(X, Y)
    calls.forgotten()
    wrapper.set_params(n_jobs=2)
    assert id(wrapper) not in calls.forgotten()
    wrapper.set_params(device="cpu")
    assert id(wrapper) in calls.forgotten()
    wrapper.load_model(tmp_path / "fraud.json")
    assert id(wrapper) in calls.forgotten()


def test_results_are_bit_identical_and_copies_work(calls: Any, booster: Any) -> None:
    data = xgb.DMatrix(X)
    patched = booster.predict(data), booster.copy().predict(data), pickle.loads(pickle.dumps(booster)).predict(data)
    assert len(calls.take()) == 3
    XGBoostInstrumentor().uninstrument()
    plain = booster.predict(data)
    assert all(np.array_equal(one, plain) for one in patched)
    assert calls.take() == []


def test_a_model_that_stopped_early_answers_from_its_best_round(calls: Any) -> None:
    model = xgb.XGBRegressor(n_estimators=200, early_stopping_rounds=3, n_jobs=1, learning_rate=0.9)
    model.fit(X[:150], Y[:150], eval_set=[(X[150:], Y[150:])], verbose=False)
    assert calls.take() == []
    patched = model.predict(X), pickle.loads(pickle.dumps(model)).predict(X)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    XGBoostInstrumentor().uninstrument()
    SklearnInstrumentor().uninstrument()
    assert all(np.array_equal(one, model.predict(X)) for one in patched)


def test_a_model_may_be_described_while_it_predicts(calls: Any, in_threads: Callable[..., None]) -> None:
    params = PARAMS | {"max_depth": 8}
    booster = xgb.train(params, xgb.DMatrix(X, Y), num_boost_round=400)
    expected, known, found = booster.inplace_predict(X), nodes(booster), set()

    def both() -> None:
        found.add(calls._state.done[-1].spec.describe(booster).parameters)
        assert np.array_equal(booster.inplace_predict(X), expected)

    in_threads(both, 4, 10)
    assert found == {known}


def test_a_coroutine_may_predict_in_a_thread(calls: Any, booster: Any) -> None:
    async def serve() -> None:
        await asyncio.gather(*(asyncio.to_thread(booster.inplace_predict, X[:3]) for _ in range(5)))

    asyncio.run(serve())
    assert [call.items for call in calls.take()] == [3] * 5


def test_an_exception_is_the_callers(calls: Any, booster: Any) -> None:
    with pytest.raises(ValueError, match="Feature shape mismatch"):
        booster.inplace_predict(X[:, :3])
    assert calls.one().error is ValueError


def test_counts_are_exact_from_four_threads(calls: Any, booster: Any, in_threads: Callable[..., None]) -> None:
    in_threads(lambda: booster.inplace_predict(X[:2]), 4, 50)
    assert len(calls.take()) == 200


def test_uninstrument_restores_class_and_functions() -> None:
    XGBoostInstrumentor().uninstrument()
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "xgboost"]
    before = [dict(vars(owner)) for owner in (xgb.Booster, *modules)]
    XGBoostInstrumentor().instrument(skip_dep_check=True)
    assert vars(xgb.Booster)["predict"] is not before[0]["predict"]
    XGBoostInstrumentor().uninstrument()
    for owner, was in zip((xgb.Booster, *modules), before, strict=True):
        assert all(vars(owner)[name] is value for name, value in was.items())


def test_ten_thousand_calls_leave_nothing_behind(calls: Any, booster: Any) -> None:
    row = np.ascontiguousarray(X[:1])
    assert calls.left_behind(lambda: booster.inplace_predict(row)) < 5_000


def test_it_is_not_imported_by_us() -> None:
    code = """
import sys
from ecolyzer_xgboost import XGBoostInstrumentor
XGBoostInstrumentor().instrument(skip_dep_check=True)
sys.exit("xgboost" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=240).returncode == 0

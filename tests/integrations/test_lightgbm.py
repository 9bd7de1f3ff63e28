"""LightGBM: predictions of boosters are requests, whatever interface they are called by; training is none."""

from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.datasets import make_classification
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ecolyzer_lightgbm import LightGBMInstrumentor
from ecolyzer_sklearn import SklearnInstrumentor

X, Y = make_classification(n_samples=200, n_features=8, random_state=3)
PARAMS = {"num_leaves": 7, "num_threads": 1, "objective": "binary", "verbosity": -1, "min_data_in_leaf": 5}


@pytest.fixture(autouse=True)
def _patched(instrumented: Callable[[Any], Any]) -> None:
    instrumented(SklearnInstrumentor())
    instrumented(LightGBMInstrumentor())


@pytest.fixture
def booster(calls: Any) -> Any:
    made = lgb.train(PARAMS, lgb.Dataset(X, Y), num_boost_round=5)
    calls.take()
    return made


def nodes(booster: Any) -> int:
    return len(booster.trees_to_dataframe())


def test_a_prediction_is_one_request_with_its_rows(calls: Any, booster: Any) -> None:
    booster.predict(X[:70])
    call = calls.one()
    assert (call.spec.framework, call.spec.operation, call.items) == ("lightgbm", "predict", 70)
    for more in ({"pred_leaf": True}, {"pred_contrib": True}, {"raw_score": True}):
        booster.predict(X[:9], **more)
        assert calls.one().items == 9


@pytest.mark.parametrize("of", [np.asarray, pd.DataFrame, scipy.sparse.csr_matrix, np.ndarray.tolist])
def test_rows_of_any_table_are_the_items(calls: Any, booster: Any, of: Callable[[Any], Any]) -> None:
    booster.predict(data=of(X[:6]))
    assert calls.one().items == 6


def test_rows_of_a_file_are_the_items(calls: Any, booster: Any, tmp_path: Path) -> None:
    np.savetxt(tmp_path / "rows.csv", np.column_stack([Y[:6], X[:6]]), delimiter=",")
    assert len(booster.predict(tmp_path / "rows.csv")) == 6
    assert calls.one().items == 6


def test_name_nodes_and_dtype_are_told(calls: Any, booster: Any) -> None:
    booster.predict(X)
    facts = calls.facts()
    assert (facts.name, facts.parameters, facts.dtype, facts.device) == (
        "Booster",
        nodes(booster),
        "float64",
        "cpu",
    )


def test_nodes_of_many_rounds_and_classes_are_counted(calls: Any) -> None:
    data = lgb.Dataset(X, np.arange(200) % 3)
    many = lgb.train(PARAMS | {"objective": "multiclass", "num_class": 3}, data, num_boost_round=130)
    many.predict(X)
    assert calls.facts().parameters == nodes(many)


def test_coefficients_in_leaves_are_counted_besides(calls: Any) -> None:
    data = lgb.Dataset(X, X[:, 0] * 3 + X[:, 1] * X[:, 2])
    linear = lgb.train(PARAMS | {"objective": "regression", "linear_tree": True}, data, num_boost_round=9)
    lines = [line for line in linear.model_to_string().splitlines() if line.startswith("leaf_coeff=")]
    coefficients = sum(len(line.removeprefix("leaf_coeff=").split()) for line in lines)
    linear.predict(X)
    assert calls.facts().parameters == nodes(linear) + coefficients > nodes(linear)


def test_what_was_trained_on_a_gpu_predicts_on_the_cpu(calls: Any, booster: Any) -> None:
    text = booster.model_to_string()
    assert "[device_type: cpu]" in text
    lgb.Booster(model_str=text.replace("[device_type: cpu]", "[device_type: cuda]")).predict(X)
    assert calls.facts().device == "cpu"


def test_the_boosters_of_a_cross_validation_are_one_request(calls: Any) -> None:
    made = lgb.cv(PARAMS, lgb.Dataset(X, Y), 3, nfold=4, return_cvbooster=True)["cvbooster"]
    assert calls.take() == []
    answers = made.predict(X[:5])
    call = calls.one()
    assert (call.spec.framework, call.spec.operation, call.items, len(answers)) == ("lightgbm", "predict", 5, 4)
    facts = call.spec.describe(call.model)
    assert (facts.name, facts.parameters) == ("CVBooster", sum(map(nodes, made.boosters)))
    LightGBMInstrumentor().uninstrument()
    assert np.array_equal(made.predict(X[:5]), answers)


def test_a_loaded_booster_has_the_name_of_its_file(calls: Any, booster: Any, tmp_path: Path) -> None:
    booster.save_model(tmp_path / "fraud.txt")
    loaded = lgb.Booster(model_file=tmp_path / "fraud.txt")
    loaded.predict(X)
    assert calls.facts().name == "fraud"
    calls.forgotten()
    loaded.model_from_string(booster.model_to_string())
    assert id(loaded) in calls.forgotten()
    loaded.predict(X)
    assert calls.facts().name == "Booster"


@pytest.mark.parametrize("kind", ["LGBMClassifier", "LGBMRegressor", "LGBMRanker"])
def test_wrappers_of_scikit_learn_are_one_request_of_this_framework(calls: Any, kind: str) -> None:
    model = getattr(lgb, kind)(n_estimators=4, max_depth=2, n_jobs=1, verbosity=-1)
    model.fit(X, Y, **({"group": [100, 100]} if kind == "LGBMRanker" else {}))
    assert calls.take() == []
    model.predict(X)
    call = calls.one()
    facts = call.spec.describe(call.model)
    assert (facts.name, facts.framework, call.spec.operation, call.items) == (kind, "lightgbm", "predict", 200)
    assert facts.parameters == nodes(model.booster_)
    if kind == "LGBMClassifier":
        model.predict_proba(X)
        assert calls.operations() == ["predict_proba"]


def test_in_a_pipeline_it_is_part_of_the_request(calls: Any) -> None:
    model = make_pipeline(StandardScaler(), lgb.LGBMClassifier(n_estimators=2, n_jobs=1, verbosity=-1)).fit(X, Y)
    model.predict(X)
    call = calls.one()
    assert (call.spec.framework, call.model) == ("sklearn", model)
    facts = call.spec.describe(call.model)
    assert (facts.name, facts.framework, facts.dtype) == ("Pipeline(LGBMClassifier)", None, "float64")
    assert facts.parameters == 2 * 8 + nodes(model[-1].booster_)


def test_a_class_made_from_a_wrapper_counts_for_this_framework(calls: Any) -> None:
    class Fraud(lgb.LGBMClassifier):
        """Ours."""

    model = Fraud(n_estimators=2, n_jobs=1, verbosity=-1).fit(X, Y)
    model.predict(X)
    facts = calls.facts()
    assert (facts.name, facts.framework, facts.parameters) == ("Fraud", "lightgbm", nodes(model.booster_))


def peek(environment: Any) -> None:
    environment.model.predict(X)


@pytest.mark.parametrize(
    "train",
    [
        lambda data: lgb.train(PARAMS, data, 3, valid_sets=[data], callbacks=[peek]),
        lambda data: lgb.train(
            PARAMS, data, 3, valid_sets=[data], feval=lambda guess, known: ("mine", float(np.mean(guess)), True)
        ),
        lambda data: lgb.cv(PARAMS, data, 3, nfold=2),
        lambda data: lgb.LGBMClassifier(n_estimators=3, verbosity=-1).fit(X, Y, eval_set=[(X, Y)]),
        lambda data: lgb.train(PARAMS, data, 3).refit(X, Y),
    ],
)
def test_training_is_no_request(calls: Any, train: Callable[[Any], Any]) -> None:
    train(lgb.Dataset(X, Y, free_raw_data=False))
    assert calls.take() == []


def test_a_booster_that_learns_on_is_described_anew(calls: Any, booster: Any) -> None:
    calls.forgotten()
    booster = lgb.train(PARAMS, lgb.Dataset(X, Y), 2, keep_training_booster=True)
    calls.forgotten()
    booster.update()
    assert id(booster) in calls.forgotten()
    booster.eval_train()
    assert calls.forgotten() == []


def test_results_are_bit_identical_and_copies_work(calls: Any, booster: Any) -> None:
    patched = booster.predict(X), copy.deepcopy(booster).predict(X), pickle.loads(pickle.dumps(booster)).predict(X)
    assert len(calls.take()) == 3
    LightGBMInstrumentor().uninstrument()
    plain = booster.predict(X)
    assert all(np.array_equal(one, plain) for one in patched)
    assert calls.take() == []


def test_a_model_that_stopped_early_answers_from_its_best_round(calls: Any) -> None:
    model = lgb.train(
        PARAMS | {"learning_rate": 0.9},
        known := lgb.Dataset(X[:150], Y[:150]),
        200,
        valid_sets=[lgb.Dataset(X[150:], Y[150:], reference=known)],
        callbacks=[lgb.early_stopping(3, verbose=False)],
    )
    assert calls.take() == []
    patched = model.predict(X), pickle.loads(pickle.dumps(model)).predict(X)
    assert 0 < model.best_iteration < 200
    LightGBMInstrumentor().uninstrument()
    assert all(np.array_equal(one, model.predict(X)) for one in patched)


def test_a_model_may_be_described_while_it_predicts(calls: Any, in_threads: Callable[..., None]) -> None:
    booster = lgb.train(PARAMS | {"num_leaves": 31}, lgb.Dataset(X, Y), num_boost_round=400)
    expected, known, found = booster.predict(X, num_threads=1), nodes(booster), set()

    def both() -> None:
        found.add(calls._state.done[-1].spec.describe(booster).parameters)
        assert np.array_equal(booster.predict(X, num_threads=1), expected)

    in_threads(both, 4, 10)
    assert found == {known}


def test_a_coroutine_may_predict_in_a_thread(calls: Any, booster: Any) -> None:
    async def serve() -> None:
        await asyncio.gather(*(asyncio.to_thread(booster.predict, X[:3]) for _ in range(5)))

    asyncio.run(serve())
    assert [call.items for call in calls.take()] == [3] * 5


def test_an_exception_is_the_callers(calls: Any, booster: Any) -> None:
    with pytest.raises(lgb.basic.LightGBMError, match="number of features"):
        booster.predict(X[:, :3])
    assert calls.one().error is lgb.basic.LightGBMError


def test_counts_are_exact_from_four_threads(calls: Any, booster: Any, in_threads: Callable[..., None]) -> None:
    in_threads(lambda: booster.predict(X[:2], num_threads=1), 4, 50)
    assert len(calls.take()) == 200


def test_uninstrument_restores_class_and_functions() -> None:
    LightGBMInstrumentor().uninstrument()
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "lightgbm"]
    before = [dict(vars(owner)) for owner in (lgb.Booster, *modules)]
    LightGBMInstrumentor().instrument(skip_dep_check=True)
    assert vars(lgb.Booster)["predict"] is not before[0]["predict"]
    LightGBMInstrumentor().uninstrument()
    for owner, was in zip((lgb.Booster, *modules), before, strict=True):
        assert all(vars(owner)[name] is value for name, value in was.items())


def test_ten_thousand_calls_leave_nothing_behind(calls: Any, booster: Any) -> None:
    row = np.ascontiguousarray(X[:1])
    assert calls.left_behind(lambda: booster.predict(row, num_threads=1)) < 5_000


def test_it_is_not_imported_by_us() -> None:
    code = """
import sys
from ecolyzer_lightgbm import LightGBMInstrumentor
LightGBMInstrumentor().instrument(skip_dep_check=True)
sys.exit("lightgbm" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=240).returncode == 0

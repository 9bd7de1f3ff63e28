"""LightGBM: predictions of boosters are requests, whatever interface they are called by; training is none."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
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


def test_a_loaded_booster_has_the_name_of_its_file(calls: Any, booster: Any, tmp_path: Path) -> None:
    booster.save_model(tmp_path / "fraud.txt")
    lgb.Booster(model_file=tmp_path / "fraud.txt").predict(X)
    assert calls.facts().name == "fraud"


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


def test_results_are_bit_identical_and_copies_work(calls: Any, booster: Any) -> None:
    patched = booster.predict(X), copy.deepcopy(booster).predict(X), pickle.loads(pickle.dumps(booster)).predict(X)
    assert len(calls.take()) == 3
    LightGBMInstrumentor().uninstrument()
    plain = booster.predict(X)
    assert all(np.array_equal(one, plain) for one in patched)
    assert calls.take() == []


def test_an_exception_is_the_callers(calls: Any, booster: Any) -> None:
    with pytest.raises(lgb.basic.LightGBMError, match="number of features"):
        booster.predict(X[:, :3])
    assert calls.one().error is lgb.basic.LightGBMError


def test_counts_are_exact_from_four_threads(calls: Any, booster: Any, in_threads: Callable[..., None]) -> None:
    in_threads(lambda: booster.predict(X[:2]), 4, 50)
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
    assert calls.left_behind(lambda: booster.predict(row)) < 5_000


def test_it_is_not_imported_by_us() -> None:
    code = """
import sys
from ecolyzer_lightgbm import LightGBMInstrumentor
LightGBMInstrumentor().instrument(skip_dep_check=True)
sys.exit("lightgbm" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0

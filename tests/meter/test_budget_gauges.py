"""Carbon budgets: who has one, and since when it is shown."""

from __future__ import annotations

import sys

import pytest
from measured import script

from ecolyzer_otel.common.config import load
from ecolyzer_otel.common.metrics import Metric
from ecolyzer_otel.export.store import MetricStore
from ecolyzer_otel.meter.budget_gauges import BudgetGauges


def shown(store: MetricStore) -> dict[str, float]:
    return {
        point.labels[0]: point.value  # type: ignore[union-attr]
        for family in store.snapshot()
        if family.spec is Metric.BUDGET_PER_REQUEST
        for point in family.points
    }


def test_a_model_gets_the_first_budget_whose_pattern_fits_once_it_is_seen() -> None:
    store = MetricStore()
    budgets = BudgetGauges(store, (("bert*", "0.002"), ("bert-large", "9"), ("*", "0.05")), None)
    for model in ("bert-large", "resnet", "bert-base"):
        budgets.show(model)
    assert shown(store) == {"bert-large": 0.002, "resnet": 0.05, "bert-base": 0.002}


def test_a_model_named_in_full_is_shown_at_once_and_others_without_a_budget_never() -> None:
    store = MetricStore()
    budgets = BudgetGauges(store, (("resnet", "0.01"),), None)
    assert shown(store) == {"resnet": 0.01}
    budgets.show("other")
    assert shown(store) == {"resnet": 0.01}


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("ECOLYZER_CARBON_BUDGET_PER_REQUEST", "bert=much"),
        ("ECOLYZER_CARBON_BUDGET_PER_REQUEST", "0"),
        ("ECOLYZER_CARBON_BUDGET_PER_REQUEST", "bert=1,bert=2"),
        ("ECOLYZER_CARBON_BUDGET_PER_REQUEST", "=1"),
        ("ECOLYZER_CARBON_BUDGET_PER_MONTH", "-5"),
        ("ECOLYZER_CARBON_BUDGET_PER_MONTH", "nan"),
    ],
)
def test_a_budget_that_cannot_be_is_one_error_that_names_the_key_and_there_is_none(
    variable: str, text: str
) -> None:
    loaded = load({}, {variable: text})
    assert (loaded.config.carbon_budget_per_request, loaded.config.carbon_budget_per_month) == ((), None)
    (problem,) = loaded.problems
    assert str(problem).startswith(f"{variable}: {text!r} cannot be used; give ")


@pytest.mark.skipif(sys.platform != "linux", reason="the launcher is for Linux")
def test_the_options_reach_the_page() -> None:
    seen = script(
        """
        import json, urllib.request
        import ecolyzer_otel
        running = ecolyzer_otel.start(
            port=0, zone="FR", carbon_budget_per_request="big=0.5,*=0.001", carbon_budget_per_month=2500
        )
        with ecolyzer_otel.request("small"):
            sum(range(100_000))
        ecolyzer_otel.flush()
        page = urllib.request.urlopen(running.url, timeout=60).read().decode()
        ecolyzer_otel.stop()
        print(json.dumps([line for line in page.splitlines() if line.startswith("ecolyzer_carbon_budget")]))
        """
    )
    assert sorted(seen) == [
        "ecolyzer_carbon_budget_grams_per_month 2500.0",
        'ecolyzer_carbon_budget_grams_per_request{model="big"} 0.5',
        'ecolyzer_carbon_budget_grams_per_request{model="small"} 0.001',
    ]

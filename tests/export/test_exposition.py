from __future__ import annotations

import subprocess
import threading
import time
from typing import Any

import pytest
from monitoring.tools import tool
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_classic

from ecolyzer_otel.common.metrics import EXEMPLAR_METRICS, METRICS, REQUEST_LABELS, Metric, MetricSpec
from ecolyzer_otel.export.exposition import _renderers, render
from ecolyzer_otel.export.store import Exemplar, MetricStore

from .conftest import SPAN, TRACE


def text(store: MetricStore, openmetrics: bool = True) -> str:
    return render(store, openmetrics).decode()


def test_every_metric_passes_the_openmetrics_parser(full_store: MetricStore) -> None:
    families = list(parse_openmetrics(text(full_store)))
    assert [(each.name, each.type, each.unit) for each in families] == [
        (spec.stem, spec.type, spec.unit) for spec in METRICS
    ]
    assert [each.documentation for each in families] == [spec.help for spec in METRICS]


def test_every_metric_passes_the_classic_parser(full_store: MetricStore) -> None:
    families = list(parse_classic(text(full_store, openmetrics=False)))
    assert [(each.name, each.type) for each in families] == [(spec.stem, spec.type) for spec in METRICS]
    names = {sample.name for each in families for sample in each.samples}
    assert {spec.prometheus_name for spec in METRICS if spec.type != "histogram"} <= names


def test_both_formats_carry_the_same_numbers(full_store: MetricStore) -> None:
    def samples(families: object) -> dict[object, float]:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for each in families  # type: ignore[attr-defined]
            for sample in each.samples
        }

    assert samples(parse_openmetrics(text(full_store))) == samples(parse_classic(text(full_store, False)))


def test_the_exact_text_of_a_small_store() -> None:
    lag = MetricSpec("lag_seconds", "histogram", 'Say "when".', (), "s", "seconds", (0.5, 1.0))
    jobs = MetricSpec("jobs", "counter", "Jobs\ndone.", ("who",), "{job}")
    store = MetricStore((lag, jobs, Metric.DEVICE_POWER))
    for value in (0.25, 0.5, 3.0):
        exemplar = Exemplar(TRACE, SPAN, value, 1_765_432_109.1) if value > 1 else None
        store.histogram(lag, ()).observe(value, exemplar)
    store.counter(jobs, ('a "b" \\\n',)).inc(2)
    assert text(store) == (
        '# HELP lag_seconds Say \\"when\\".\n# TYPE lag_seconds histogram\n# UNIT lag_seconds seconds\n'
        'lag_seconds_bucket{le="0.5"} 2\nlag_seconds_bucket{le="1.0"} 2\n'
        f'lag_seconds_bucket{{le="+Inf"}} 3 # {{trace_id="{TRACE}",span_id="{SPAN}"}} 3.0 1765432109.100\n'
        "lag_seconds_sum 3.75\nlag_seconds_count 3\n"
        '# HELP jobs Jobs\\ndone.\n# TYPE jobs counter\njobs_total{who="a \\"b\\" \\\\\\n"} 2.0\n# EOF\n'
    )
    assert text(store, openmetrics=False) == (
        '# HELP lag_seconds Say "when".\n# TYPE lag_seconds histogram\n'
        'lag_seconds_bucket{le="0.5"} 2\nlag_seconds_bucket{le="1.0"} 2\nlag_seconds_bucket{le="+Inf"} 3\n'
        "lag_seconds_sum 3.75\nlag_seconds_count 3\n"
        '# HELP jobs_total Jobs\\ndone.\n# TYPE jobs_total counter\njobs_total{who="a \\"b\\" \\\\\\n"} 2.0\n'
    )


def test_exemplars_reach_the_scrape(full_store: MetricStore) -> None:
    for family in parse_openmetrics(text(full_store)):
        found = [sample.exemplar for sample in family.samples if sample.exemplar]
        assert bool(found) == (family.name in {spec.stem for spec in EXEMPLAR_METRICS})
        for exemplar in found:
            assert exemplar.labels == {"trace_id": TRACE, "span_id": SPAN}
            assert float(exemplar.timestamp) == 1_765_432_109.125


@pytest.mark.parametrize("hostile", ['"', "\\", "\n", "}", 'a="b",', "\\n", "ünï ☃", " # {", "", "\r", "\x00"])
def test_any_label_value_comes_back_as_it_was(hostile: str) -> None:
    store = MetricStore()
    store.gauge(Metric.BUDGET_PER_REQUEST, (hostile,)).set(1.5)
    store.histogram(Metric.REQUEST_ENERGY, (hostile,) * 5).observe(1.0, Exemplar(TRACE, SPAN, 1.0, 1.0))
    families = {each.name: each for each in parse_openmetrics(text(store))}
    assert families[Metric.BUDGET_PER_REQUEST.stem].samples[0].labels == {"model": hostile}
    assert families[Metric.REQUEST_ENERGY.stem].samples[0].labels["model"] == hostile


@pytest.mark.parametrize("value", [0.1, 1e-300, 1.7976931348623157e308, 5e-324, 1 / 3, -2.5, 123456789012345678.0])
def test_values_come_back_to_the_last_bit(value: float) -> None:
    store = MetricStore()
    store.gauge(Metric.BUDGET_PER_MONTH, ()).set(value)
    (family,) = (each for each in parse_openmetrics(text(store)) if each.name == Metric.BUDGET_PER_MONTH.stem)
    assert family.samples[0].value == value


def test_numpy_numbers_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    store = MetricStore()
    number = numpy.float64(0.25)
    store.counter(Metric.METER_CPU, ()).inc(number)
    store.gauge(Metric.BUDGET_PER_MONTH, ()).set(number)
    store.histogram(Metric.SETTLEMENT_LAG, ()).observe(number, Exemplar(TRACE, SPAN, number, number))
    assert "numpy" not in text(store)
    assert "np." not in text(store)
    list(parse_openmetrics(text(store)))


def test_a_family_without_samples_has_no_lines() -> None:
    store = MetricStore()
    store.gauge(Metric.DEVICE_POWER, ("gpu0", "gpu"))
    assert Metric.DEVICE_POWER.stem not in text(store)
    assert text(MetricStore(())) == "# EOF\n"


def test_text_follows_every_change() -> None:
    store = MetricStore()
    first, second = (store.gauge(Metric.BUDGET_PER_REQUEST, (name,)) for name in "ab")
    name = Metric.BUDGET_PER_REQUEST.stem

    def lines() -> list[str]:
        return [line for line in text(store).splitlines() if line.startswith(name)]

    first.set(1)
    second.set(2)
    assert lines() == [f'{name}{{model="a"}} 1.0', f'{name}{{model="b"}} 2.0']
    first.set(3)
    assert lines() == [f'{name}{{model="a"}} 3.0', f'{name}{{model="b"}} 2.0']
    first.remove()
    assert lines() == [f'{name}{{model="b"}} 2.0']
    second.remove()
    assert name not in text(store)
    first.set(4)
    assert lines() == [f'{name}{{model="a"}} 4.0']


def test_scrapes_at_once_are_all_whole() -> None:
    store = MetricStore()
    done = threading.Event()
    problems: list[Exception] = []

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            labels = ("shop", f"m{number % 50}", "torch", "forward", "cpu")
            store.histogram(Metric.REQUEST_ENERGY, labels).observe(number % 7)
            gauge = store.gauge(Metric.BUDGET_PER_REQUEST, (f"m{number % 50}",))
            gauge.set(number) if number % 3 else gauge.remove()
            time.sleep(0.0001)

    def scrape() -> None:
        try:
            for _ in range(10):
                list(parse_openmetrics(text(store)))
        except Exception as error:
            problems.append(error)

    writer = threading.Thread(target=write)
    scrapers = [threading.Thread(target=scrape) for _ in range(3)]
    for thread in (writer, *scrapers):
        thread.start()
    for scraper in scrapers:
        scraper.join()
    done.set()
    writer.join()
    assert problems == []


def test_promtool_finds_nothing_to_say(full_store: MetricStore) -> None:
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=render(full_store, False), capture_output=True, timeout=240
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def a_thousand_label_sets() -> tuple[MetricStore, list[Any]]:
    """A store of as many as it takes, and its histograms."""
    store = MetricStore()
    children = []
    for number in range(1000):
        labels = ("shop", f"m{number}", "torch", "forward", "gpu0", "/predict")
        for spec in METRICS:
            if spec.labels[:6] == REQUEST_LABELS:
                store.counter(spec, (*labels, *("x" for _ in spec.labels[6:]))).inc(0.1)
            elif spec in EXEMPLAR_METRICS:
                children.append(store.histogram(spec, labels[:5]))
                children[-1].observe(0.1, Exemplar(TRACE, SPAN, 0.1, 1.0))
    return store, children


def test_a_thousand_label_sets_are_one_cheap_scrape() -> None:
    """Only what has changed is written anew (how long it takes: benchmarks/promptness.py)."""
    store, children = a_thousand_label_sets()
    first = render(store, True)

    def blocks() -> list[bytes]:
        return [block for text in _renderers[store][True]._families.values() for block in text.blocks.values()]

    before = blocks()
    for child in children[:30]:
        child.observe(0.1)
    again = render(store, True)
    assert len(again) >= len(first) > 10_000_000
    assert sum(new is not old for new, old in zip(blocks(), before, strict=True)) == 30


@pytest.mark.parametrize("odd", ["100 %d", "%s", "a\0b", "a\1b", 'q"\\\n', "é", "%%"])
@pytest.mark.parametrize("openmetrics", [True, False])
def test_whatever_a_name_holds_it_is_in_every_line_of_its_histogram(odd: str, openmetrics: bool) -> None:
    store = MetricStore()
    labels = ("shop", odd, "torch", "infer", "cpu")
    store.histogram(Metric.REQUEST_ENERGY, labels).observe(0.5)
    store.counter(Metric.REQUESTS, (*labels, "/x", "ok")).inc()
    escaped = odd.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    lines = [line for line in render(store, openmetrics).decode().splitlines() if f'model="{escaped}"' in line]
    assert len(lines) == len(Metric.REQUEST_ENERGY.buckets) + 1 + 2 + 1
    assert len({line.rpartition("} ")[0].partition(",le=")[0] for line in lines if "_bucket" in line}) == 1

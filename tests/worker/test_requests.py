"""Requests that code delimits itself: blocks, decorators, coroutines, generators; their cost and their phases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from threading import Thread
from typing import Any

import pytest
from measured import Scrape, get
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

import ecolyzer_otel
import ecolyzer_otel.common.errors
from ecolyzer_otel import request

X, Y = make_classification(n_samples=300, n_features=8, random_state=3)
MODEL = LogisticRegression().fit(X, Y)


def burn(milliseconds: float) -> None:
    until = time.thread_time() + milliseconds / 1000
    while time.thread_time() < until:
        pass


@pytest.fixture
def scrape(start: Callable[..., Any]) -> Callable[[], Scrape]:
    running = start()

    def look() -> Scrape:
        assert ecolyzer_otel.flush(60)
        return Scrape(get(running.url))

    return look


def counted(scrape: Scrape) -> dict[tuple[str, str], float]:
    """Requests by model and operation."""
    found = scrape.find("ecolyzer_requests_total")
    return {(one.labels["model"], one.labels["operation"]): one.value for one in found}


# What is a request.


def test_a_block_is_one_request_whatever_is_called_inside(scrape: Callable[[], Scrape]) -> None:
    with request("ranker", operation="rank", items=5, parameters=1000):
        MODEL.predict(X)
        with request("inner"):
            MODEL.predict(X)
    seen = scrape()
    assert counted(seen) == {("ranker", "rank"): 1}
    assert seen.total("ecolyzer_items_total", kind="input") == 5


def test_without_measuring_a_block_does_nothing() -> None:
    ecolyzer_otel.stop()
    with request("ranker") as r:
        assert MODEL.predict(X[:1]).shape == (1,)
    assert r.energy is None


def test_a_model_given_to_a_block_is_described_by_its_framework(scrape: Callable[[], Scrape]) -> None:
    with request(MODEL, operation="rank"):
        MODEL.predict(X)
    seen = scrape()
    assert counted(seen) == {("LogisticRegression", "rank"): 1}
    assert seen.total("ecolyzer_model_parameters") == 9


def test_an_exception_passes_as_the_same_object_and_is_counted(scrape: Callable[[], Scrape]) -> None:
    error = ArithmeticError("mine")
    with pytest.raises(ArithmeticError) as caught, request("ranker"):
        raise error
    assert caught.value is error
    assert scrape().total("ecolyzer_requests_total", status="error") == 1


def test_a_decorated_function_is_a_request_each_time(scrape: Callable[[], Scrape]) -> None:
    @request
    def bare(x: int, *, y: int = 1) -> int:
        """Adds."""
        return x + y

    @request("named", operation="add")
    def named(x: int) -> int:
        return x + 1

    class Service:
        @request
        def method(self, x: int) -> int:
            return x + 1

    assert (bare(1, y=3), named(1), Service().method(1)) == (4, 2, 2)
    assert (bare.__name__, bare.__doc__) == ("bare", "Adds.")
    found = counted(scrape())
    assert sum(found.values()) == 3
    names = sorted(model.rpartition("<locals>.")[2] for model, _ in found)
    assert names == ["Service.method", "bare", "named"]


def test_recursion_and_threads_of_a_decorated_function(scrape: Callable[[], Scrape]) -> None:
    @request("countdown")
    def countdown(n: int) -> int:
        return 0 if n == 0 else countdown(n - 1)

    threads = [Thread(target=countdown, args=(3,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted(scrape()) == {("countdown", "request"): 4}


def test_coroutines_that_take_turns_are_requests_each(scrape: Callable[[], Scrape]) -> None:
    @request("answer")
    async def answer(n: int) -> int:
        await asyncio.sleep(0.01)
        MODEL.predict(X)
        await asyncio.to_thread(MODEL.predict, X)
        return n

    async def main() -> list[int]:
        async with request("ask"):
            await asyncio.sleep(0.001)
        return await asyncio.gather(*(answer(n) for n in range(5)))

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]
    assert counted(scrape()) == {("answer", "request"): 5, ("ask", "request"): 1}


def test_a_generator_is_a_request_until_it_ends_and_what_its_consumer_calls_is_not_part_of_it(
    scrape: Callable[[], Scrape],
) -> None:
    @request("stream")
    def stream(n: int) -> Iterator[int]:
        for number in range(n):
            MODEL.predict(X)
            yield number
        return "end"

    assert counted(scrape()) == {}
    for _ in stream(3):
        MODEL.predict_proba(X)
    abandoned = stream(3)
    assert next(abandoned) == 0
    abandoned.close()
    assert counted(scrape()) == {("stream", "request"): 2, ("LogisticRegression", "predict_proba"): 3}


def test_a_generator_keeps_what_is_sent_thrown_and_returned(scrape: Callable[[], Scrape]) -> None:
    closed = []

    @request("stream")
    def stream() -> Iterator[Any]:
        try:
            got = yield "first"
            try:
                yield got
            except KeyError:
                yield "caught"
        finally:
            closed.append(True)
        return "end"

    steps = stream()
    assert (next(steps), steps.send(7), steps.throw(KeyError())) == ("first", 7, "caught")
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == "end"
    abandoned = stream()
    next(abandoned)
    abandoned.close()
    assert closed == [True, True]


def test_an_asynchronous_generator_is_a_request_until_it_ends(scrape: Callable[[], Scrape]) -> None:
    closed = []

    @request("stream")
    async def stream(n: int) -> AsyncIterator[int]:
        try:
            for number in range(n):
                await asyncio.sleep(0.001)
                yield number
        finally:
            closed.append(True)

    async def main() -> list[int]:
        found = [number async for number in stream(3)]
        abandoned = stream(3)
        await anext(abandoned)
        await abandoned.aclose()
        return found

    assert asyncio.run(main()) == [0, 1, 2]
    assert closed == [True, True]
    assert counted(scrape()) == {("stream", "request"): 2}


# What it costs.


def test_energy_waits_for_the_settlement(start: Callable[..., Any]) -> None:
    start()
    with request("ranker", parameters=10**6) as r:
        assert r.energy is None, "not over yet"
        burn(60)
    energy = r.energy
    assert energy is not None
    assert energy > 0
    assert energy == pytest.approx(energy.active_joules + energy.idle_joules)
    assert energy == pytest.approx(sum(energy.components.values()))
    assert set(energy.components) == {"cpu", "dram"}
    assert (energy.method, energy.joules) == ("measured", float(energy))
    assert energy.ess == pytest.approx(1.0 / energy.co2e_grams)
    assert 0 < energy.uncertainty_joules < energy
    assert energy.water_liters > 0


def test_a_coroutine_awaits_the_settlement_without_blocking_its_loop(start: Callable[..., Any]) -> None:
    start()

    async def main() -> tuple[Any, int]:
        async with request("ranker") as r:
            burn(20)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticking = asyncio.create_task(tick())
        energy = await r.settlement()
        ticking.cancel()
        return energy, ticks

    energy, ticks = asyncio.run(main())
    assert energy > 0
    assert ticks > 0


def test_energies_of_requests_are_those_of_the_metrics(start: Callable[..., Any]) -> None:
    running = start()
    blocks = []
    for _ in range(20):
        with request("ranker") as r:
            burn(3)
        blocks.append(r)
    assert ecolyzer_otel.flush(60)
    total = Scrape(get(running.url)).total("ecolyzer_request_energy_joules_sum")
    assert sum(one.energy for one in blocks) == pytest.approx(total)


# Phases and tokens.


def test_phases_add_up_to_the_request_and_differ_by_their_work(start: Callable[..., Any]) -> None:
    running = start()
    with request("writer", operation="generate") as r:
        r.phase("prefill")
        burn(150)
        r.phase("decode")
        r.first_token()
        burn(50)
        r.tokens(input=200, output=4)
    energy = r.energy
    assert energy is not None
    assert set(energy.phases) == {"prefill", "decode"}
    assert sum(energy.phases.values()) == pytest.approx(energy, rel=0.01), "but for what came before the first"
    assert 1.5 < energy.phases["prefill"] / energy.phases["decode"] < 6
    seen = Scrape(get(running.url))
    assert seen.total("ecolyzer_requests_total") == 1
    for phase, joules in energy.phases.items():
        assert seen.total("ecolyzer_phase_energy_joules_total", phase=phase) == pytest.approx(joules)
    assert seen.total("ecolyzer_tokens_total", kind="input") == 200
    assert seen.total("ecolyzer_tokens_total", kind="output") == 4
    assert seen.total("ecolyzer_first_token_seconds_count") == 1
    assert 0.1 < seen.total("ecolyzer_first_token_seconds_sum") < 60
    active = seen.total("ecolyzer_energy_joules_total", share="active")
    assert active == pytest.approx(seen.total("ecolyzer_device_energy_joules_total", share="requests"))


def test_a_long_request_has_its_phases_when_it_is_told_of_while_open(start: Callable[..., Any]) -> None:
    start()
    with request("writer") as r:
        burn(30)
        for name in ("prefill", "decode"):
            r.phase(name)
            time.sleep(0.4)
            burn(30)
    energy = r.energy
    assert energy is not None
    assert 0 < sum(energy.phases.values()) < energy, "what came before the first phase belongs to none"
    assert energy.phases["prefill"] > 0
    assert energy.phases["decode"] > 0


def test_more_phases_than_are_told_apart_do_not_hurt(start: Callable[..., Any]) -> None:
    start()
    with request("writer") as r:
        for number in range(50):
            r.phase(f"step{number}")
            burn(1)
    energy = r.energy
    assert energy is not None
    assert len(energy.phases) == 16
    assert sum(energy.phases.values()) == pytest.approx(energy, rel=0.2)


# Names.


def test_a_model_can_be_given_another_name(start: Callable[..., Any]) -> None:
    running = start(model_names="Log*=fraud,rank?r=ranking")
    mine = LogisticRegression().fit(X, Y)
    ecolyzer_otel.name_model(mine, "mine")
    mine.predict(X)
    MODEL.predict(X)
    with request("ranker"):
        burn(1)
    assert ecolyzer_otel.flush(60)
    found = counted(Scrape(get(running.url)))
    assert {model for model, _ in found} == {"mine", "fraud", "ranking"}


def test_a_name_that_cannot_be_used_is_refused(start: Callable[..., Any]) -> None:
    with pytest.raises(ecolyzer_otel.common.errors.ConfigError, match="model-names"):
        start(model_names="Log*")
    with pytest.raises(ValueError, match="name"):
        ecolyzer_otel.name_model(MODEL, " ")


def test_sci_of_a_generating_request_per_million_tokens_and_per_request(start: Callable[..., Any]) -> None:
    running = start(embodied="server=1000", lifetime="4", market_factor=1)
    for _ in range(3):
        with request("writer", items=2) as r:
            burn(20)
            r.tokens(input=200, output=50)
    energy = r.energy
    assert energy is not None
    assert energy.embodied_grams is not None
    assert 0 < energy.embodied_grams < energy.co2e_grams
    assert energy.market_grams == pytest.approx(energy / 3.6e6)
    assert energy.co2e_uncertainty_grams is not None
    assert energy.co2e_uncertainty_grams > 0
    assert energy.water_range is not None
    assert energy.water_range[0] < energy.water_liters < energy.water_range[1]
    with request("other"):
        burn(5)
    assert ecolyzer_otel.flush(60)
    seen = Scrape(get(running.url))
    grams = {
        scope: seen.total("ecolyzer_co2e_grams_total", model="writer", scope=scope)
        for scope in ("operational", "embodied")
    }
    assert min(grams.values()) > 0
    whole = sum(grams.values())
    expected = {"request": whole / 3, "item": whole / 6}
    expected |= {"million_tokens": whole / 750e-6, "million_output_tokens": whole / 150e-6}
    told = {one.labels["per"]: one.value for one in seen.find("ecolyzer_sci_grams", model="writer")}
    assert told == pytest.approx(expected)
    assert {one.labels["per"] for one in seen.find("ecolyzer_sci_grams", model="other")} == {"request", "item"}
    due = seen.total("ecolyzer_device_embodied_grams_total")
    assert seen.total("ecolyzer_co2e_grams_total", scope="embodied") < due, "the rest passed with none in flight"


def test_without_embodied_emissions_there_is_no_sci(start: Callable[..., Any]) -> None:
    running = start()
    with request("writer"):
        burn(5)
    assert ecolyzer_otel.flush(60)
    seen = Scrape(get(running.url))
    assert seen.find("ecolyzer_sci_grams") == []
    assert seen.find("ecolyzer_co2e_grams_total", scope="embodied") == []

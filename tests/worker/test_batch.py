"""One batched call that serves several requests: its joules are theirs, by weight, and nothing is counted twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import Any

import pytest
from measured import Scrape, get, recording, script
from opentelemetry import trace

import ecolyzer_otel
from ecolyzer_otel import batch, request


def burn(milliseconds: float) -> None:
    until = time.thread_time() + milliseconds / 1000
    while time.thread_time() < until:
        pass


def served(number: int, weights: list[float] | None = None, work: float = 120.0) -> list[Any]:
    """So many requests that wait in threads of their own while one call serves them all."""
    here, over, blocks = Barrier(number + 1), Event(), [request("shop") for _ in range(number)]

    def wait(block: Any) -> None:
        with block:
            here.wait(10)
            assert over.wait(10)

    with ThreadPoolExecutor(number) as pool:
        waiting = [pool.submit(wait, block) for block in blocks]
        here.wait(10)
        with batch(blocks, weights=weights, model="ranker", operation="rank"):
            burn(work)
        over.set()
        for one in waiting:
            one.result()
    return blocks


def test_the_joules_of_the_batch_go_to_those_that_it_served_and_add_up(start: Callable[..., Any]) -> None:
    running = start()
    blocks = served(3)
    energies = [one.energy for one in blocks]
    assert ecolyzer_otel.flush(60)
    assert ecolyzer_otel.counts() == {"served": 3, "accounted": 3, "dropped": 0, "pending": 0}
    seen = Scrape(get(running.url))
    assert seen.total("ecolyzer_requests_total") == 3, "the batched call is no request"
    assert {one.labels["model"] for one in seen.find("ecolyzer_requests_total")} == {"shop"}
    assert sum(energies) == pytest.approx(seen.total("ecolyzer_request_energy_joules_sum"))
    for device in ("cpu", "dram"):
        assert seen.total("ecolyzer_energy_joules_total", component=device, share="active") == pytest.approx(
            seen.total("ecolyzer_device_energy_joules_total", device=device, share="requests")
        )
    # Most of the CPU time of this process was the batch's.
    active = sum(one.active_joules for one in energies)
    busy = seen.total("ecolyzer_device_energy_joules_total") - seen.total(
        "ecolyzer_device_energy_joules_total", share="idle"
    )
    assert active > 0.02 * busy
    assert max(one.active_joules for one in energies) < 1.5 * min(one.active_joules for one in energies)


def test_weights_divide_what_depends_on_the_request(start: Callable[..., Any]) -> None:
    start()
    one, other = (block.energy for block in served(2, weights=[9.0, 1.0], work=250.0))
    assert one.active_joules > 1.3 * other.active_joules


def test_a_request_that_is_over_before_the_batch_is_told_of_still_gets_its_share(start: Callable[..., Any]) -> None:
    running = start()
    with request("shop") as r:
        call = batch([r])
        with call:
            burn(60)
    assert r.energy.active_joules > 0
    assert Scrape(get(running.url)).total("ecolyzer_requests_total") == 1


def test_coroutines_that_wait_for_a_batcher(start: Callable[..., Any]) -> None:
    start()

    async def main() -> list[Any]:
        queue: asyncio.Queue[tuple[Any, asyncio.Future[int]]] = asyncio.Queue()

        async def handler(number: int) -> Any:
            async with request("shop") as r:
                future = asyncio.get_running_loop().create_future()
                await queue.put((r, future))
                assert await future == number
            return r

        def call(requests: list[Any]) -> list[int]:
            with batch(requests):
                burn(60)
            return list(range(len(requests)))

        async def batcher() -> None:
            taken = [await queue.get() for _ in range(4)]
            for (_, future), answer in zip(
                taken, await asyncio.to_thread(call, [one for one, _ in taken]), strict=True
            ):
                future.set_result(answer)

        results = await asyncio.gather(batcher(), *(handler(number) for number in range(4)))
        return [await one.settlement() for one in results[1:]]

    energies = asyncio.run(main())
    assert all(one.active_joules > 0 for one in energies)


@pytest.mark.parametrize("milliseconds", [300.0, 2500.0])
def test_contexts_of_a_batch_that_takes_long_are_settled(start: Callable[..., Any], milliseconds: float) -> None:
    """Longer than calls are open before they are reported, and than the meter waits for a silent worker."""
    running = start()
    contexts = [trace.SpanContext(number, number, is_remote=True) for number in (1, 2)]
    with batch(contexts, model="ranker"):
        burn(milliseconds)
    assert ecolyzer_otel.flush(60)
    seen = Scrape(get(running.url))
    assert seen.total("ecolyzer_requests_total") == 2
    assert seen.find("ecolyzer_unsettled_requests_total") == []
    assert ecolyzer_otel.counts() == {"served": 2, "accounted": 2, "dropped": 0, "pending": 0}
    active = seen.total("ecolyzer_energy_joules_total", share="active")
    assert active == pytest.approx(seen.total("ecolyzer_device_energy_joules_total", share="requests"))
    # Most of the CPU time of this process was the batch's.
    assert active > 0.02 * seen.total("ecolyzer_device_energy_joules_total")


def test_contexts_without_a_request_become_requests_of_the_model(start: Callable[..., Any]) -> None:
    running = start()
    contexts = [
        trace.SpanContext(trace_id=number, span_id=number, is_remote=True, trace_flags=trace.TraceFlags(1))
        for number in (1, 2, 3)
    ]
    with batch(contexts, model="ranker", operation="rank", parameters=1000):
        burn(60)
    assert ecolyzer_otel.flush(60)
    seen = Scrape(get(running.url))
    (one,) = seen.find("ecolyzer_requests_total")
    assert (one.value, one.labels["model"], one.labels["operation"]) == (3, "ranker", "rank")
    assert seen.total("ecolyzer_energy_joules_total", share="active") == pytest.approx(
        seen.total("ecolyzer_device_energy_joules_total", share="requests")
    )
    assert seen.total("ecolyzer_energy_joules_total", share="active") > 0


def test_a_batch_that_fails_raises_the_same_object_and_is_charged_all_the_same(start: Callable[..., Any]) -> None:
    start()
    error = ArithmeticError("mine")

    def fail(served: Any) -> None:
        with batch([served]):
            burn(60)
            raise error

    with request("shop") as r:
        with pytest.raises(ArithmeticError) as caught:
            fail(r)
        assert caught.value is error
    assert r.energy.active_joules > 0


@pytest.mark.parametrize(
    ("weights", "message"),
    [([1.0], "1 of them for 2"), ([1.0, -1.0], "at least 0"), ([1.0, float("nan")], "number")],
)
def test_weights_that_cannot_be_used_are_refused(weights: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batch([request("a"), request("b")], weights=weights)


def test_without_measuring_a_batch_does_nothing() -> None:
    ecolyzer_otel.stop()
    with request("shop") as r, batch([r, trace.INVALID_SPAN]):
        pass
    assert r.energy is None


SPANS = """
import json, sys, time
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
import ecolyzer_otel
from ecolyzer_otel import batch, request

memory, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(memory))
trace.set_tracer_provider(provider)
ecolyzer_otel.start(port=0, sensors="replay:" + sys.argv[1], sampling_period=0.02, zone="FR")
tracer = trace.get_tracer("app")

def burn(milliseconds):
    until = time.thread_time() + milliseconds / 1000
    while time.thread_time() < until:
        pass

with request("shop", operation="rank") as r:
    r.span.set_attribute("mine", 7)
    r.phase("prefill")
    with tracer.start_as_current_span("child"):
        burn(30)
    r.phase("decode")
    r.first_token()
    r.tokens(input=3, output=2)
    burn(20)
    with tracer.start_as_current_span("web") as web:
        pass
    with batch([r, web.get_span_context()], model="ranker"):
        burn(60)
assert ecolyzer_otel.flush(60)
show = lambda context: format(context.span_id, "016x")
spans = [{"name": s.name, "id": show(s.context), "parent": s.parent and show(s.parent),
          "links": [show(link.context) for link in s.links], "attributes": dict(s.attributes),
          "start": s.start_time, "end": s.end_time} for s in memory.get_finished_spans()]
print(json.dumps({"spans": {s["name"]: s for s in spans}, "names": [s["name"] for s in spans],
                  "all": spans, "joules": float(r.energy)}))
"""


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return script(SPANS, str(recording(tmp_path_factory.mktemp("spans") / "r.json")))


def test_a_block_has_its_span_from_the_begin_as_the_parent_of_what_is_inside(traced: Any) -> None:
    spans = traced["spans"]
    assert sorted(traced["names"]) == ["batch ranker", "batch ranker", "child", "rank shop", "web"]
    assert spans["child"]["parent"] == spans["rank shop"]["id"]
    assert spans["rank shop"]["start"] < spans["child"]["start"]
    assert spans["rank shop"]["end"] > spans["child"]["end"]
    assert spans["rank shop"]["attributes"]["mine"] == 7


def test_a_span_shows_phases_tokens_and_the_cost_of_each(traced: Any) -> None:
    told = traced["spans"]["rank shop"]["attributes"]
    assert told["ecolyzer.energy.joules"] == pytest.approx(traced["joules"])
    phases = told["ecolyzer.energy.prefill_joules"], told["ecolyzer.energy.decode_joules"]
    assert 0 < sum(phases) < told["ecolyzer.energy.joules"], "the rest is its share of the batch"
    assert told["gen_ai.usage.input_tokens"] == 3
    assert told["gen_ai.usage.output_tokens"] == 2
    assert told["ecolyzer.energy.output_token_joules"] == pytest.approx(told["ecolyzer.energy.joules"] / 2)
    assert told["ecolyzer.first_token.seconds"] > 0.03


def test_batch_and_requests_link_to_each_other_and_only_requests_have_joules(traced: Any) -> None:
    spans = traced["spans"]
    (work,) = [one for one in traced["all"] if "ecolyzer.batch.joules" in one["attributes"]]
    assert "ecolyzer.energy.joules" not in work["attributes"]
    assert set(work["links"]) == {spans["rank shop"]["id"], spans["web"]["id"]}
    assert spans["rank shop"]["links"] == [work["id"]]
    (fresh,) = [one for one in traced["all"] if one["parent"] == spans["web"]["id"]]
    assert fresh["links"] == [work["id"]]
    assert fresh["attributes"]["ecolyzer.energy.joules"] > 0

"""``generate``: one request with its tokens, its phases and its first token, in every mode."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from time import monotonic_ns
from typing import Any

import pytest
import tiny
import torch
from opentelemetry import trace
from transformers import (
    GenerationMixin,
    StoppingCriteria,
    StoppingCriteriaList,
    T5Config,
    T5ForConditionalGeneration,
    TextIteratorStreamer,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from ecolyzer_otel.call import MAX_PHASES, current_call
from ecolyzer_torch import TorchInstrumentor
from ecolyzer_transformers import TransformersInstrumentor
from ecolyzer_transformers.tokens import tally

IDS = torch.tensor([[0, 0, 6, 7, 8], [6, 9, 10, 11, 12]])
MASK = (IDS != 0).long()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny.causal(tmp_path_factory.mktemp("models") / "storyteller")


@pytest.fixture(autouse=True)
def _patched(instrumented: Callable[[Any], Any]) -> None:
    torch.manual_seed(0)
    instrumented(TorchInstrumentor())
    instrumented(TransformersInstrumentor())


def told(call: Any) -> Any:
    """What is noted of a call, completed like the background thread does it."""
    for complete in call.more.completions:
        complete(call)
    return call.more


def phases(call: Any) -> list[str]:
    return [name for name, _, _ in call.more.phases]


MODES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampling": {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 5},
    "beams": {"num_beams": 3},
    "beam sampling": {"num_beams": 2, "do_sample": True},
    "several": {"do_sample": True, "num_return_sequences": 2},
}


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_is_one_request_with_prefill_decode_and_tokens(calls: Any, model: Any, mode: str) -> None:
    out = model.generate(IDS, attention_mask=MASK, max_new_tokens=6, min_new_tokens=6, **MODES[mode])
    call = calls.one()
    assert (call.spec.framework, call.spec.operation, call.items) == ("transformers", "generate", 2)
    assert phases(call) == ["prefill", "decode"]
    assert call.start_ns < call.more.first_token_ns < call.end_ns
    assert told(call).tokens == (8, 6 * out.shape[0]), "input without padding, output of all sequences"


def test_it_is_named_after_the_folder_it_was_loaded_from(calls: Any, model: Any) -> None:
    model.generate(IDS, attention_mask=MASK, max_new_tokens=1)
    facts = calls.facts()
    assert (facts.name, facts.parameters, facts.dtype) == ("storyteller", model.num_parameters(), "float32")


def test_what_was_asked_for_is_told(calls: Any, model: Any) -> None:
    model.generate(IDS, attention_mask=MASK, max_new_tokens=3, min_new_tokens=3, **MODES["sampling"])
    attributes = told(calls.one()).attributes
    assert attributes["gen_ai.operation.name"] == "text_completion"
    assert attributes["gen_ai.request.max_tokens"] == 3
    assert attributes["gen_ai.request.temperature"] == pytest.approx(0.7)
    assert (attributes["gen_ai.request.top_p"], attributes["gen_ai.request.top_k"]) == (0.9, 5)
    assert attributes["gen_ai.response.finish_reasons"] == ["length", "length"]


def test_tokens_after_the_end_of_a_sequence_are_padding(calls: Any, model: Any) -> None:
    class Ends(StoppingCriteria):
        def __call__(self, ids: Any, scores: Any, **more: Any) -> Any:
            return torch.full((ids.shape[0],), ids.shape[1] >= IDS.shape[1] + 2)

    # The first sequence ends at once: its only likely token is the end.
    def force(batch: int, ids: Any) -> list[int]:
        return [5] if batch == 0 else [6]

    model.generate(
        IDS, attention_mask=MASK, max_new_tokens=9, prefix_allowed_tokens_fn=force,
        stopping_criteria=StoppingCriteriaList([Ends()]),
    )  # fmt: skip
    more = told(calls.one())
    assert more.tokens == (8, 1 + 2)
    assert more.attributes["gen_ai.response.finish_reasons"] == ["stop", "stop"]


def test_an_assistant_and_its_forwards_are_part_of_it(calls: Any, model: Any, tmp_path: Path) -> None:
    assistant = tiny.causal(tmp_path / "assistant")
    out = model.generate(IDS[1:], attention_mask=MASK[1:], max_new_tokens=8, assistant_model=assistant)
    call = calls.one()
    assert phases(call) == ["prefill", "decode"]
    assert call.model is model
    assert told(call).tokens == (5, out.shape[1] - 5)


def test_a_streamer_in_a_thread(calls: Any, model: Any, tmp_path: Path) -> None:
    streamer = TextIteratorStreamer(tiny.tokenizer(tmp_path, pairs=False), skip_prompt=True)
    given = {"input_ids": IDS[1:], "attention_mask": MASK[1:], "max_new_tokens": 5, "min_new_tokens": 5}
    thread = threading.Thread(target=model.generate, kwargs={**given, "streamer": streamer})
    thread.start()
    next(iter(streamer))
    first_ns = monotonic_ns()
    assert "".join(streamer)
    thread.join()
    call = calls.one()
    assert call.more.first_token_ns < first_ns + 1_000_000_000
    assert told(call).tokens == (5, 5)


def test_a_thread_that_writes_to_a_streamer_works_for_whoever_made_that(
    calls: Any, model: Any, tmp_path: Path
) -> None:
    import ecolyzer_otel

    words, parent = tiny.tokenizer(tmp_path, pairs=False), trace.NonRecordingSpan(trace.SpanContext(1, 2, False))

    def write() -> None:
        streamer = TextIteratorStreamer(words, skip_prompt=True)
        given = {"input_ids": IDS[1:], "max_new_tokens": 3, "min_new_tokens": 3, "streamer": streamer}
        thread = threading.Thread(target=model.generate, kwargs=given)
        thread.start()
        assert "".join(streamer)
        thread.join()

    with trace.use_span(parent):
        write()
    assert trace.get_current_span(calls.one().context) is parent
    with ecolyzer_otel.request("story"):
        write()
    call = calls.one()
    assert (call.spec.operation, told(call).tokens) == ("request", (5, 3))
    assert sum(call.extra_cpu) > 0


GIVEN: dict[str, tuple[dict[str, Any], int]] = {
    "padding is seen where there is no mask": ({"inputs": IDS}, 8),
    "nothing but the token that begins": ({}, 1),
    "embeddings": ({"inputs_embeds": torch.zeros(2, 3, 32), "attention_mask": torch.ones(2, 3).long()}, 6),
}


@pytest.mark.parametrize("given", GIVEN)
def test_tokens_of_other_prompts(calls: Any, model: Any, given: str) -> None:
    prompt, tokens = GIVEN[given]
    model.generate(**prompt, max_new_tokens=3, min_new_tokens=3)
    call = calls.one()
    assert told(call).tokens == (tokens, 3 * call.items)


def test_tokens_of_an_encoder_and_its_decoder(calls: Any) -> None:
    size = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    translator = T5ForConditionalGeneration(T5Config(vocab_size=24, decoder_start_token_id=0, **size)).eval()
    translator.generate(IDS, attention_mask=MASK, max_new_tokens=4, min_new_tokens=4)
    call = calls.one()
    assert (told(call).tokens, phases(call)) == ((8, 8), ["prefill", "decode"])
    translator.generate(IDS, attention_mask=MASK, decoder_input_ids=IDS[:, 2:], max_new_tokens=4, min_new_tokens=4)
    assert told(calls.one()).tokens == (8, 8), "what the decoder was given is not new"


def test_one_token_is_prefill_alone(calls: Any, model: Any) -> None:
    model.generate(IDS, attention_mask=MASK, max_new_tokens=1)
    call = calls.one()
    assert phases(call) == ["prefill"]
    assert call.more.first_token_ns > call.start_ns


def test_a_compiled_forward_stays_one_graph(calls: Any, tmp_path: Path) -> None:
    writer = tiny.causal(tmp_path / "compiled", "llama")
    expected = writer.generate(IDS, attention_mask=MASK, max_new_tokens=3)
    writer.forward = torch.compile(writer.forward, fullgraph=True, backend="eager", dynamic=True)
    assert torch.equal(writer.generate(IDS, attention_mask=MASK, max_new_tokens=3), expected)
    assert calls.operations() == ["generate"] * 2


def test_nothing_but_what_is_counted_is_held(calls: Any, model: Any) -> None:
    class Mine(StoppingCriteria):
        def __call__(self, ids: Any, scores: Any, **more: Any) -> Any:
            return torch.zeros(ids.shape[0], dtype=torch.bool)

    mine = Mine()
    result = model.generate(
        IDS, attention_mask=MASK, max_new_tokens=2, stopping_criteria=StoppingCriteriaList([mine]),
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    kept = [weakref.ref(mine), weakref.ref(result.scores[0])]
    del mine, result
    gc.collect()
    assert [one() for one in kept] == [None, None]
    assert len(calls.take()) == 1


def test_an_exception_midway_is_the_callers_and_its_tokens_are_unknown(calls: Any, model: Any) -> None:
    error = ArithmeticError("mine")

    class Failing(StoppingCriteria):
        def __call__(self, ids: Any, scores: Any, **more: Any) -> Any:
            if ids.shape[1] > IDS.shape[1] + 1:
                raise error
            return torch.zeros(ids.shape[0], dtype=torch.bool)

    with pytest.raises(ArithmeticError) as caught:
        model.generate(IDS, attention_mask=MASK, stopping_criteria=[Failing()], max_new_tokens=6)
    assert caught.value is error
    call = calls.one()
    assert (call.error, phases(call)) == (ArithmeticError, ["prefill", "decode"])
    assert told(call).tokens == (8, 0)


def test_within_a_request_its_tokens_and_phases_are_the_requests(calls: Any, model: Any) -> None:
    import ecolyzer_otel

    with ecolyzer_otel.request("story"):
        model.generate(IDS, attention_mask=MASK, max_new_tokens=2, min_new_tokens=2)
        model.generate(IDS, attention_mask=MASK, max_new_tokens=3, min_new_tokens=3)
    call = calls.one()
    assert phases(call) == ["prefill", "decode", ""] * 2, "what is between them is neither"
    assert told(call).tokens == (16, 4 + 6)


def test_phases_that_code_has_of_its_own_go_on_around_a_generation(calls: Any, model: Any) -> None:
    import ecolyzer_otel

    with ecolyzer_otel.request("story") as block:
        block.phase("search")
        model.generate(IDS, attention_mask=MASK, max_new_tokens=2, min_new_tokens=2)
        block.tokens(input=1, output=2)
    call = calls.one()
    assert phases(call) == ["search", "prefill", "decode", "search"]
    assert told(call).tokens == (1, 2), "what a person told"


def test_any_number_of_generations_in_a_request_is_counted_and_not_held(calls: Any, model: Any) -> None:
    import ecolyzer_otel

    with ecolyzer_otel.request("story"):
        for _ in range(50):
            model.generate(IDS, attention_mask=MASK, max_new_tokens=1, min_new_tokens=1)
        call = current_call.get()
        assert len(tally(call).held) <= 32
    call = calls.one()
    assert len(phases(call)) <= MAX_PHASES
    assert phases(call)[-1] == "", "those without a phase of their own are in none"
    assert told(call).tokens == (50 * 8, 50 * 2)


def test_a_generate_of_the_models_own_is_one_request(calls: Any, model: Any) -> None:
    class Chunked(type(model)):  # type: ignore[misc]
        def generate(self, ids: Any, **kwargs: Any) -> Any:
            return torch.cat([super(Chunked, self).generate(ids, **kwargs) for _ in range(2)])

    assert Chunked.generate.__qualname__.endswith("Chunked.generate")

    chunked = Chunked(model.config).eval()
    out = chunked.generate(IDS, attention_mask=MASK, max_new_tokens=2, min_new_tokens=2)
    call = calls.one()
    assert call.model is chunked
    assert told(call).tokens == (2 * 8, 2 * out.shape[0]), "of both parts"


def test_speech_is_one_request_however_many_pieces_it_is_cut_into(calls: Any) -> None:
    size = {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {f"{part}_{name}": 1 for part in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    config = WhisperConfig(
        vocab_size=60, d_model=16, max_target_positions=40, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=3, suppress_tokens=None, begin_suppress_tokens=None, **size, **heads,
    )  # fmt: skip
    listener = WhisperForConditionalGeneration(config).eval()
    listener.generate(torch.zeros(2, 80, 3000), max_new_tokens=4, min_new_tokens=4)
    call = calls.one()
    assert (call.items, phases(call)[:2], told(call).tokens) == (2, ["prefill", "decode"], (0, 8))
    listener.generation_config.no_timestamps_token_id = 59  # it never tells a time: pieces of 30 s
    mask = torch.ones(1, 6000).long()
    listener.generate(torch.zeros(1, 80, 6000), attention_mask=mask, return_timestamps=True, max_new_tokens=4)
    call = calls.one()
    assert call.model is listener
    assert told(call).tokens[1] > 4


def test_results_are_bit_identical(calls: Any, model: Any) -> None:
    def run() -> list[Any]:
        torch.manual_seed(7)
        given = {"attention_mask": MASK, "max_new_tokens": 6}
        return [model.generate(IDS, **given, **mode) for mode in MODES.values()]

    patched = run()
    TransformersInstrumentor().uninstrument()
    TorchInstrumentor().uninstrument()
    assert all(torch.equal(one, other) for one, other in zip(patched, run(), strict=True))
    assert len(calls.take()) == len(MODES)


def test_a_forward_of_a_model_is_one_request_under_its_name(calls: Any, model: Any) -> None:
    with torch.no_grad():
        model(input_ids=IDS, attention_mask=MASK)
    call = calls.one()
    facts = call.spec.describe(call.model)
    assert (call.spec.framework, call.spec.operation, facts.name, call.items) == (
        "torch",
        "forward",
        "storyteller",
        2,
    )


def test_several_threads_generate_at_once(calls: Any, model: Any, in_threads: Callable[..., None]) -> None:
    in_threads(lambda: model.generate(IDS, attention_mask=MASK, max_new_tokens=3, min_new_tokens=3), 3, 3)
    assert [told(call).tokens for call in calls.take()] == [(8, 6)] * 9


def test_many_calls_leave_nothing_behind(calls: Any, model: Any) -> None:
    assert calls.left_behind(lambda: model.generate(IDS, attention_mask=MASK, max_new_tokens=1), 50) < 5_000


def test_uninstrument_restores_the_classes() -> None:
    TransformersInstrumentor().uninstrument()
    before = dict(vars(GenerationMixin))
    TransformersInstrumentor().instrument(skip_dep_check=True)
    assert vars(GenerationMixin)["generate"] is not before["generate"]
    TransformersInstrumentor().uninstrument()
    assert dict(vars(GenerationMixin)) == before


# Continuous batching.

PROMPTS = [[6, 7, 8], [9, 10, 11, 12], [13, 14]]


@pytest.fixture(scope="module")
def batching(tmp_path_factory: pytest.TempPathFactory) -> Any:
    api = pytest.importorskip("transformers.generation.continuous_batching.continuous_api")
    if not hasattr(api, "OutputRouter"):
        pytest.skip("in this release it needs a GPU")
    return tiny.causal(tmp_path_factory.mktemp("models") / "batcher", "llama")


def settings() -> dict[str, Any]:
    from transformers import ContinuousBatchingConfig, GenerationConfig

    return {
        "generation_config": GenerationConfig(max_new_tokens=4, do_sample=False, eos_token_id=-1, pad_token_id=0),
        "continuous_batching_config": ContinuousBatchingConfig(num_blocks=16, max_batch_tokens=64),
    }


def test_a_batch_is_one_request_with_the_time_of_its_thread(calls: Any, batching: Any) -> None:
    results = batching.generate_batch(inputs=PROMPTS, **settings())
    call = calls.one()
    assert (call.spec.operation, call.items) == ("generate_batch", 3)
    generated = sum(len(one.generated_tokens) for one in results.values())
    assert generated > 0
    assert told(call).tokens == (9, generated)
    assert sum(call.extra_cpu) > 0


def test_what_is_added_to_a_manager_is_a_request_each(calls: Any, batching: Any) -> None:
    manager = batching.init_continuous_batching(**settings())
    manager.start()
    try:
        ids = [manager.add_request(prompt, max_new_tokens=4) for prompt in PROMPTS]
        done: dict[str, Any] = {}
        while len(done) < len(ids):
            result = manager.get_result(timeout=240)
            assert result is not None
            if result.is_finished():
                done[result.request_id] = result
    finally:
        manager.stop(block=True)
    found = calls.take()
    assert [(call.spec.operation, call.items, call.error) for call in found] == [("generate", 1, None)] * 3
    assert sorted(call.more.tokens for call in found) == [(2, 4), (3, 4), (4, 4)]
    assert all(phases(call) == ["prefill", "decode"] for call in found)
    assert all(sum(call.extra_cpu) > 0 for call in found)

"""Pipelines of transformers: one request per call, whatever the task and the input; trainers; serving."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import transformers
from transformers import (
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    pipeline,
)

from ecolyzer_torch import TorchInstrumentor, learning
from ecolyzer_transformers import TransformersInstrumentor

TEXT = "the cat sits on a warm server"


@pytest.fixture(autouse=True)
def _patched(instrumented: Callable[[Any], Any]) -> None:
    instrumented(TorchInstrumentor())
    instrumented(TransformersInstrumentor())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def saved(model: Any, folder: Path, *parts: Any) -> str:
    model.save_pretrained(folder)
    for part in parts:
        part.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def pipes(folder: Path) -> dict[str, Any]:
    """A pipeline of each task, loaded from a folder of its name."""
    torch.manual_seed(0)
    words = tiny.tokenizer(folder / "words")
    names = {0: "contradiction", 1: "neutral", 2: "entailment"}
    labels = {"id2label": names, "label2id": {name: index for index, name in names.items()}}
    classify = saved(BertForSequenceClassification(tiny.bert(**labels)), folder / "moods", words)
    made = {
        "text-classification": classify,
        "zero-shot-classification": classify,
        "token-classification": saved(BertForTokenClassification(tiny.bert()), folder / "names", words),
        "fill-mask": saved(BertForMaskedLM(tiny.bert()), folder / "gaps", words),
        "feature-extraction": saved(BertModel(tiny.bert()), folder / "vectors", words),
    }
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    image = ViTConfig(image_size=16, patch_size=8, num_labels=3, **size)
    made["image-classification"] = saved(
        ViTForImageClassification(image), folder / "pictures", ViTImageProcessor(size={"height": 16, "width": 16})
    )
    sound = Wav2Vec2Config(
        conv_dim=(16,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, num_labels=2,
        classifier_proj_size=8, **size,
    )  # fmt: skip
    made["audio-classification"] = saved(
        Wav2Vec2ForSequenceClassification(sound), folder / "sounds", Wav2Vec2FeatureExtractor()
    )
    made["text-generation"] = str(folder / "stories")
    tiny.causal(folder / "stories")
    tiny.tokenizer(folder / "stories", pairs=False)
    return {task: pipeline(task, model=path, device="cpu") for task, path in made.items()}


def inputs(task: str) -> tuple[Any, dict[str, Any]]:
    from PIL import Image

    return {
        "zero-shot-classification": (TEXT, {"candidate_labels": ["cat", "server"]}),
        "fill-mask": ("the [MASK] sits", {}),
        "image-classification": (Image.new("RGB", (16, 16)), {}),
        "audio-classification": (np.zeros(16_000, np.float32), {}),
        "text-generation": (TEXT, {"max_new_tokens": 4, "min_new_tokens": 4}),
    }.get(task, (TEXT, {}))


TASKS = {
    "text-classification": "moods",
    "zero-shot-classification": "moods",
    "token-classification": "names",
    "fill-mask": "gaps",
    "feature-extraction": "vectors",
    "image-classification": "pictures",
    "audio-classification": "sounds",
    "text-generation": "stories",
}


@pytest.mark.parametrize("task", TASKS)
def test_a_call_is_one_request_under_the_task_and_the_models_name(calls: Any, pipes: Any, task: str) -> None:
    given, options = inputs(task)
    pipes[task](given, **options)
    call = calls.one()
    assert (call.spec.framework, call.spec.operation, call.items) == ("transformers", task, 1)
    facts = call.spec.describe(call.model)
    assert (facts.name, facts.dtype) == (TASKS[task], "float32")
    assert facts.parameters == pipes[task].model.num_parameters()


@pytest.mark.parametrize("task", TASKS)
def test_a_list_is_one_request_with_its_items(calls: Any, pipes: Any, task: str) -> None:
    given, options = inputs(task)
    results = pipes[task]([given] * 3, **options)
    call = calls.one()
    assert (len(results), call.items) == (3, 3)


def test_generation_in_a_pipeline_has_tokens_and_phases(calls: Any, pipes: Any) -> None:
    given, options = inputs("text-generation")
    pipes["text-generation"]([given] * 2, **options)
    call = calls.one()
    assert phases(call) == ["prefill", "decode", ""] * 2
    assert told(call).tokens == (2 * 7, 2 * 4)
    assert told(call).attributes["gen_ai.response.finish_reasons"] == ["length"] * 2


def test_more_generations_than_there_is_room_for_have_no_phases(calls: Any, pipes: Any) -> None:
    given, options = inputs("text-generation")
    pipes["text-generation"]([given] * 8, **options)
    call = calls.one()
    assert (phases(call), told(call).tokens) == ([], (8 * 7, 8 * 4))
    pipes["text-generation"]([given] * 8, batch_size=4, **options)
    assert phases(calls.one()) == ["prefill", "decode", ""] * 2


def test_a_stream_of_prompts_counts_its_tokens(calls: Any, pipes: Any) -> None:
    _, options = inputs("text-generation")
    assert len(list(pipes["text-generation"](texts(40), **options))) == 40
    call = calls.one()
    assert (phases(call), told(call).tokens) == ([], (40 * 7, 40 * 4))


def test_a_conversation_is_one_item(calls: Any, pipes: Any) -> None:
    writer = pipes["text-generation"]
    writer.tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    chat = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "sits"}]
    writer(chat, max_new_tokens=2)
    assert calls.one().items == 1
    writer([chat, chat], max_new_tokens=2)
    assert calls.one().items == 2


def test_a_pipeline_that_was_made_without_a_task_has_that_of_its_class(calls: Any, pipes: Any) -> None:
    known = pipes["text-classification"]
    type(known)(model=known.model, tokenizer=known.tokenizer, device="cpu")(TEXT)
    assert calls.operations() == ["text-classification"]


def test_results_that_cannot_be_followed_are_given_as_they_are(calls: Any, pipes: Any) -> None:
    class Lazy(type(pipes["text-classification"])):  # type: ignore[misc]
        def run_single(self, *args: Any) -> Any:
            return (one for one in [1, 2])

    known = pipes["text-classification"]
    lazy = Lazy(model=known.model, tokenizer=known.tokenizer, device="cpu", task="lazy")
    assert list(super(type(known), lazy).__call__(TEXT)) == [1, 2]
    assert calls.operations() == ["lazy"]


def told(call: Any) -> Any:
    """What is noted of a call, completed like the background thread does it."""
    for complete in call.more.completions or ():
        complete(call)
    return call.more


def phases(call: Any) -> list[str]:
    return [name for name, _, _ in call.more.phases]


def texts(number: int) -> Iterator[str]:
    for _ in range(number):
        yield TEXT


def test_a_generator_is_one_request_until_its_last_result(calls: Any, pipes: Any) -> None:
    classify, results = pipes["text-classification"], []
    for result in classify(texts(3), batch_size=2):
        results.append(result)
        pipes["feature-extraction"](TEXT)  # what the consumer does is its own
    assert sorted(calls.operations()) == ["feature-extraction"] * 3 + ["text-classification"]
    assert [one["label"] for one in results] == [one["label"] for one in classify([TEXT] * 3)]


def test_the_items_of_a_generator_are_its_results(calls: Any, pipes: Any) -> None:
    stream = pipes["text-classification"](texts(4))
    assert calls._state.done == type(calls._state.done)()
    assert len(list(stream)) == 4
    assert calls.one().items == 4


def test_a_generator_that_is_given_up_ends_its_request(calls: Any, pipes: Any) -> None:
    stream = iter(pipes["text-classification"](texts(4)))
    next(stream)
    del stream
    call = calls.one()
    assert (call.items, call.error) == (1, None)


def test_a_generator_that_fails_passes_its_exception_on(calls: Any, pipes: Any) -> None:
    error = ArithmeticError("mine")

    def failing() -> Iterator[str]:
        yield TEXT
        raise error

    with pytest.raises(ArithmeticError) as caught:
        list(pipes["text-classification"](failing()))
    assert caught.value is error
    assert calls.one().error is ArithmeticError


def test_a_data_set_can_be_gone_through_twice(calls: Any, pipes: Any) -> None:
    class Texts(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> str:
            return TEXT

    stream = pipes["text-classification"](Texts())
    assert (len(stream), len(list(stream)), len(list(stream))) == (3, 3, 3)
    assert isinstance(stream, torch.utils.data.IterableDataset)
    found = calls.take()
    assert [(call.spec.operation, call.items) for call in found] == [("text-classification", 3)] * 2


def test_an_exception_is_the_callers(calls: Any, pipes: Any) -> None:
    with pytest.raises(ValueError, match="label"):
        pipes["zero-shot-classification"](TEXT, candidate_labels=[])
    assert calls.one().error is ValueError


def test_results_are_bit_identical(calls: Any, pipes: Any) -> None:
    def run() -> list[Any]:
        asked = {task: inputs(task) for task in TASKS if task != "text-generation"}
        return [pipes[task]([given] * 2, **options) for task, (given, options) in asked.items()]

    patched = run()
    TransformersInstrumentor().uninstrument()
    TorchInstrumentor().uninstrument()
    assert patched == run()
    assert len(calls.take()) == len(TASKS) - 1


def test_threads_and_coroutines(calls: Any, pipes: Any, in_threads: Callable[..., None]) -> None:
    classify = pipes["text-classification"]
    in_threads(lambda: classify(TEXT), 3, 5)

    async def main() -> None:
        await asyncio.gather(*(asyncio.to_thread(classify, TEXT) for _ in range(5)))

    asyncio.run(main())
    assert calls.operations() == ["text-classification"] * 20


def test_many_calls_leave_nothing_behind(calls: Any, pipes: Any) -> None:
    assert calls.left_behind(lambda: pipes["text-classification"](TEXT), 50) < 5_000


def test_training_is_no_request_and_prediction_is(calls: Any, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    model = BertForSequenceClassification(tiny.bert(num_labels=2))
    rows = [{"input_ids": [2, 6, 3], "labels": 0}, {"input_ids": [2, 7, 3], "labels": 1}] * 2
    arguments = transformers.TrainingArguments(
        str(tmp_path), max_steps=2, report_to=[], use_cpu=True, eval_strategy="steps", eval_steps=1,
        disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    trainer = transformers.Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    assert calls.take() == []
    trainer.predict(rows)
    call = calls.one()
    assert (call.spec.operation, call.items) == ("predict", 4)
    assert call.spec.describe(call.model).name == "BertForSequenceClassification"


def test_the_thread_that_serves_works_in_the_context_of_who_asked(calls: Any, pipes: Any) -> None:
    serving = pytest.importorskip("transformers.cli.serving.utils")
    from opentelemetry import trace

    thread, parent = serving.InferenceThread(), trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))
    with trace.use_span(parent):
        thread.submit(pipes["text-classification"], TEXT).result()
    call = calls.one()
    assert trace.get_current_span(call.context) is parent


@pytest.fixture(scope="module")
def clip() -> Any:
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text, vision = CLIPTextConfig(vocab_size=24, **size), CLIPVisionConfig(image_size=16, patch_size=8, **size)
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict())).eval()


PICTURES, IDS = torch.zeros(4, 3, 16, 16), torch.ones(2, 5).long()


def test_features_of_texts_and_pictures_are_one_request_each(calls: Any, clip: Any) -> None:
    with torch.no_grad():
        clip.get_image_features(pixel_values=PICTURES)
        clip.get_text_features(IDS)
    found = calls.take()
    assert [(call.spec.operation, call.items) for call in found] == [
        ("get_image_features", 4),
        ("get_text_features", 2),
    ]
    facts = found[0].spec.describe(found[0].model)
    assert (facts.name, facts.parameters) == ("CLIPModel", sum(one.numel() for one in clip.parameters()))


def test_features_in_training_are_none(calls: Any, clip: Any) -> None:
    clip.train()
    try:
        torch.optim.SGD(clip.parameters(), 0.0)
        found = clip.get_text_features(IDS)
        getattr(found, "pooler_output", found).sum().backward()
        assert calls.take() == []
    finally:
        clip.eval()
        learning.reset()


def test_a_compiled_model_that_asks_for_features_stays_one_graph(calls: Any, clip: Any) -> None:
    class Seen(type(clip)):  # type: ignore[misc]
        def get_image_features(self, pixel_values: Any) -> Any:
            return self.vision_model(pixel_values=pixel_values).pooler_output

        def forward(self, pixel_values: Any) -> Any:
            return self.get_image_features(pixel_values) * 2

    seen = Seen(clip.config).eval()
    with torch.no_grad():
        expected = seen(PICTURES)
        compiled = torch.compile(seen, fullgraph=True, backend="eager")
        assert torch.equal(compiled(PICTURES), expected)
    assert calls.operations() == ["forward"] * 2


def test_uninstrument_restores_the_classes(clip: Any) -> None:
    classes = transformers.Pipeline, transformers.PreTrainedModel, type(clip), transformers.Trainer
    TransformersInstrumentor().uninstrument()
    before = [dict(vars(one)) for one in classes]
    TransformersInstrumentor().instrument(skip_dep_check=True)
    assert all(dict(vars(one)) != was for one, was in zip(classes, before, strict=True))

    class Later(type(clip)):  # type: ignore[misc]
        def generate(self) -> None: ...

    assert hasattr(Later.generate, "__wrapped__")
    TransformersInstrumentor().uninstrument()
    assert [dict(vars(one)) for one in classes] == before
    assert not hasattr(Later.generate, "__wrapped__")


def test_it_is_not_imported_by_us() -> None:
    code = """
import sys
from ecolyzer_transformers import TransformersInstrumentor
TransformersInstrumentor().instrument(skip_dep_check=True)
sys.exit("transformers" in sys.modules or "torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=240).returncode == 0

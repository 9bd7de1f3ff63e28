"""Tiny models of transformers with random weights, saved as a person would save them; tokenizers of a few words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

TEXT = "the cat sits on a warm server it rained all day how much energy did this answer take"
WORDS = TEXT.split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[EOS]"]


def tokenizer(folder: Path, *, pairs: bool = True) -> PreTrainedTokenizerFast:
    """Knows some words; of the rest it knows nothing."""
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(SPECIAL + WORDS)}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    if pairs:
        words.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", eos_token="[EOS]", padding_side="right" if pairs else "left",
    )  # fmt: skip
    made.save_pretrained(folder)
    return made


def bert(**more: Any) -> BertConfig:
    return BertConfig(
        vocab_size=len(SPECIAL + WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64, **more,
    )  # fmt: skip


def causal(folder: Path, kind: str = "gpt2") -> Any:
    """A model that writes; it knows when to stop, and hardly ever does."""
    torch.manual_seed(0)
    size = len(SPECIAL + WORDS)
    common = {"vocab_size": size, "bos_token_id": 2, "eos_token_id": 5, "pad_token_id": 0}
    if kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=256, **common))
    else:
        model = LlamaForCausalLM(
            LlamaConfig(
                hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
                intermediate_size=64, max_position_embeddings=256, **common,
            )
        )  # fmt: skip
    model.save_pretrained(folder)
    return type(model).from_pretrained(folder).eval()

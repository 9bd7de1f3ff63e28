"""A small text generator: a Llama of letters, trained at the start on texts of scikit-learn's data sets."""

from __future__ import annotations

import time

import torch
from pydantic import BaseModel, Field
from sklearn import datasets
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

LETTERS = "\n" + "".join(map(chr, range(32, 127)))
CONTEXT = 256
MAX_TOKENS = 200
#: Chosen so that 2 cores need about 6 s; a slower machine stops after ``SECONDS``, with a worse model.
STEPS, SECONDS = 300, 8.0
BATCH, BLOCK = 12, 96


class Beginning(BaseModel):
    """A text, and the number of letters to generate."""

    text: str = Field(min_length=1, max_length=10_000)
    tokens: int = Field(40, ge=1, le=MAX_TOKENS)


def _corpus() -> str:
    loaders = ("iris", "wine", "digits", "diabetes", "linnerud", "breast_cancer")
    return "\n".join(getattr(datasets, f"load_{name}")().DESCR for name in loaders)


def _encoded(text: str) -> torch.Tensor:
    # Characters outside of the alphabet become a blank.
    return torch.tensor([LETTERS.find(letter) if letter in LETTERS else 1 for letter in text])


def _trained() -> LlamaForCausalLM:
    torch.manual_seed(0)
    # Rotary positions: training on short blocks is valid for longer texts.
    config = LlamaConfig(
        vocab_size=len(LETTERS), max_position_embeddings=CONTEXT, hidden_size=64, intermediate_size=128,
        num_hidden_layers=2, num_attention_heads=4, initializer_range=0.08, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    # The place of the id of a model from a hub.
    config._name_or_path = "tiny-writer"
    model = LlamaForCausalLM(config).train()
    text = _encoded(_corpus())
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=STEPS)
    began = time.monotonic()
    steps = 0
    while steps < STEPS and time.monotonic() - began < SECONDS:
        starts = torch.randint(len(text) - BLOCK, (BATCH,)).tolist()
        batch = torch.stack([text[start : start + BLOCK + 1] for start in starts])
        logits = model(input_ids=batch[:, :-1]).logits
        loss = cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        steps += 1
    took = time.monotonic() - began
    size = sum(one.numel() for one in model.parameters())
    print(
        f"tiny-writer: {size:,} parameters, {steps} steps over {len(text):,} letters in {took:.1f} s, "
        f"loss {loss.item():.2f}",
        flush=True,
    )
    return model.eval()


_writer = _trained()


def continued(text: str, tokens: int) -> str:
    """A continuation of so many letters."""
    prompt = _encoded(text[tokens - CONTEXT :])[None]
    written = _writer.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=True, temperature=0.6, max_new_tokens=tokens
    )
    return "".join(LETTERS[letter] for letter in written[0, prompt.shape[1] :].tolist())

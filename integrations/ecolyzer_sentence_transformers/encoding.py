"""One encoding or prediction: a request, unless other processes run it; and its input tokens."""

from __future__ import annotations

import contextlib
import functools
from typing import Any, Final

from ecolyzer_otel.instrumentor import Attr, CallSpec, enclosing_request, leaf
from ecolyzer_transformers.tokens import given_tokens, token_count

__all__ = ["counting", "encoded"]

_EMBEDDING: Final = {Attr.GEN_AI_OPERATION: "embeddings"}


def encoded(original: Any, spec: CallSpec) -> Any:
    """Wrap a method that infers. With a pool, its processes have the requests, and this call is none."""
    wrapped = leaf(original, spec)

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("pool") is not None or isinstance(kwargs.get("device"), list):
            return original(self, *args, **kwargs)
        return wrapped(self, *args, **kwargs)

    return wrapper


def counting(original: Any, *, embeds: bool) -> Any:
    """Wrap ``preprocess`` (before version 6 ``tokenize``), which makes a batch of features."""

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        features = original(self, *args, **kwargs)
        call = enclosing_request()
        if call is not None:
            with contextlib.suppress(Exception):
                count = functools.partial(_count, features.get("input_ids"), features.get("attention_mask"))
                token_count(call).defer(call, count)
                if embeds:
                    details = call.ensure_details()
                    details.attributes = _EMBEDDING | (details.attributes or {})
        return features

    return wrapper


def _count(ids: Any, mask: Any, call: Any) -> tuple[int, int]:
    return given_tokens(ids, mask), 0

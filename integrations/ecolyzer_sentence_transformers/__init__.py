"""OpenTelemetry instrumentor for sentence-transformers: every outermost encoding or prediction is a request.

Usage::

    from ecolyzer_sentence_transformers import SentenceTransformersInstrumentor

    SentenceTransformersInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. The package is patched when it is imported, not imported by us.
Requests are ``encode``, ``encode_query`` and ``encode_document`` of bi-encoders, sparse and multi-vector encoders,
and ``predict`` and ``rank`` of cross-encoders, each with the tokens that went in. ``fit`` is training, and so is a
trainer's ``train`` (:mod:`ecolyzer_transformers`).

A pool of processes encodes in chunks: each chunk is a request of the process that encodes it, if that is
instrumented. The call that waits for them is no request.

Verified with sentence-transformers 6.2, 5.1, 4.1 and 3.4; before version 6 the tokens of cross-encoders are not
counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ecolyzer_otel.instrumentor import FrameworkInstrumentor, forget_model, training
from ecolyzer_sentence_transformers.encoding import counting, encoded
from ecolyzer_sentence_transformers.facts import describe, pairs, ranked, texts
from ecolyzer_transformers.facts import spec

__all__ = ["SentenceTransformersInstrumentor", "describe"]

_CLASSES: Final = ("SentenceTransformer", "SparseEncoder", "MultiVectorEncoder", "CrossEncoder")
_FRAMEWORK: Final = "sentence-transformers"
_ENCODE: Final = spec("encode", describe, texts, _FRAMEWORK)
_PREDICT: Final = spec("predict", describe, pairs, _FRAMEWORK)
_METHODS: Final = {
    "encode": _ENCODE,
    "encode_query": spec("encode_query", describe, texts, _FRAMEWORK),
    "encode_document": spec("encode_document", describe, texts, _FRAMEWORK),
    "predict": _PREDICT,
    "rank": spec("rank", describe, ranked, _FRAMEWORK),
}


class SentenceTransformersInstrumentor(FrameworkInstrumentor):
    """Patches the classes of encoders, each where it defines a method itself."""

    supported = {"sentence_transformers": ("3.0", "7")}  # noqa: RUF012 - declared as a ClassVar of the base

    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """See :class:`~ecolyzer_otel.instrumentor.FrameworkInstrumentor`."""
        return {"sentence_transformers": self._patch}

    def _patch(self, module: Any) -> None:
        for cls in (getattr(module, name, None) for name in _CLASSES):
            if cls is not None:
                self._patch_class(cls)

    def _patch_class(self, cls: Any) -> None:
        methods = {name: what for name, what in _METHODS.items() if hasattr(cls, name)}
        if hasattr(cls, "_inference"):  # called in a process of a pool
            methods["_inference"] = _PREDICT if "predict" in methods else _ENCODE
        for name, what in methods.items():
            self.wrap(cls, name, encoded, what)
        for name in ("preprocess", "tokenize"):
            if callable(getattr(cls, name, None)):
                self.wrap(cls, name, counting, embeds="encode" in methods)
                break
        for name in ("fit", "old_fit"):
            self.wrap_present(cls, name, training, after=forget_model)

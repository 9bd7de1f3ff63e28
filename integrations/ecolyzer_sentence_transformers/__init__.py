"""OpenTelemetry instrumentor for sentence-transformers: every outermost encoding or prediction is a request.

Usage::

    from ecolyzer_sentence_transformers import SentenceTransformersInstrumentor

    SentenceTransformersInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. The package is patched when it is imported, not imported by us.
Requests are ``encode``, ``encode_query`` and ``encode_document`` of bi-encoders, sparse and multi-vector encoders,
and ``predict`` and ``rank`` of cross-encoders. ``fit`` is training, and so is a trainer's ``train``
(:mod:`ecolyzer_transformers`). What ``encode_multi_process`` runs in other processes is a request in each of them.

Verified with sentence-transformers 6.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ecolyzer_otel.call import forget_model
from ecolyzer_otel.instrumentor import FrameworkInstrumentor
from ecolyzer_otel.wrap import CallSpec, leaf, training
from ecolyzer_sentence_transformers.facts import describe, pairs, ranked, texts

__all__ = ["SentenceTransformersInstrumentor", "describe"]

_CLASSES: Final = ("SentenceTransformer", "SparseEncoder", "MultiVectorEncoder", "CrossEncoder")
_SPECS: Final = (
    *(
        CallSpec("sentence-transformers", name, describe, texts)
        for name in ("encode", "encode_query", "encode_document")
    ),
    CallSpec("sentence-transformers", "predict", describe, pairs),
    CallSpec("sentence-transformers", "rank", describe, ranked),
)


class SentenceTransformersInstrumentor(FrameworkInstrumentor):
    """Patches the classes of encoders, each where it defines a method itself."""

    supported = {"sentence_transformers": ("3.0", "7")}  # noqa: RUF012 - declared as a ClassVar of the base

    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """See :class:`~ecolyzer_otel.instrumentor.FrameworkInstrumentor`."""
        return {"sentence_transformers": self._patch}

    def _patch(self, module: Any) -> None:
        for cls in (getattr(module, name, None) for name in _CLASSES):
            if cls is None:
                continue
            for spec in _SPECS:
                if hasattr(cls, spec.operation):
                    self.patches.replace(cls, spec.operation, leaf(getattr(cls, spec.operation), spec))
            for name in ("fit", "old_fit"):
                if hasattr(cls, name):
                    self.patches.replace(cls, name, training(getattr(cls, name), after=forget_model))

"""Facts of the models of one worker."""

from __future__ import annotations

import contextlib
import logging
import weakref
from dataclasses import replace
from typing import Any, Final

from ecolyzer_otel.wire.limits import MAX_NAME
from ecolyzer_otel.wire.protocol import Model
from ecolyzer_otel.worker.call import Call
from ecolyzer_otel.worker.device_names import sensor_name
from ecolyzer_otel.worker.model_names import given_name
from ecolyzer_otel.worker.spec import ModelFacts

__all__ = ["ModelBook"]

_LOG = logging.getLogger(__name__)
_MAX_MODELS: Final = 10_000


class _Entry:
    """A model, its facts, and the meter's key for them, -1 until it has one."""

    __slots__ = ("facts", "key", "model")

    def __init__(self, model: weakref.ref[Any], facts: ModelFacts) -> None:
        self.model, self.facts, self.key = model, facts, -1


class ModelBook:
    """Facts of models, read once per model, and the keys that identify them in reports.

    Args:
        names: receives the names of models by the ``id`` of the model.
    """

    def __init__(self, names: dict[int, str] | None = None) -> None:
        self._names: dict[int, str] = {} if names is None else names
        self._entries: dict[tuple[int, str], _Entry] = {}
        self._keys: dict[ModelFacts, int] = {}
        self._new: list[Model] = []

    def facts_and_key(self, call: Call) -> tuple[ModelFacts, int]:
        """Returns the facts of the model of ``call``, with its framework, and the key for them."""
        model = call.model
        entry = self._entries.get((id(model), call.spec.framework))
        if entry is None or entry.model() is not model:
            facts = self.facts(call)
            return facts, self.key(facts)
        if entry.key < 0:
            entry.key = self.key(entry.facts)
        return entry.facts, entry.key

    def facts(self, call: Call) -> ModelFacts:
        """Returns the facts of the model of ``call``, with its framework."""
        key, framework = id(call.model), call.spec.framework
        entry = self._entries.get((key, framework))
        if entry is not None and entry.model() is call.model:
            return entry.facts
        try:
            facts = call.spec.describe(call.model)
        except Exception:  # noqa: BLE001 - never hurt the service
            _LOG.debug("ecolyzer: a model could not be described", exc_info=True)
            facts = ModelFacts(type(call.model).__name__)
        name = given_name(call.model, facts.name)
        facts = replace(facts, name=name[:MAX_NAME], framework=facts.framework or framework)
        with contextlib.suppress(TypeError):  # not every object can be referenced weakly
            reference = weakref.ref(call.model, lambda _: self.forget(key))
            self._entries[key, framework] = _Entry(reference, facts)
            self._names[key] = facts.name
        return facts

    def forget(self, key: int) -> None:
        """Read the facts of the model with this ``id`` again at its next call."""
        for place in [one for one in self._entries.copy() if one[0] == key]:
            self._entries.pop(place, None)
        self._names.pop(key, None)

    def key(self, facts: ModelFacts) -> int:
        """Returns the key for these facts; a new one is announced with the next batch."""
        key = self._keys.get(facts)
        if key is None:
            if len(self._keys) >= _MAX_MODELS:
                facts = ModelFacts("__other__", framework=facts.framework)
                if facts in self._keys:
                    return self._keys[facts]
            key = self._keys[facts] = len(self._keys)
            self._new.append(
                Model(
                    key,
                    facts.name,
                    (facts.framework or "")[:MAX_NAME],
                    facts.parameters,
                    _short(facts.dtype),
                    facts.device[:MAX_NAME],
                    sensor_name(facts.device)[:MAX_NAME],
                )
            )
        return key

    def announce(self) -> list[Model]:
        """Returns the models that were not announced to the meter yet."""
        new, self._new = self._new, []
        return new

    def reset_keys(self) -> None:
        """For a new connection: announce every model again."""
        self._keys.clear()
        self._new.clear()
        for entry in self._entries.copy().values():
            entry.key = -1


def _short(text: str | None) -> str | None:
    return None if text is None else text[:MAX_NAME]

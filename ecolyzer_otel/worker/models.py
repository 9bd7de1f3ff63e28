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


class _Known:
    """A model, its facts, and the meter's key for them, -1 until it has one."""

    __slots__ = ("facts", "key", "model")

    def __init__(self, model: weakref.ref[Any], facts: ModelFacts) -> None:
        self.model, self.facts, self.key = model, facts, -1


class ModelBook:
    """Facts of models, read once per model, and the keys under which the meter knows them.

    Args:
        names: where the names of models are noted by the ``id`` of the model.
    """

    def __init__(self, names: dict[int, str] | None = None) -> None:
        self._names: dict[int, str] = {} if names is None else names
        self._facts: dict[tuple[int, str], _Known] = {}
        self._keys: dict[ModelFacts, int] = {}
        self._new: list[Model] = []

    def facts_and_key(self, call: Call) -> tuple[ModelFacts, int]:
        """The facts of the model of ``call``, its framework filled in, and the meter's key for them."""
        model = call.model
        known = self._facts.get((id(model), call.spec.framework))
        if known is None or known.model() is not model:
            facts = self.facts(call)
            return facts, self.key(facts)
        if known.key < 0:
            known.key = self.key(known.facts)
        return known.facts, known.key

    def facts(self, call: Call) -> ModelFacts:
        """The facts of the model of ``call``, its framework filled in."""
        key, framework = id(call.model), call.spec.framework
        known = self._facts.get((key, framework))
        if known is not None and known.model() is call.model:
            return known.facts
        try:
            facts = call.spec.describe(call.model)
        except Exception:  # noqa: BLE001 - never hurt the service
            _LOG.debug("ecolyzer: a model could not be described", exc_info=True)
            facts = ModelFacts(type(call.model).__name__)
        name = given_name(call.model, facts.name)
        facts = replace(facts, name=name[:MAX_NAME], framework=facts.framework or framework)
        with contextlib.suppress(TypeError):  # not every object can be referenced weakly
            reference = weakref.ref(call.model, lambda _: self.forget(key))
            self._facts[key, framework] = _Known(reference, facts)
            self._names[key] = facts.name
        return facts

    def forget(self, key: int) -> None:
        """Read the facts of the model with this ``id`` anew."""
        for known in [one for one in self._facts.copy() if one[0] == key]:
            self._facts.pop(known, None)
        self._names.pop(key, None)

    def key(self, facts: ModelFacts) -> int:
        """The meter's key for these facts; a new one is announced with the next batch."""
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
        """The models that the meter does not know yet."""
        new, self._new = self._new, []
        return new

    def reset_keys(self) -> None:
        """Another meter: it knows nothing."""
        self._keys.clear()
        self._new.clear()
        for known in self._facts.copy().values():
            known.key = -1


def _short(text: str | None) -> str | None:
    return None if text is None else text[:MAX_NAME]

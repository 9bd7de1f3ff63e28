"""Names that users give to models, in place of those that instrumentors find.

By the option ``model_names`` (``--model-names "BertModel=support-bot,*/checkpoint-*=ranker"``), without a change of
code, or in code for one object::

    ecolyzer_otel.name_model(model, "support-bot")
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, Final

from ecolyzer_otel.common.config import Renames
from ecolyzer_otel.worker.state import forget_model

__all__ = ["given_name", "name_model", "use_rules"]

_rules: Renames = ()
_named: Final[dict[int, tuple[Callable[[], Any], str]]] = {}


def use_rules(rules: Renames) -> None:
    """Rename models by these rules from now on."""
    global _rules
    _rules = rules


def name_model(model: Any, name: str) -> None:
    """Give the requests of ``model`` this name.

    Args:
        model: the object whose method is called: a module, an estimator, a session, a pipeline.
        name: the value of ``ecolyzer.model.name``.

    Raises:
        ValueError: the name is empty.
        TypeError: the object cannot be referenced weakly, so that its name would outlive it; name it by the option.
    """
    if not name.strip():
        raise ValueError("name: must not be empty")
    key = id(model)
    _named[key] = weakref.ref(model, lambda _: _named.pop(key, None)), name.strip()
    forget_model(model)


def given_name(model: Any, found: str) -> str:
    """Returns the name that a user gave to ``model``, else the one that was ``found``."""
    with contextlib.suppress(KeyError):
        reference, name = _named[id(model)]
        if reference() is model:
            return name
    return next((name for pattern, name in _rules if fnmatchcase(found, pattern)), found)

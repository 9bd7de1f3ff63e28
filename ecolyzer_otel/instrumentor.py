"""What all instrumentors share: patch a framework when it is imported, not before, and put everything back.

A third party's::

    class EngineInstrumentor(FrameworkInstrumentor):
        def hooks(self):
            return {"engine": self._patch}

        def _patch(self, module):
            self.patches.replace(module.Engine, "infer", leaf(module.Engine.infer, SPEC))

behind the entry point ``opentelemetry_instrumentor``.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from ecolyzer_otel import runtime
from ecolyzer_otel.wrap import Patches

__all__ = ["FrameworkInstrumentor"]


class FrameworkInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """An OpenTelemetry instrumentor that never imports its framework."""

    patches: ClassVar[Patches]
    _active: ClassVar[bool] = False
    _hooked: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.patches = Patches()

    @abstractmethod
    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """What to do with each module of the framework, by its full name, once it is imported."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """None by name: frameworks come in builds of many names, and one that is absent is never imported."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        runtime.activate()
        cls = type(self)
        cls._active = True
        for name, patch in self.hooks().items():
            if not cls._hooked:  # import hooks cannot be taken back, so they are set once
                wrapt.register_post_import_hook(self._when_active(patch), name)
            elif name in sys.modules:
                patch(sys.modules[name])
        cls._hooked = True

    def _when_active(self, patch: Callable[[Any], None]) -> Callable[[Any], None]:
        def hook(module: Any) -> None:
            if self._active:
                patch(module)

        return hook

    def _uninstrument(self, **kwargs: Any) -> None:
        type(self)._active = False
        self.patches.undo()

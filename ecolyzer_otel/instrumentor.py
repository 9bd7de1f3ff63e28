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

import logging
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import wrapt

from ecolyzer_otel.boot.activation import activate
from ecolyzer_otel.common import flatbuffer
from ecolyzer_otel.common.attributes import Attr
from ecolyzer_otel.wire.limits import MAX_PHASES
from ecolyzer_otel.worker.call import Call, current_call, note_route, noted_route, restore_route
from ecolyzer_otel.worker.describe import describe
from ecolyzer_otel.worker.details import CallView
from ecolyzer_otel.worker.hot_path import begin, finish, suspend
from ecolyzer_otel.worker.lending import ELSEWHERE, INSIDE, OUTERMOST, enclosing, lending, placement_of, within
from ecolyzer_otel.worker.patches import Patches
from ecolyzer_otel.worker.spec import CallSpec, ModelFacts, batch_of
from ecolyzer_otel.worker.state import forget_model
from ecolyzer_otel.worker.threads import get_ident
from ecolyzer_otel.worker.training import counts_training, mark_training, training
from ecolyzer_otel.worker.wrap import changing, leaf, measured, streamed

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "ELSEWHERE",
    "INSIDE",
    "MAX_PHASES",
    "OUTERMOST",
    "Attr",
    "Call",
    "CallSpec",
    "CallView",
    "FrameworkInstrumentor",
    "ModelFacts",
    "Patches",
    "batch_of",
    "begin",
    "changing",
    "counts_training",
    "current_call",
    "describe",
    "enclosing",
    "finish",
    "flatbuffer",
    "forget_model",
    "get_ident",
    "leaf",
    "lending",
    "mark_training",
    "measured",
    "note_route",
    "noted_route",
    "placement_of",
    "restore_route",
    "streamed",
    "suspend",
    "training",
    "within",
]

_LOG = logging.getLogger(__name__)


class FrameworkInstrumentor(ABC):
    """An OpenTelemetry instrumentor that never imports its framework.

    A ``BaseInstrumentor`` by registration, with the same methods: to inherit from it would cost every process the
    import of what checks versions (a quarter of all that we import), which instrumentors of frameworks that go by
    many names cannot use.
    """

    _instance: ClassVar[Any] = None
    _is_instrumented_by_opentelemetry = False
    #: Of each package whose modules are hooked: the oldest supported version, and the first that is not.
    supported: ClassVar[Mapping[str, tuple[str, str]]] = {}
    patches: ClassVar[Patches]
    _active: ClassVar[bool] = False
    _hooked: ClassVar[bool] = False
    _patched: ClassVar[set[str]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.patches = Patches()
        cls._patched = set()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """The one instance of each class."""
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance  # type: ignore[no-any-return]

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether it is applied."""
        return self._is_instrumented_by_opentelemetry

    def instrument(self, *, skip_dep_check: bool = False, **kwargs: Any) -> None:
        """Patch the framework, now or when it is imported; see OpenTelemetry's ``BaseInstrumentor``."""
        if self._is_instrumented_by_opentelemetry:
            _LOG.warning("Attempting to instrument while already instrumented")
            return
        needed = () if skip_dep_check else self.instrumentation_dependencies()
        kwargs.pop("raise_exception_on_conflict", None)
        if needed and (conflict := _conflict(needed)):
            _LOG.error("ecolyzer: %s is not applied: %s", type(self).__name__, conflict)
            return
        self._instrument(**kwargs)
        self._is_instrumented_by_opentelemetry = True

    def uninstrument(self, **kwargs: Any) -> None:
        """Put everything back; see OpenTelemetry's ``BaseInstrumentor``."""
        if not self._is_instrumented_by_opentelemetry:
            _LOG.warning("Attempting to uninstrument while already uninstrumented")
            return
        self._uninstrument(**kwargs)
        self._is_instrumented_by_opentelemetry = False

    @abstractmethod
    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """What to do with each module of the framework, by its full name, once it is imported."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """None by name: frameworks come in builds of many names, and one that is absent is never imported."""
        return ()

    def _instrument(self, *, hooked: bool = False, **kwargs: Any) -> None:
        activate()
        cls = type(self)
        cls._active = True
        for name, patch in self.hooks().items():
            if not cls._hooked:  # import hooks cannot be taken back, so they are set once
                if not hooked:
                    wrapt.register_post_import_hook(self._when_active(patch), name)
            elif name in sys.modules:
                self._when_active(patch)(sys.modules[name])
        cls._hooked = True

    def imported(self, module: Any) -> None:
        """Patch a module that has just been imported: for those who hook modules, with ``hooked``."""
        self._when_active(self.hooks()[module.__name__])(module)

    def _when_active(self, patch: Callable[[Any], None]) -> Callable[[Any], None]:
        def hook(module: Any) -> None:
            name = module.__name__
            if self._active and name not in self._patched and self._supports(name.partition(".")[0]):
                self._patched.add(name)
                patch(module)

        return hook

    def _supports(self, root: str) -> bool:
        """Whether the imported version is one that this was made for; says once if it is not."""
        oldest, below = self.supported.get(root, ("", ""))
        version = getattr(sys.modules.get(root), "__version__", None)
        if not oldest or not isinstance(version, str) or _numbers(oldest) <= _numbers(version) < _numbers(below):
            return True
        if root not in _told:
            _told.add(root)
            _LOG.warning(
                "ecolyzer: %s %s is not supported (%s and later, before %s); its requests are not measured",
                root, version, oldest, below,
            )  # fmt: skip
        return False

    def _uninstrument(self, **kwargs: Any) -> None:
        type(self)._active = False
        self._patched.clear()
        self.patches.undo()


def _conflict(needed: Collection[str]) -> Any:
    from opentelemetry.instrumentation.dependencies import get_dependency_conflicts

    return get_dependency_conflicts(needed)


# Whoever asks for the class has imported it.
wrapt.register_post_import_hook(
    lambda module: module.BaseInstrumentor.register(FrameworkInstrumentor),
    "opentelemetry.instrumentation.instrumentor",
)

_told: set[str] = set()


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, for comparison: 2.13.0+cpu is (2, 13, 0)."""
    found = []
    for part in version.split("."):
        digits = re.match(r"\d+", part)
        if digits is None:
            break
        found.append(int(digits[0]))
        if digits[0] != part:
            break
    return tuple(found)

"""What an instrumentor is written with: its base class, and the functions that wrap a framework's methods.

A complete instrumentor, behind the entry point ``opentelemetry_instrumentor``::

    from ecolyzer_otel.instrumentor import CallSpec, FrameworkInstrumentor, ModelFacts, batch_of, leaf, training

    def describe(engine):  # on a background thread, once per model
        return ModelFacts(engine.name, engine.parameter_count(), dtype="float32", device="cpu")

    def batch(args, kwargs):  # on the request path: reads attributes only
        return batch_of(args[0] if args else kwargs.get("batch"))

    INFER = CallSpec("custom", "infer", describe, batch)

    class AcmeInstrumentor(FrameworkInstrumentor):
        supported = {"acme": ("1.0", "3")}

        def hooks(self):
            return {"acme": self._patch}

        def _patch(self, acme):
            self.wrap(acme.Engine, "infer", leaf, INFER)
            self.wrap(acme.Engine, "fit", training)

In the order in which an instrumentor needs them:

1. The class: :class:`FrameworkInstrumentor`, with its ``wrap`` and its :class:`Patches`.
2. What a call is: :class:`CallSpec`, :class:`ModelFacts`; batch sizes by ``batch_of`` and ``batch_from_result``;
   the facts of another framework's model by ``describe``.
3. Wrappers: ``leaf`` for methods and coroutine functions, ``streamed`` for generators, ``training`` for what is no
   request, ``changing`` and ``forget_model`` for what changes a model.
4. What is noted of a call: :class:`CallView` in callbacks of the spec, ``enclosing_request`` anywhere else; span
   attributes by :class:`Attr`; at most ``MAX_PHASES`` phases.
5. A wrapper of one's own: ``begin``, then ``measured`` or ``finish``; :class:`Suspended` (or ``suspend``) where the
   request outlasts the function; ``enclosing_call`` and ``nested`` for a call within another; ``lending`` in helper
   threads. On the hottest paths ``current_call``, ``placement_of`` and ``within`` do the same without a frame.
6. Training that shows late: ``may_be_training``, ``mark_training``, ``counts_training``.
7. Routes of a web framework: :class:`Route`, ``note_route``, ``noted_route``, ``restore_route``.
8. Files of models: ``flatbuffer`` reads the format of ``.ort`` and ``.tflite``.
"""

from __future__ import annotations

import contextlib
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
from ecolyzer_otel.worker.call import Call, current_call
from ecolyzer_otel.worker.describe import describe
from ecolyzer_otel.worker.details import CallView
from ecolyzer_otel.worker.hot_path import begin, finish, suspend
from ecolyzer_otel.worker.nesting import (
    INSIDE,
    enclosing_call,
    enclosing_request,
    lending,
    nested,
    placement_of,
    within,
)
from ecolyzer_otel.worker.patches import Patches
from ecolyzer_otel.worker.spec import CallSpec, ModelFacts, batch_from_result, batch_of
from ecolyzer_otel.worker.state import forget_model
from ecolyzer_otel.worker.training import counts_training, mark_training, may_be_training, training
from ecolyzer_otel.worker.web_route import Route, note_route, noted_route, restore_route
from ecolyzer_otel.worker.wrap import Suspended, changing, leaf, measured, streamed

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "INSIDE",
    "MAX_PHASES",
    "Attr",
    "Call",
    "CallSpec",
    "CallView",
    "FrameworkInstrumentor",
    "ModelFacts",
    "Patches",
    "Route",
    "Suspended",
    "batch_from_result",
    "batch_of",
    "begin",
    "changing",
    "counts_training",
    "current_call",
    "describe",
    "enclosing_call",
    "enclosing_request",
    "finish",
    "flatbuffer",
    "forget_model",
    "leaf",
    "lending",
    "mark_training",
    "may_be_training",
    "measured",
    "nested",
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
    """An OpenTelemetry instrumentor that patches its framework at its import, never imports it, and restores all.

    A ``BaseInstrumentor`` by registration, with the same methods. Inheritance would cost every process the import
    of the version checks (a quarter of all that we import). Frameworks that are distributed under many names cannot
    use these.
    """

    _instance: ClassVar[Any] = None
    _is_instrumented_by_opentelemetry = False
    #: Of each package whose modules are hooked: the oldest supported version, and the first later one that is not.
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
        """Returns what patches each module of the framework, by the module's full name, once it is imported."""

    def wrap(self, owner: Any, name: str, wrapper: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Replace ``owner.name`` by ``wrapper(owner.name, *args, **kwargs)`` until :meth:`uninstrument`.

        Raises:
            AttributeError: the owner has none.
        """
        self.patches.replace(owner, name, wrapper(getattr(owner, name), *args, **kwargs))

    def wrap_present(self, owner: Any, name: str, wrapper: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """As :meth:`wrap`; nothing where this release of the framework has no ``owner.name``."""
        if hasattr(owner, name):
            self.wrap(owner, name, wrapper, *args, **kwargs)

    def patch_subclasses(self, base: Any, patch: Callable[[Any], None]) -> None:
        """Call ``patch`` with each class that inherits from ``base``, now and when one is defined."""
        found: list[Any] = list(base.__subclasses__())
        seen = set(found)
        for cls in found:
            patch(cls)
            new: list[Any] = [one for one in cls.__subclasses__() if one not in seen]
            seen.update(new)
            found += new
        own = vars(base).get("__init_subclass__")

        def __init_subclass__(cls: type, /, **kwargs: Any) -> None:
            if own is None:
                super(base, cls).__init_subclass__(**kwargs)  # type: ignore[misc]
            else:
                own.__func__(cls, **kwargs)
            with contextlib.suppress(Exception):  # a failure of ours must not prevent the definition of a class
                patch(cls)

        self.patches.replace(base, "__init_subclass__", classmethod(__init_subclass__))

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: a framework may be distributed under many names, and one that is absent is never imported."""
        return ()

    def _instrument(self, *, hooked: bool = False, **kwargs: Any) -> None:
        activate()
        cls = type(self)
        cls._active = True
        for name, patch in self.hooks().items():
            if not cls._hooked:  # import hooks cannot be removed, so they are set once
                if not hooked:
                    wrapt.register_post_import_hook(self._when_active(patch), name)
            elif name in sys.modules:
                self._when_active(patch)(sys.modules[name])
        cls._hooked = True

    def imported(self, module: Any) -> None:
        """Patch a module that has just been imported; for a caller that hooks modules itself (``hooked=True``)."""
        self._when_active(self.hooks()[module.__name__])(module)

    def _when_active(self, patch: Callable[[Any], None]) -> Callable[[Any], None]:
        def hook(module: Any) -> None:
            name = module.__name__
            if self._active and name not in self._patched and self._supports(name.partition(".")[0]):
                self._patched.add(name)
                patch(module)

        return hook

    def _supports(self, root: str) -> bool:
        """Whether the imported version is supported; logs a warning, once, if it is not."""
        oldest, below = self.supported.get(root, ("", ""))
        version = getattr(sys.modules.get(root), "__version__", None)
        if not oldest or not isinstance(version, str) or _numbers(oldest) <= _numbers(version) < _numbers(below):
            return True
        if root not in _warned:
            _warned.add(root)
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


# The class needs no registration before OpenTelemetry's own is imported.
wrapt.register_post_import_hook(
    lambda module: module.BaseInstrumentor.register(FrameworkInstrumentor),
    "opentelemetry.instrumentation.instrumentor",
)

_warned: set[str] = set()


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

"""The one wrapper factory that all instrumentors share, and exact un-wrapping.

A third party's instrumentor needs only this module::

    from ecolyzer_otel.wrap import CallSpec, ModelFacts, Patches, leaf

    spec = CallSpec("myframework", "infer", describe=lambda model: ModelFacts(type(model).__name__))
    patches = Patches()
    patches.replace(Engine, "infer", leaf(Engine.infer, spec))
    ...
    patches.undo()
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import thread_time_ns
from types import CellType, FunctionType
from typing import Any, Final, TypeVar

from ecolyzer_otel.call import Call, Within, begin, current_call, finish, forget_model, get_ident, state, suspend

__all__ = [
    "CallSpec",
    "ModelFacts",
    "Patches",
    "batch_of",
    "changing",
    "leaf",
    "lending",
    "streamed",
    "training",
    "within",
]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is told of a model. ``parameters`` is None when it cannot be counted.

    ``framework`` overrides the instrumentor's, for a booster behind another framework's interface.
    """

    name: str
    parameters: int | None = None
    dtype: str | None = None
    device: str = "cpu"
    framework: str | None = None


def batch_of(value: Any) -> Any:
    """Batch size of one input: first dimension of an array, length of a list, else 1.

    Called on the request path: it touches attributes only and computes nothing. The result is made an integer
    off the path.
    """
    shape = getattr(value, "shape", None)
    if shape is not None:
        return shape[0] if len(shape) else 1
    if isinstance(value, (list, tuple)):
        return len(value)
    return 1


def _first_argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if args:
        value = args[0]  # as batch_of, without its call
        shape = getattr(value, "shape", None)
        if shape is not None:
            return shape[0] if len(shape) else 1
        return len(value) if isinstance(value, (list, tuple)) else 1
    for value in kwargs.values():
        return batch_of(value)
    return 1


@dataclass(frozen=True, slots=True)
class CallSpec:
    """What one patched method is.

    ``kernels`` gives, where a device tells, the busy intervals ``[start_ns, end_ns]`` (``time.monotonic_ns``) of
    the call's kernels by device (``cuda:0``, or the meter's name of it); None as long as they are not known. It
    runs on the background thread, may be asked again and again, also while the call is open, and must not wait for
    the device.
    ``describe`` gives the facts of a model; it runs on the background thread, once per model. ``items`` gives the
    batch size from the call's arguments; it runs on the request path and must be cheap.

    ``started(call, args, kwargs)`` and ``ended(call, result)`` run on the request path, just inside its clocks,
    where they may note something in ``call.events`` or ``call.note()``; the result is None when the call raised.
    What is put into ``call.note().completions`` runs on the background thread before a finished call is told of:
    there what was noted can be made numbers (``call.items``, ``call.note().tokens``). A failure of any of them
    costs nothing but what it would have told.

    A ``container`` has its span from the begin and makes it the current one, for what is called inside may have
    spans of its own. ``encloses`` is False where what is called inside may run in other threads in that context.
    """

    framework: str
    operation: str
    describe: Callable[[Any], ModelFacts]
    items: Callable[[tuple[Any, ...], dict[str, Any]], Any] = _first_argument
    kernels: Callable[[Call], Mapping[str, Sequence[Sequence[int]]] | None] | None = None
    started: Callable[[Call, tuple[Any, ...], dict[str, Any]], None] | None = None
    ended: Callable[[Call, Any], None] | None = None
    container: bool = False
    encloses: bool = True

    @property
    def plain(self) -> bool:
        """Whether all of a call runs in its own thread, with no spans inside: brief ones may share a clock."""
        return self.encloses and not self.container


def leaf(original: F, spec: CallSpec, bypass: Callable[[], bool] | None = None) -> F:
    """Wrap a method whose call is a request when no other request encloses it; also for containers.

    Results and exceptions pass through untouched. A plain function, not ``wrapt``: it costs a third less. A call in
    another thread to which the context of an open one was handed on is part of that one, its CPU time included.

    Args:
        original: the function found on the class; also a coroutine function.
        spec: what it is.
        bypass: asked before anything else; True calls ``original`` alone (a compiler is tracing).
    """
    from ecolyzer_otel.runtime import make_ready

    make_ready()
    current = current_call.get
    plain = spec.plain
    if inspect.iscoroutinefunction(original):
        return _async_leaf(original, spec)  # type: ignore[no-any-return]

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if bypass is not None and bypass():
            return original(self, *args, **kwargs)
        outer = current()
        if outer is not None and outer.open:
            thread = get_ident()
            if outer.thread == thread or outer.training or thread in outer.helpers:
                return original(self, *args, **kwargs)
            with lending(outer):  # asyncio.to_thread and the like take the context along
                return original(self, *args, **kwargs)
        call = begin(spec, self, args, kwargs, plain)
        if call is None:
            return original(self, *args, **kwargs)
        try:
            result = original(self, *args, **kwargs)
        except BaseException as error:
            finish(call, error)
            raise
        finish(call, None, result)
        return result

    return wrapper  # type: ignore[return-value]


def _async_leaf(original: Any, spec: CallSpec) -> Any:
    """The same for a coroutine function: from the first step of the coroutine to its last."""

    @functools.wraps(original)
    async def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        outer = current_call.get()
        call = None if outer is not None and outer.open else begin(spec, self, args, kwargs)
        if call is None:
            return await original(self, *args, **kwargs)
        call.encloses = False
        try:
            result = await original(self, *args, **kwargs)
        except BaseException as error:
            finish(call, error)
            raise
        finish(call, None, result)
        return result

    return wrapper


def streamed(original: F, spec: CallSpec) -> F:
    """Wrap a generator method: one request from its first step to its end, at work only within its steps."""

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return _stream(original(self, *args, **kwargs), spec, self, args, kwargs)

    return wrapper  # type: ignore[return-value]


def _stream(steps: Any, spec: CallSpec, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
    outer = current_call.get()  # of whoever takes the first step, not of who made the generator
    call = None if outer is not None and outer.open else begin(spec, model, args, kwargs)
    if call is None:
        yield from steps
        return
    suspend(call)
    error: BaseException | None = None
    try:
        while True:
            with lending(call):
                try:
                    step = next(steps)
                except StopIteration:
                    return
            yield step
    except GeneratorExit:
        with lending(call):
            steps.close()
        raise
    except BaseException as mine:
        error = mine
        raise
    finally:
        finish(call, error)


class _Training(Call):
    __slots__ = ()
    training = True


_TRAINING_SPEC: Final = CallSpec("custom", "training", describe=lambda model: ModelFacts("training"))


def training(original: F, after: Callable[[Any], None] | None = None) -> F:
    """Wrap a function inside which framework calls are training, not requests.

    Args:
        original: a method or a function.
        after: called with the first positional argument when ``original`` has returned or raised, within other
            training too.
    """

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        outer = current_call.get()
        guard = None
        if outer is None or not outer.open:
            guard = _Training(_TRAINING_SPEC, None, state())
            guard.encloses = True
            token = current_call.set(guard)
        try:
            return original(*args, **kwargs)
        finally:
            if guard is not None:
                guard.open = guard.encloses = False
                current_call.reset(token)
            if after is not None and args:
                after(args[0])

    return wrapper  # type: ignore[return-value]


def changing(original: F) -> F:
    """Wrap a method after which the model is another one: its facts are read anew."""

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        finally:
            forget_model(self)

    return wrapper  # type: ignore[return-value]


class lending:
    """``with lending(call):`` in a helper thread: what runs there belongs to ``call``, its CPU time included.

    What it spends after ``call`` has been reported is nobody's: process share.
    """

    __slots__ = ("_call", "_cpu", "_token", "_within")

    def __init__(self, call: Call) -> None:
        self._call = call.share()

    def __enter__(self) -> None:
        thread, helpers = get_ident(), self._call.helpers
        self._token = current_call.set(self._call)
        self._within = thread in helpers  # a call within one that is lent: its time is counted there
        helpers.add(thread)
        self._cpu = thread_time_ns()

    def __exit__(self, *exception: object) -> None:
        spent = thread_time_ns() - self._cpu
        current_call.reset(self._token)
        if not self._within:
            self._call.helpers.discard(get_ident())
            self._call.spend(spent)


class within:
    """``with within(call):`` in the thread that works for ``call``: all that is called inside passes at once.

    Where what is inside runs in one thread with its context, as the modules of a model do.
    """

    __slots__ = ("_token", "_within")

    def __init__(self, call: Call) -> None:
        self._within = Within(call.itself)

    def __enter__(self) -> None:
        self._token = current_call.set(self._within)

    def __exit__(self, *exception: object) -> None:
        self._within.open = self._within.encloses = False
        current_call.reset(self._token)


class Patches:
    """Attributes replaced on classes and modules, put back exactly as they were found.

    What was inherited is deleted again rather than copied down, and descriptors are restored as they stood in
    the owner's ``__dict__``. A wrapper that somebody else has wrapped since in a plain function is taken out of
    that function's closure; in anything else it is left in place, and then only passes through.
    """

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any, Any]] = []

    def replace(self, owner: Any, name: str, new: Any) -> None:
        """Set ``owner.name``; an owner that refuses raises TypeError or AttributeError."""
        old = vars(owner).get(name, _MISSING)
        setattr(owner, name, new)
        self._undo.append((owner, name, old, vars(owner).get(name)))

    def replace_copies(self, package: str, old: Any, new: Any) -> None:
        """Replace ``old`` in every imported module of ``package`` that holds it under its name."""
        name = old.__name__
        for key, module in list(sys.modules.items()):
            if key.partition(".")[0] == package and vars(module).get(name) is old:
                self.replace(module, name, new)

    def adopt(self, owner: Any, name: str, wrapper: Any) -> None:
        """``owner.name`` is a copy of our ``wrapper``, made by others: put its original there in the end."""
        self._undo.append((owner, name, wrapper.__wrapped__, wrapper))

    def undo(self) -> None:
        """Put everything back, last first."""
        while self._undo:
            owner, name, old, new = self._undo.pop()
            now = vars(owner).get(name)
            if now is not new:
                _take_out(now, new, old)
            elif old is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, old)


def _take_out(outer: Any, new: Any, old: Any) -> None:
    """Put ``old`` where ``outer``, a chain of wrappers made by :func:`functools.wraps`, holds ``new``."""
    while isinstance(outer, FunctionType) and hasattr(outer, "__wrapped__"):
        cells = [cell for cell in outer.__closure__ or () if _content(cell) is new]
        if cells and outer.__wrapped__ is new and old is not _MISSING:
            outer.__wrapped__ = old
            for cell in cells:
                cell.cell_contents = old
            return
        outer = outer.__wrapped__


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None


_MISSING: Final = object()

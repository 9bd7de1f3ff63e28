"""The wrappers that all instrumentors share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ecolyzer_otel.worker.call import Call, current_call
from ecolyzer_otel.worker.hot_path import begin, finish, suspend
from ecolyzer_otel.worker.nesting import INSIDE, enclosing_call, lending, placement_of
from ecolyzer_otel.worker.preload import preload
from ecolyzer_otel.worker.spec import CallSpec
from ecolyzer_otel.worker.state import forget_model

__all__ = ["Suspended", "changing", "leaf", "measured", "streamed"]

F = TypeVar("F", bound=Callable[..., Any])


def leaf(original: F, spec: CallSpec, bypass: Callable[[], bool] | None = None) -> F:
    """Wrap a method whose call is a request when no other request encloses it; also for containers.

    Results and exceptions pass through untouched. A plain function, not ``wrapt``: it costs a third less. A call in
    another thread to which the context of an open one was handed on is part of that one, its CPU time included.

    Args:
        original: the function found on the class; also a coroutine function.
        spec: the description of its calls.
        bypass: called before anything else; where it returns True, only ``original`` runs (a compiler is tracing).
    """
    preload()
    current = current_call.get
    plain = spec.plain
    if inspect.iscoroutinefunction(original):
        return _async_leaf(original, spec)  # type: ignore[no-any-return]

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if bypass is not None and bypass():
            return original(self, *args, **kwargs)
        # As nested() and measured(), without their frames: this is what each request of a small model waits for.
        outer = current()
        if outer is not None and outer.open:
            if placement_of(outer) is INSIDE:
                return original(self, *args, **kwargs)
            with lending(outer):
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


def measured(call: Call | None, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call ``function`` and finish ``call``.

    Args:
        call: as :func:`~ecolyzer_otel.worker.hot_path.begin` returned it; None only calls ``function``.
    """
    if call is None:
        return function(*args, **kwargs)
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        finish(call, error)
        raise
    finish(call, None, result)
    return result


def _async_leaf(original: Any, spec: CallSpec) -> Any:
    """The same for a coroutine function: from the first step of the coroutine to its last."""

    @functools.wraps(original)
    async def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        call = begin(spec, self, args, kwargs) if enclosing_call() is None else None
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


class Suspended:
    """A request that outlasts the function that began it: at work only within its steps, in whichever thread."""

    __slots__ = ("_open", "call")

    def __init__(self, call: Call) -> None:
        self.call = call
        self._open = [call]
        suspend(call)

    def step(self) -> lending:
        """Returns the context manager within which the request is at work."""
        return lending(self.call)

    def end(self, error: BaseException | None = None) -> None:
        """Finish the request. Only the first end counts, whichever thread it comes from."""
        try:
            call = self._open.pop()  # atomic
        except IndexError:
            return
        finish(call, error)


def streamed(original: F, spec: CallSpec) -> F:
    """Wrap a generator method: one request from its first step to its end, at work only within its steps."""

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return _stream(original(self, *args, **kwargs), spec, self, args, kwargs)

    return wrapper  # type: ignore[return-value]


def _stream(steps: Any, spec: CallSpec, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
    # Runs at the first step, in the context of its caller, which may be another one than that of the generator's.
    call = begin(spec, model, args, kwargs) if enclosing_call() is None else None
    if call is None:
        yield from steps
        return
    suspended = Suspended(call)
    error: BaseException | None = None
    try:
        while True:
            with suspended.step():
                try:
                    step = next(steps)
                except StopIteration:
                    return
            yield step
    except GeneratorExit:
        with suspended.step():
            steps.close()
        raise
    except BaseException as raised:
        error = raised
        raise
    finally:
        suspended.end(error)


def changing(original: F) -> F:
    """Wrap a method that changes its model: the facts are read again at the next request."""

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        finally:
            forget_model(self)

    return wrapper  # type: ignore[return-value]

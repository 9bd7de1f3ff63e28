"""The wrappers that all instrumentors share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ecolyzer_otel.worker.call import Call, current_call
from ecolyzer_otel.worker.hot_path import begin, finish, suspend
from ecolyzer_otel.worker.lending import INSIDE, lending, placement_of
from ecolyzer_otel.worker.ready import make_ready
from ecolyzer_otel.worker.spec import CallSpec
from ecolyzer_otel.worker.state import forget_model

__all__ = ["changing", "leaf", "measured", "streamed"]

F = TypeVar("F", bound=Callable[..., Any])


def leaf(original: F, spec: CallSpec, bypass: Callable[[], bool] | None = None) -> F:
    """Wrap a method whose call is a request when no other request encloses it; also for containers.

    Results and exceptions pass through untouched. A plain function, not ``wrapt``: it costs a third less. A call in
    another thread to which the context of an open one was handed on is part of that one, its CPU time included.

    Args:
        original: the function found on the class; also a coroutine function.
        spec: what it is.
        bypass: asked before anything else; True calls ``original`` alone (a compiler is tracing).
    """
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
            if placement_of(outer) is INSIDE:
                return original(self, *args, **kwargs)
            with lending(outer):  # asyncio.to_thread and the like take the context along
                return original(self, *args, **kwargs)
        # As measured(), without its frame: this is what each request of a small model waits for.
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


def measured(call: Call | None, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call ``function`` and finish ``call``, which :func:`~ecolyzer_otel.worker.hot_path.begin` opened."""
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


def changing(original: F) -> F:
    """Wrap a method after which the model is another one: its facts are read anew."""

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        finally:
            forget_model(self)

    return wrapper  # type: ignore[return-value]
